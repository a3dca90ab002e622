"""The nearest cells of a reference, by the cosine of CLS."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

EXACT = 20_000
"""A reference of at most so many cells is searched exactly, a larger one by NN-descent (pynndescent)."""
_BLOCK = 1_024


class Nearest(NamedTuple):
    """Neighbours of each cell, the nearest first.

    Attributes
    ----------
    rows : ndarray
        int64 [cells, k]: indices into the reference.
    distances : ndarray
        float32 [cells, k]: 1 - cosine, 0 to 2.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float32]


def nearest(
    query: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]], k: int, *, seed: int = 0, exact: int = EXACT
) -> Nearest:
    """Return the ``k`` nearest cells of the reference; of cells at the same distance, the first in it.

    Parameters
    ----------
    query, reference
        CLS [cells, width].
    k
        At most the number of cells of the reference.
    seed
        Seed of the approximate search.
    exact
        Largest reference that is searched exactly.
    """
    x, y = _unit(query), _unit(reference)
    if len(y) <= exact:
        parts = [_exact(x[start : start + _BLOCK], y, k) for start in range(0, len(x), _BLOCK)]
        return Nearest(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    from pynndescent import NNDescent

    index = NNDescent(y, metric="cosine", n_neighbors=max(k, 30), random_state=seed)
    index.prepare()
    rows, distances = index.query(x, k=k)
    return Nearest(rows.astype(np.int64), distances.astype(np.float32))


def _exact(x: NDArray[np.float32], y: NDArray[np.float32], k: int) -> Nearest:
    distance = np.clip(1.0 - x @ y.T, 0.0, 2.0)
    rows = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return Nearest(rows.astype(np.int64), np.take_along_axis(distance, rows, axis=1).astype(np.float32))


def _unit(x: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12), np.float32)
