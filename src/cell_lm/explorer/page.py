"""The explorer as one self-contained HTML page: data in JSON, arrays compressed, and the scripts that draw them.

No name of the data becomes markup: all of it is JSON in which ``<``, ``>`` and ``&`` are escaped, and the scripts write
text only. A content security policy forbids every request.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from cell_lm._version import __version__
from cell_lm.explorer.content import LEVELS, NO_VALUE, Category, Column, Explorer, Gene
from cell_lm.files import JSON, atomic_file
from cell_lm.plots.style import MISSING, page_templates, page_theme

_SCRIPTS = ("data.js", "statistics.js", "map.js", "panels.js", "main.js")
_COMPRESSION = 6


def write_explorer(explorer: Explorer, path: Path, *, replace: bool = True) -> None:
    """Write the page: one HTML file, whole or not at all.

    Parameters
    ----------
    explorer
        Its content.
    path
        Where.
    replace
        Whether to replace an existing file.
    """
    page = render(explorer)
    with atomic_file(path, replace=replace) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render(explorer: Explorer) -> str:
    """Return the page as text."""
    return (
        page_templates("cell_lm.explorer")
        .get_template("page.html")
        .render(
            title=_printable(explorer.title),
            css=Markup(page_theme() + _template("explorer.css")),
            library=Markup(_library("regl_scatterplot.min.js")),
            licences=_library("LICENSES.txt"),
            scripts=[Markup(_template(name)) for name in _SCRIPTS],
            data=Markup(_as_script(payload(explorer))),
        )
    )


def payload(explorer: Explorer) -> dict[str, JSON]:
    """Return the data of the page; see ``docs/explorer.md`` for its format."""
    return {
        "version": __version__,
        "title": explorer.title,
        "cells": len(explorer.barcodes),
        "total": explorer.total,
        "seed": explorer.seed,
        "method": explorer.method,
        "basis": explorer.basis,
        "levels": LEVELS,
        "noValue": NO_VALUE,
        "missing": MISSING,
        "spans": list(explorer.spans),
        "coordinates": _array(explorer.coordinates),
        "barcodes": _packed(json.dumps(explorer.barcodes).encode("ascii")),
        "columns": [_column(column) for column in explorer.columns],
        "genes": [_gene(gene) for gene in explorer.genes],
        "color": explorer.color,
        "label": explorer.label,
        "opacity": explorer.opacity,
        "aboutGenes": explorer.about_genes,
        "notes": list(explorer.notes),
    }


def _column(column: Column) -> JSON:
    if isinstance(column, Category):
        labels: dict[str, JSON] = {"names": list(column.names), "colours": list(column.colours)}
        return {"name": column.name, "kind": "label", "data": _array(column.codes), **labels}
    numbers: dict[str, JSON] = {"low": column.low, "high": column.high, "fraction": column.is_fraction}
    return {"name": column.name, "kind": "number", "data": _array(column.levels), **numbers}


def _gene(gene: Gene) -> JSON:
    return {"name": gene.name, "also": list(gene.also), "high": gene.high, "data": _array(gene.levels)}


def _array(values: NDArray[Any]) -> str:
    """Return an array in little-endian order, compressed."""
    return _packed(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes())


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, _COMPRESSION, mtime=0)).decode("ascii")


def _as_script(values: Mapping[str, JSON]) -> str:
    """Return JSON that can stand in a script element: no text of it can end the element."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _printable(text: str) -> str:
    """Replace what UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _template(name: str) -> str:
    return files("cell_lm.explorer").joinpath("template", name).read_text(encoding="utf-8")


def _library(name: str) -> str:
    return files("cell_lm").joinpath("resources", "regl_scatterplot", name).read_text(encoding="utf-8")
