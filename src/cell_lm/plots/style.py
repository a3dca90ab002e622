"""Colours, type and number formats that every figure shares."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from jinja2 import Environment

INK, MUTED, GRID, PAPER = "#1d2733", "#5c6875", "#dde3e9", "#fefefe"
ACCENT, SECOND, GREY = "#0072b2", "#d55e00", "#98a2ad"

CATEGORIES = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#980058", "#9068f8", "#785000", "#4830c0"),
    *("#90c890", "#886078", "#703888", "#c82848", "#f85068", "#6888d8", "#d8a8c0", "#b038a0", "#5860d8", "#50c858"),
)
"""Twenty colours, the most different first (six of Okabe & Ito's, then the farthest in OKLab under normal sight and the
deuteranopia and protanopia of Machado et al. 2009), none too pale for white paper or too dark for a black one."""

FONT = "DejaVu Sans"
"""Comes with matplotlib, so that a figure is the same everywhere; a page replaces it by its own."""

MISSING = "not given"
STATES = {"tumour": SECOND, "normal": ACCENT, "unknown": GREY}
GENE_STATUS = {
    "matched": "#0072b2",
    "renamed": "#56b4e9",
    "merged": "#009e73",
    "ambiguous": "#e69f00",
    "non-coding": "#c3cad1",
    "unknown": "#8b95a0",
}

_STYLE: dict[Any, Any] = {
    "font.family": [FONT],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "cell-lm",
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in the style of the report; the user's matplotlib settings are restored afterwards.

    Labels are never read as TeX, so that a donor called ``$1$`` keeps its name.
    """
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key under which ``donor2`` comes before ``donor10``."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.casefold()) for part in parts]


def by_size(values: Iterable[str]) -> dict[str, int]:
    """Count the categories, the largest first, those of equal size by name, and :data:`MISSING` last."""
    counts = Counter(values)
    order = sorted(counts, key=lambda name: (name == MISSING, -counts[name], natural_order(name)))
    return {name: counts[name] for name in order}


def category_colours(values: Iterable[str], known: Mapping[str, str] | None = None, *, skip: int = 0) -> dict[str, str]:
    """Give each category a colour, the largest first; past twenty categories the smallest ones share a grey.

    Parameters
    ----------
    values
        The category of every cell.
    known
        Colours of an earlier figure: a category that has one keeps it, if at least half of the categories here do.
    skip
        How many of the first colours to pass over, so that unrelated categories do not look the same in two figures.

    Returns
    -------
    dict[str, str]
        Hexadecimal colour by category, the largest category first.
    """
    names = list(by_size(values))
    plain = [name for name in names if name != MISSING]
    if set(plain) <= set(STATES):
        return {name: STATES.get(name, GREY) for name in names}
    shared = [name for name in plain if name in (known or {})]
    kept = {name: (known or {})[name] for name in shared} if 2 * len(shared) >= len(plain) else {}
    taken = set((known or {}).values()) if kept else set()
    free = iter([colour for colour in (*CATEGORIES[skip:], *CATEGORIES[:skip]) if colour not in taken])
    return {name: GREY if name == MISSING else kept.get(name) or next(free, GREY) for name in names}


@dataclass(frozen=True)
class Key:
    """An entry of a legend."""

    colour: str
    name: str
    cells: int


def legend(values: Iterable[str], colours: Mapping[str, str]) -> list[Key]:
    """Return the entries of a legend, the largest first; categories that share the grey share an entry."""
    sizes = by_size(values)
    keys = [Key(colours[name], name, size) for name, size in sizes.items()]
    own = {MISSING, *STATES}
    rest = [key for key in keys if key.colour == GREY and key.name not in own]
    if len(rest) < 2:
        return keys
    others = Key(GREY, f"{len(rest)} smaller ones", sum(key.cells for key in rest))
    named = [key for key in keys if key not in rest]
    return [*(key for key in named if key.name != MISSING), others, *(key for key in named if key.name == MISSING)]


def short(text: str, longest: int = 28) -> str:
    """Shorten a long name by cutting out its middle."""
    if len(text) <= longest:
        return text
    head = (longest - 1) * 2 // 3
    return f"{text[:head].rstrip()}…{text[len(text) - (longest - 1 - head) :].lstrip()}"


def compact(value: float) -> str:
    """Write a number with three significant digits and k, M or G, as ``12.3k``; small ones as ``2.5e−4``."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit * 0.9995:
            return f"{value / limit:.3g}{unit}"
    if 0 < abs(value) < 0.01:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−")


def as_categories(values: Iterable[object]) -> NDArray[np.str_]:
    """Return one category per cell as text; missing ones (None, NaN) are :data:`MISSING`."""
    series = pd.Series(np.asarray(values, dtype=object))
    return np.asarray(series.map(str, na_action="ignore").fillna(MISSING), dtype=str)


def page_templates(package: str) -> Environment:
    """Return the templates of a package that writes a page; what they insert is escaped, and must be there."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package, "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page_theme() -> str:
    """Return the CSS variables that all pages share: colours in light and dark, and type."""
    return files("cell_lm.plots").joinpath("theme.css").read_text(encoding="utf-8")
