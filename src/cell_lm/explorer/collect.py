"""Take what an explorer shows from an AnnData."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cell_lm.data.obs.columns import find_column
from cell_lm.data.read_options import ReadOptions
from cell_lm.errors import GeneError, InputError
from cell_lm.explorer.columns import read_columns
from cell_lm.explorer.content import Category, Column, Explorer, Gene, Number, quantise
from cell_lm.explorer.expression import MOST_GENES, TOTAL, Expression
from cell_lm.plots.cell_map import CellMap, embedding_of, known_map, map_of
from cell_lm.plots.projection import project
from cell_lm.remedies import option

if TYPE_CHECKING:
    from anndata import AnnData

MOST_CELLS = 100_000
BASES = ("X_cell_lm", "X_umap", "X_tsne", "X_pca")
"""Keys of ``obsm`` to draw, the first that is there."""
LABEL, CONFIDENCE = "cell_lm_label", "cell_lm_confidence"
_LIKELY_LABEL = re.compile(r"cell[_. ]?type|label|annotation|leiden|louvain|cluster", re.IGNORECASE)


def collect(
    adata: AnnData,
    *,
    color: str | None = None,
    genes: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    opacity: str | None = None,
    basis: str | None = None,
    max_cells: int = MOST_CELLS,
    read: ReadOptions | None = None,
    seed: int = 0,
    title: str = "cells",
    where: str = "adata",
) -> Explorer:
    """Collect map, columns and genes; the arguments are those of :func:`cell_lm.pl.explorer`.

    Parameters
    ----------
    read
        Matrix, scale and names of genes.
    title
        Name of the page.
    where
        The input, for messages.

    Raises
    ------
    InputError, CountsError, GeneError
        As there.
    """
    if not adata.n_obs:
        raise InputError("it holds no cells", where=where, fix="Check the filtering that came before")
    if max_cells < 1:
        raise InputError(f"max_cells is {max_cells}", where=where, fix="Draw at least one cell")
    rows = _draw(adata.n_obs, max_cells, seed)
    basis = _basis(adata, basis, where)
    named = None if columns is None else [*columns, *(name for name in (opacity,) if name and name not in columns)]
    if named is not None and color in adata.obs.columns and color not in named:
        named.append(str(color))
    found = read_columns(adata, rows, named, where=where)
    by_name = {column.name: column for column in found.shown}
    sure = _opacity(adata, by_name, opacity, where)
    gene = None if color is None or color in adata.obs.columns else color
    expression = _expression(adata, rows, genes, read or ReadOptions(), gene, where)
    _gene_to_colour_by(expression, adata, color, where)
    shown, about = _genes(expression, genes, gene, by_name.get(_label(by_name, color) or ""), seed)
    first = _color(adata, color, by_name, shown, where)
    coordinates, method = _map(adata, basis, rows, seed, where)
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    levels = [quantise(coordinates[:, axis], float(low[axis]), float(high[axis])) for axis in (0, 1)]
    return Explorer(
        title=title,
        barcodes=tuple(str(name) for name in adata.obs_names[rows]),
        total=adata.n_obs,
        coordinates=np.stack(levels, axis=1).astype(np.uint16),
        spans=(float(high[0] - low[0]), float(high[1] - low[1])),
        method=method,
        basis=basis,
        columns=found.shown,
        genes=shown,
        color=first,
        label=_label(by_name, first),
        opacity=sure,
        seed=seed,
        about_genes=about,
        notes=tuple(f"column {one}" for one in found.left_out),
    )


def has_map(adata: AnnData, basis: str | None = None, seed: int = 0, *, where: str = "adata") -> bool:
    """Return whether ``obsm`` holds a map, so that none has to be computed; raise as :func:`collect`."""
    return known_map(adata, _basis(adata, basis, where), seed) is not None


def _draw(cells: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return the cells to draw: all, or ``most`` at random, in their order."""
    if cells <= most:
        return np.arange(cells)
    return np.sort(np.random.default_rng(seed).choice(cells, most, replace=False))


def _basis(adata: AnnData, basis: str | None, where: str) -> str:
    there = [str(key) for key in adata.obsm]
    chosen = basis or next((key for key in BASES if key in there), None)
    if chosen in there:
        return str(chosen)
    found = f"obsm has no '{basis}'" if basis else f"obsm has no embedding ({', '.join(BASES)})"
    fix = f"Name another {option('basis')}" if basis and there else "Run cell-lm embed on it first"
    raise InputError(f"{found}; it has: {', '.join(there) or 'nothing'}", where=where, fix=fix)


