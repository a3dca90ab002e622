"""The map of an embedding: UMAP, reproducible for the same cells and seed."""

from __future__ import annotations

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
    from cell_lm.plots.umap_layout import layout  # numba takes a second, and most of what uses this module draws no map

    unit = matrix / np.maximum(norms, np.finfo(np.float32).tiny)
    return layout(unit, min(NEIGHBOURS, len(unit) - 1), seed)
