"""The map of an embedding: UMAP by scanpy, reproducible for the same cells and seed."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cell_lm.errors import InputError

NEIGHBOURS = 15
FEWEST_CELLS = 10


def umap_coordinates(embedding: ArrayLike, seed: int = 0) -> NDArray[np.float32]:
    """Return map coordinates of cells: the UMAP of their 15 nearest neighbours by cosine.

    The neighbours are exact, so only ``seed`` changes the result. UMAP keeps neighbourhoods; distances and areas on the
    map mean little.

    Parameters
    ----------
    embedding
        Numbers [cells, dimensions], at least 10 cells.
    seed
        Seed of the layout.

    Returns
    -------
    NDArray[np.float32]
        Coordinates [cells, 2].

    Raises
    ------
    InputError
        Another shape, fewer than 10 cells, or NaN or infinite values.
    """
    matrix = np.asarray(embedding, dtype=np.float32)
    if matrix.ndim != 2 or len(matrix) < FEWEST_CELLS:
        found = f"an embedding of shape {matrix.shape} has no map"
        raise InputError(found, where="UMAP", fix=f"Pass [cells, dimensions] with at least {FEWEST_CELLS} cells")
    bad = int((~np.isfinite(matrix).all(axis=1)).sum())
    if bad:
        found = f"{bad} of {len(matrix)} cells have NaN or infinite values"
        raise InputError(found, where="UMAP", fix="Leave them out")
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return _layout(matrix / np.maximum(norms, np.finfo(np.float32).tiny), seed)


def _layout(unit: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    # Imported here: scanpy and umap-learn take seconds, and most of what uses this module draws no map.
    import anndata
    import scanpy

    cells = anndata.AnnData(shape=(len(unit), 0), obsm={"embedding": unit})
    neighbours = min(NEIGHBOURS, len(unit) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # "sklearn" is exact; the approximate search, scanpy's default for many cells, fails with pynndescent 0.7.
        scanpy.pp.neighbors(cells, neighbours, use_rep="embedding", transformer="sklearn", random_state=seed)
        scanpy.tl.umap(cells, random_state=seed)
    return np.asarray(cells.obsm["X_umap"], dtype=np.float32)