def _map(adata: AnnData, basis: str, rows: NDArray[np.int64], seed: int, where: str) -> CellMap:
    """Return the map of the cells that are drawn; one of all cells is kept in ``obsm``."""
    if len(rows) == adata.n_obs:
        drawn = map_of(adata, basis, seed)
    else:
        known = known_map(adata, basis, seed)
        found = None if known else project(embedding_of(adata, basis)[rows], seed)
        drawn = CellMap(known.coordinates[rows], known.method) if known else CellMap(*found)  # type: ignore[misc]
    bad = int((~np.isfinite(drawn.coordinates).all(axis=1)).sum())
    if bad:
        found_bad = f"{bad:,} of {len(rows):,} cells have NaN or infinite coordinates"
        raise InputError(found_bad, where=f"{where}, obsm['{basis}']", fix="Leave them out, or name another basis")
    return drawn


def _opacity(adata: AnnData, columns: dict[str, Column], wanted: str | None, where: str) -> str | None:
    name = wanted or CONFIDENCE
    column = columns.get(name)
    if isinstance(column, Number) and column.is_fraction:
        return name
    if wanted is None:
        return None
    find_column(adata.obs, wanted, axis="obs", where=where)
    fix = "Name a column of numbers from 0 to 1, such as cell_lm_confidence"
    raise InputError(f"obs column '{wanted}' cannot be an opacity", where=where, fix=fix)


def _expression(
    adata: AnnData,
    rows: NDArray[np.int64],
    genes: Sequence[str] | None,
    read: ReadOptions,
    gene: str | None,
    where: str,
) -> Expression | None:
    """Read the matrix; None where no genes are wanted, or none are named and there is no matrix."""
    if genes is not None and len(genes) > MOST_GENES:
        found = f"{len(genes)} genes were named, and a page holds at most {MOST_GENES}"
        raise InputError(found, where=where, fix="Name fewer")
    empty = read.layer is None and (adata.X is None or adata.n_vars == 0)
    if gene is not None and empty:
        find_column(adata.obs, gene, axis="obs", where=where)
    if gene is None and (not genes if genes is not None else empty):
        return None
    return Expression(adata, rows, read, where=where)


def _genes(
    expression: Expression | None, wanted: Sequence[str] | None, gene: str | None, label: Column | None, seed: int
) -> tuple[tuple[Gene, ...], str]:
    """Return the genes, and which they are in words."""
    if expression is None:
        return (), ""
    named = [*([gene] if gene else []), *(wanted or ())]
    asked = {expression.find(name): name.strip() for name in named}
    about = "that were named"
    if wanted is None:
        if isinstance(label, Category) and len(label.names) > 1:
            chosen, about = expression.markers(label.codes, seed), f"that are most specific to a label of {label.name}"
        else:
            chosen, about = expression.variable(seed), "whose expression varies most"
        asked = {**asked, **{symbol: "" for symbol in chosen if symbol not in asked}}
    shown = expression.genes(dict([*asked.items()][:MOST_GENES]))
    return shown, f"{len(shown)} genes {about}, in ln(1 + counts per {TOTAL:,})"


def _gene_to_colour_by(expression: Expression | None, adata: AnnData, color: str | None, where: str) -> None:
    """Raise :class:`InputError` where the colour is neither a column nor a gene."""
    if expression is None or color is None or color in adata.obs.columns:
        return
    try:
        expression.find(color)
    except GeneError:
        try:
            find_column(adata.obs, color, axis="obs", where=where)
        except InputError as error:
            found = f"obs has no column '{color}', and no gene is called so"
            raise InputError(found, where=where, fix=error.fix) from None


def _label(columns: dict[str, Column], color: str | None) -> str | None:
    """Return the column of labels: the colour if it is one, or the likeliest."""
    labels = [name for name, column in columns.items() if isinstance(column, Category)]
    if color in labels:
        return color
    if LABEL in labels:
        return LABEL
    return next((name for name in labels if _LIKELY_LABEL.search(name)), labels[0] if labels else None)


def _color(
    adata: AnnData, wanted: str | None, columns: dict[str, Column], genes: Sequence[Gene], where: str
) -> str | None:
    """Return what colours the map at first."""
    if wanted is None:
        return _label(columns, None) or next(iter(columns), None) or next((gene.name for gene in genes), None)
    if wanted in columns:
        return wanted
    gene = next((one.name for one in genes if wanted.strip() in (one.name, *one.also)), None)
    if gene is None:
        find_column(adata.obs, wanted, axis="obs", where=where)
        found = f"obs column '{wanted}' cannot colour the map: it has no values, or too many different labels"
        raise InputError(found, where=where, fix="Name another one")
    return gene
