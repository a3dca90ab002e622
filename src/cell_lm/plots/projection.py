"""The map of an embedding: UMAP by scanpy, for few cells t-SNE by scikit-learn; repeatable by its seed."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cell_lm.errors import InputError

NEIGHBOURS, PERPLEXITY = 15, 30
FEWEST_CELLS = 10
FEW_CELLS = 1_000
"""Most cells that t-SNE lays out: it starts at once, while UMAP's libraries take half a minute to compile."""

Method = Literal["UMAP", "t-SNE"]


class Projection(NamedTuple):
    """A map.

    Attributes
    ----------
    coordinates : ndarray
        float32 [cells, 2].
    method : {"UMAP", "t-SNE"}
        How it was made; the name of its axes.
    """

    coordinates: NDArray[np.float32]
    method: Method


def method_for(cells: int) -> Method:
    """Return the method for a number of cells: t-SNE for at most 1,000, else UMAP."""
    return "t-SNE" if cells <= FEW_CELLS else "UMAP"


def project(embedding: ArrayLike, seed: int = 0, *, method: Method | None = None) -> Projection:
    """Return a map of cells: t-SNE of at most 1,000 cells, UMAP of more, both by cosine.

    Neighbours are exact: the 15 nearest for UMAP, and a perplexity of 30 (a third of the cells if those are few) for
    t-SNE, which starts at the first two principal components. Both keep neighbourhoods; distances and areas on the map
    mean little.

    Parameters
    ----------
    embedding
        Numbers [cells, dimensions], at least 10 cells and 2 dimensions.
    seed
        Seed of the layout.
    method
        Default: by the number of cells.

    Raises
    ------
    InputError
        Another shape, fewer than 10 cells, or NaN or infinite values.
    """
    matrix = np.asarray(embedding, dtype=np.float32)
    if matrix.ndim != 2 or len(matrix) < FEWEST_CELLS or matrix.shape[1] < 2:
        found = f"an embedding of shape {matrix.shape} has no map"
        raise InputError(found, where="map", fix=f"Pass [cells, dimensions] with at least {FEWEST_CELLS} cells")
    bad = int((~np.isfinite(matrix).all(axis=1)).sum())
    if bad:
        found = f"{bad} of {len(matrix)} cells have NaN or infinite values"
        raise InputError(found, where="map", fix="Leave them out")
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit, chosen = matrix / np.maximum(norms, np.finfo(np.float32).tiny), method or method_for(len(matrix))
    return Projection(_tsne(unit, seed) if chosen == "t-SNE" else _umap(unit, seed), chosen)


def _tsne(unit: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Lay out vectors of length one: the order of their Euclidean distances is that of the cosines."""
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(unit) - 1) / 3)
    layout = TSNE(perplexity=perplexity, init=_start(unit, seed), random_state=seed).fit_transform(unit)
    return np.asarray(layout, dtype=np.float32)


def _start(unit: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return the first two principal components, small, plus a little noise, so that no two cells are in one place.

    scikit-learn's own start, ``init="pca"``, is NaN for cells that are all equal, and crashes the process.
    """
    centred = unit - unit.mean(axis=0)
    left, strength, _ = np.linalg.svd(centred, full_matrices=False)
    components = left[:, :2] * strength[:2]
    spread = max(float(components[:, 0].std()), 1e-6)
    noise = np.random.default_rng(seed).normal(0.0, 1e-7, components.shape)
    return np.asarray(1e-4 * components / spread + noise, dtype=np.float32)


def _umap(unit: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    # Imported here: scanpy and umap-learn take seconds, and most of what uses this module draws no map.
    import anndata
    import scanpy

    cells = anndata.AnnData(shape=(len(unit), 0), obsm={"embedding": unit})
    neighbours = min(NEIGHBOURS, len(unit) - 1)
    with warnings.catch_warnings(), _threads_as_they_are():
        warnings.simplefilter("ignore")
        # "sklearn" is exact; the approximate search, scanpy's default for many cells, fails with pynndescent 0.7.
        scanpy.pp.neighbors(cells, neighbours, use_rep="embedding", transformer="sklearn", random_state=seed)
        scanpy.tl.umap(cells, random_state=seed)
    return np.asarray(cells.obsm["X_umap"], dtype=np.float32)


@contextmanager
def _threads_as_they_are() -> Iterator[None]:
    """Give torch back its number of threads: numba sets that of the OpenMP library, which torch and scikit-learn share.

    Sums of another number of threads have other last bits, and threads that share a core wait for each other busily.
    """
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 0
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(threads)
