"""Columns of ``obs`` for the explorer: labels with colours, and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.colors import is_color_like, to_hex
from numpy.typing import NDArray

from cell_lm.data.obs.columns import as_text, find_column
from cell_lm.errors import InputError
from cell_lm.explorer.content import NO_VALUE, Category, Column, Number, quantise
from cell_lm.plots.cell_map import scanpy_colours
from cell_lm.plots.style import MISSING, category_colours, natural_order

if TYPE_CHECKING:
    from anndata import AnnData

MOST_COLUMNS = 60
"""Most columns that are taken without being named."""
MOST_LABELS = 1_000
"""Most different labels of a column."""
FEW_INTEGERS = 20
"""Most different whole numbers that are labels, such as the numbers of clusters."""


class Columns(NamedTuple):
    """The columns that can be shown, and the others with the reason."""

    shown: tuple[Column, ...]
    left_out: tuple[str, ...]


def read_columns(adata: AnnData, rows: NDArray[np.int64], wanted: Sequence[str] | None, *, where: str) -> Columns:
    """Read columns of ``obs``.

    Parameters
    ----------
    adata
        The cells.
    rows
        Those that are drawn.
    wanted
        Names of the columns. None: all that can be shown, at most :data:`MOST_COLUMNS`.
    where
        The input, for messages.

    Raises
    ------
    InputError
        A named column is not there, or cannot be shown.
    """
    names = [str(name) for name in adata.obs.columns]
    unique = [name for name in names if names.count(name) == 1]
    shown, left_out = list[Column](), list[str]()
    for name in dict.fromkeys(unique if wanted is None else wanted):
        if wanted is None and len(shown) == MOST_COLUMNS:
            left_out.append(f"all after the first {MOST_COLUMNS} columns")
            break
        column = find_column(adata.obs, name, axis="obs", where=where).iloc[rows]
        found = _read(column, name, scanpy_colours(adata, column))
        if isinstance(found, str):
            if wanted is not None:
                raise InputError(f"obs column '{name}' has {found}", where=where, fix="Name other columns")
            left_out.append(f"{name} ({found})")
        else:
            shown.append(found)
    return Columns(tuple(shown), tuple(left_out))


def _read(values: pd.Series[Any], name: str, palette: Mapping[str, str] | None) -> Column | str:
    """Return the column, or why it cannot be shown."""
    if values.isna().all():
        return "no values"
    plain = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if plain and not _numbers_clusters(values):
        return _numbers(values, name)
    return _labels(values, name, palette)


def _numbers_clusters(values: pd.Series[Any]) -> bool:
    there = values.dropna()
    return pd.api.types.is_integer_dtype(values) and there.nunique() <= FEW_INTEGERS


def _numbers(values: pd.Series[Any], name: str) -> Number | str:
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    finite = np.isfinite(numbers)
    if not finite.any():
        return "no finite values"
    low, high = float(numbers[finite].min()), float(numbers[finite].max())
    levels = np.full(len(numbers), NO_VALUE, np.uint16)
    levels[finite] = quantise(numbers[finite], low, high)
    return Number(name, low, high, levels)


def _labels(values: pd.Series[Any], name: str, palette: Mapping[str, str] | None) -> Category | str:
    different = values.nunique()
    if different > min(MOST_LABELS, max(50, len(values) // 2)):
        return f"{different:,} different labels"
    texts = values.map(as_text, na_action="ignore").astype(object).fillna(MISSING).astype(str)
    sizes = texts.value_counts()
    order = sorted(sizes.index, key=lambda label: (label == MISSING, -sizes[label], natural_order(label)))
    colours = category_colours(texts.tolist())
    own = {label: to_hex(colour) for label, colour in (palette or {}).items() if is_color_like(colour)}
    codes = pd.Categorical(texts, categories=order).codes.astype(np.uint16)
    return Category(name, tuple(order), tuple(own.get(label, colours[label]) for label in order), codes)
