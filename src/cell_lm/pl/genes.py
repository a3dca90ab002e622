"""Plots of gene vectors: the nearest genes of a gene, and a map of gene sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from cell_lm.errors import InputError
from cell_lm.genes.alignment import principal_components
from cell_lm.genes.vectors import GeneVectors
from cell_lm.pl.canvas import panel
from cell_lm.plots import figures, gene_figures
from cell_lm.plots.projection import FEWEST_CELLS, project
from cell_lm.plots.style import category_colours

COMPONENTS = 50
"""Principal components that the map is made from."""
_FEWEST = 3
_OTHERS = "genes"


def gene_neighbours(
    gene: str,
    k: int = 10,
    *,
    vectors: GeneVectors | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the genes whose vectors are nearest to that of a gene, ranked by cosine.

    Parameters
    ----------
    gene
        Symbol, alias, previous symbol or Ensembl id.
    k
        Number of genes to draw.
    vectors
        Default: the vectors packaged with cell-lm.
    ax, show, save
        As in the whole module.

    Raises
    ------
    GeneError, InputError, ModelError
        As :func:`cell_lm.genes.similar`.
    """
    vectors = GeneVectors.packaged() if vectors is None else vectors
    table, symbol = vectors.similar(gene, k), vectors.vocabulary.symbols[vectors.position(gene)]
    with panel(ax, 4.6, 0.8 + 0.24 * len(table), show=show, save=save) as axes:
        gene_figures.draw_neighbours(axes, table["gene"].tolist(), table["cosine"].to_numpy())
        axes.set_title(f"nearest to {symbol}").set_parse_math(False)
    return axes


def gene_map(
    genes: Mapping[str, Sequence[str]] | Sequence[str] | None = None,
    *,
    vectors: GeneVectors | None = None,
    background: bool = False,
    names: bool = True,
    seed: int = 0,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw a map of gene vectors, coloured by gene set.

    The map is made of the first 50 principal components by cosine: t-SNE of at most 1,000 genes, UMAP of more; for
    fewer than ten genes, the first two components.

    Parameters
    ----------
    genes
        Sets of genes by name, as ``{"T cells": ["CD3D", "CD2"], "B cells": ["CD19", "MS4A1"]}``, or one list of genes;
        any name of a gene is accepted. A gene in several sets has the colour of the first one. Genes without a vector
        are left out and counted in the title. Default: all genes that have one.
    vectors
        Default: the vectors packaged with cell-lm.
    background
        Compute the map from all genes that have a vector, and draw the others pale. This takes about a minute.
    names
        Write the symbols of the given genes, where they do not overlap.
    seed
        Seed of the map.
    ax, show, save
        As in the whole module.

    Raises
    ------
    GeneError
        A name matches no gene, or several; the error suggests close symbols.
    InputError
        Fewer than three genes have a vector.
    ModelError
        No vectors were given, and none are packaged with this cell-lm.
    """
    vectors = GeneVectors.packaged() if vectors is None else vectors
    rows, sets, left_out = _members(genes, vectors)
    everything = np.flatnonzero(vectors.known) if background or genes is None else rows
    coordinates, kind = _coordinates(vectors.directions[everything], seed)
    place = np.searchsorted(np.sort(everything), rows)
    given = coordinates[np.argsort(everything)][place]
    width, height = figures.map_size(coordinates, 4.8)
    with panel(ax, width + 1.7, height + 0.3, show=show, save=save) as axes:
        if len(everything) > len(rows):
            gene_figures.draw_background(axes, coordinates)
        figures.draw_map(axes, given, sets, category_colours(sets), name=kind, legend=isinstance(genes, Mapping))
        if names and genes is not None:
            gene_figures.draw_gene_names(axes, given, [vectors.vocabulary.symbols[row] for row in rows])
        if left_out:
            axes.set_title(f"left out, without a vector: {left_out:,}")
    return axes


def _members(
    genes: Mapping[str, Sequence[str]] | Sequence[str] | None, vectors: GeneVectors
) -> tuple[NDArray[np.int64], list[str], int]:
    """Return the rows of the genes that have a vector, the first set of each, and how many have none."""
    if genes is None:
        rows = np.flatnonzero(vectors.known)
        return rows, [_OTHERS] * len(rows), 0
    if isinstance(genes, str):
        raise InputError(f"'{genes}' is one gene", where="pl.gene_map", fix="Pass a list of genes, or sets by name")
    sets = genes if isinstance(genes, Mapping) else {_OTHERS: genes}
    found: dict[int, str] = {}
    for name, members in sets.items():
        for gene in members:
            found.setdefault(vectors.find(gene), str(name))
    rows = np.array([row for row in found if vectors.known[row]], np.int64)
    if len(rows) < _FEWEST:
        fix = f"Pass at least {_FEWEST} genes that have one"
        raise InputError(f"{len(rows)} of {len(found)} genes have a vector", where="pl.gene_map", fix=fix)
    return rows, [found[int(row)] for row in rows], len(found) - len(rows)


def _coordinates(directions: NDArray[np.float32], seed: int) -> tuple[NDArray[np.floating], str]:
    """Return the map coordinates of each vector, [n, 2], and the name of their axes."""
    if len(directions) < FEWEST_CELLS:
        return principal_components(directions, 2), "PC"
    return project(principal_components(directions, min(COMPONENTS, directions.shape[1])), seed)
