"""The map of the cells of an AnnData, kept in ``obsm``, and the colours that scanpy gave their categories."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.errors import InputError
from cell_lm.plots.projection import Projection, project

if TYPE_CHECKING:
    from anndata import AnnData

_AXES = {"umap": "UMAP", "tsne": "t-SNE", "pca": "PC"}
"""Name of the axes of a map by the end of its key in ``obsm``."""


class CellMap(NamedTuple):
    """Map coordinates [cells, 2], and the name of their axes."""

    coordinates: NDArray[np.floating]
    method: str


def map_of(adata: AnnData, basis: str, seed: int) -> CellMap:
    """Return the map of an embedding, from ``obsm`` where it is up to date; else compute it and keep it there.

    Raises
    ------
    InputError
        As :func:`embedding_of` and :func:`cell_lm.plots.projection.project`.
    """
    known = known_map(adata, basis, seed)
    if known is not None:
        return known
    matrix = embedding_of(adata, basis)
    found: Projection = project(matrix, seed)
    key = f"{basis}_{'umap' if found.method == 'UMAP' else 'tsne'}"
    adata.obsm[key], adata.uns[key] = found.coordinates, _made(matrix, seed)
    return CellMap(found.coordinates, found.method)


def known_map(adata: AnnData, basis: str, seed: int) -> CellMap | None:
    """Return a map that ``obsm`` holds: the embedding if it has two dimensions, or a map of it that is up to date."""
    matrix = embedding_of(adata, basis)
    if matrix.shape[1] == 2:
        return CellMap(matrix, _axes_of(basis))
    made = _made(matrix, seed)
    for key in (f"{basis}_umap", f"{basis}_tsne"):
        known = adata.uns.get(key)
        if key in adata.obsm and (dict(known) == made if known is not None else key.endswith("_umap")):
            return CellMap(np.asarray(adata.obsm[key]), _axes_of(key))
    return None


def embedding_of(adata: AnnData, basis: str) -> NDArray[np.floating]:
    """Return ``obsm[basis]``.

    Raises
    ------
    InputError
        There is none, or it has fewer than two dimensions.
    """
    if basis not in adata.obsm:
        run = "Run cell_lm.tl.embed(adata, model) first" if basis == "X_cell_lm" else f"There is {list(adata.obsm)}"
        raise InputError(f"no embedding '{basis}'", where="adata.obsm", fix=run)
    matrix = np.asarray(adata.obsm[basis])
    if matrix.ndim != 2 or matrix.shape[1] < 2:
        found = f"an embedding of shape {matrix.shape}"
        raise InputError(found, where=f"adata.obsm['{basis}']", fix="Pass another basis")
    return matrix


def _made(matrix: NDArray[np.floating], seed: int) -> dict[str, object]:
    return {"sha256": hashlib.sha256(np.ascontiguousarray(matrix).tobytes()).hexdigest(), "seed": seed}


def _axes_of(key: str) -> str:
    """Return the name of the axes of a map with two dimensions."""
    return next((name for end, name in _AXES.items() if key.lower().endswith(end)), "map")


def scanpy_colours(adata: AnnData, values: pd.Series) -> dict[str, str] | None:
    """Return scanpy's colours of a categorical column, if there is one for each category."""
    colours = adata.uns.get(f"{values.name}_colors")
    if colours is None or not isinstance(values.dtype, pd.CategoricalDtype):
        return None
    names = values.cat.categories
    return {str(a): str(b) for a, b in zip(names, colours, strict=True)} if len(colours) == len(names) else None
