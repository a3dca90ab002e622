"""UMAP of a table with exact neighbours, after McInnes, Healy and Melville (2018), arXiv 1802.03426.

umap-learn computes the same, but compiles its search for approximate neighbours in every process first, which takes
half a minute. Here the neighbours are exact, and one loop is compiled, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_A, _B = 0.583030, 1.334167
"""The curve 1 / (1 + a d^2b) for ``min_dist`` 0.5 and ``spread`` 1, the defaults of scanpy."""
_NEGATIVES = 5
"""Random cells that repel a cell, for each neighbour that attracts it (negative samples)."""
_MANY = 10_000
"""From this number of cells on, 200 epochs are run instead of 500."""

Function = TypeVar("Function", bound=Callable[..., object])


def _compiled(function: Function) -> Function:
    return cast("Function", numba.njit(cache=True, nogil=True)(function))


def layout(table: NDArray[np.float32], neighbours: int, seed: int) -> NDArray[np.float32]:
    """Return map coordinates of the rows.

    Parameters
    ----------
    table
        float32 [rows, dimensions].
    neighbours
        Number of nearest rows of each row, itself included.
    seed
        Seed of all random numbers.

    Returns
    -------
    ndarray
        float32 [rows, 2].
    """
    generator = np.random.default_rng(seed)
    graph = fuzzy_neighbours(table, neighbours)
    rounds = 500 if len(table) <= _MANY else 200
    graph.data[graph.data < graph.data.max() / rounds] = 0
    graph.eliminate_zeros()
    edges = graph.tocoo()
    every = graph.data.max() / edges.data
    points = _start(table, generator)
    _move(points, edges.row, edges.col, every, rounds, int(generator.integers(1, 2**31)))
    return points


def fuzzy_neighbours(table: NDArray[np.float32], neighbours: int) -> sparse.csr_matrix[Any]:
    """Return the edge weights between rows, from 0 to 1, float64 [rows, rows], symmetric (section 3.1 of the paper)."""
    from sklearn.neighbors import NearestNeighbors

    distances, indices = NearestNeighbors(n_neighbors=neighbours).fit(table).kneighbors(table)
    own = np.arange(len(table))[:, None]
    distances = np.where(indices == own, 0.0, distances).astype(np.float64)
    strengths = np.where(indices == own, 0.0, _strengths(distances, np.log2(neighbours)))
    rows = np.repeat(np.arange(len(table)), neighbours)
    joined = sparse.csr_matrix((strengths.ravel(), (rows, indices.ravel())), shape=(len(table), len(table)))
    product = joined.multiply(joined.T)
    return sparse.csr_matrix(joined + joined.T - product)


def _strengths(distances: NDArray[np.float64], wanted: float) -> NDArray[np.float64]:
    """Return exp(-(d - nearest) / scale), with the scale of each row such that its weights add up to ``wanted``."""
    nearest = np.min(np.where(distances > 0, distances, np.inf), axis=1, keepdims=True)
    beyond = np.maximum(distances - np.where(np.isfinite(nearest), nearest, 0.0), 0.0)
    low, high = np.full_like(nearest, 1e-12), np.full_like(nearest, 1e3 * max(float(distances.max()), 1e-9))
    for _ in range(64):
        scale = np.sqrt(low * high)
        sums = np.exp(-beyond / scale)[:, 1:].sum(axis=1, keepdims=True)
        low, high = np.where(sums < wanted, scale, low), np.where(sums < wanted, high, scale)
    scale = np.maximum(np.sqrt(low * high), 1e-3 * distances.mean(axis=1, keepdims=True) + 1e-12)
    strengths: NDArray[np.float64] = np.exp(-beyond / scale)
    return strengths


def _start(table: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    """Return the first two principal components, at most 10 from the middle, with a little noise."""
    centred = table - table.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    plane = np.zeros((len(table), 2))
    kept = min(2, table.shape[1])
    plane[:, :kept] = centred @ axes[:, ::-1][:, :kept]
    plane *= 10 / max(float(np.abs(plane).max()), 1e-12)
    return (plane + generator.normal(scale=1e-2, size=plane.shape)).astype(np.float32)


@_compiled
def _move(
    points: NDArray[np.float32],
    heads: NDArray[np.int32],
    tails: NDArray[np.int32],
    every: NDArray[np.float64],
    rounds: int,
    seed: int,
) -> None:
    """Attract joined points and repel others, in place; an edge is used once in ``every`` epochs."""
    state = np.uint64(seed)
    due, apart = every.copy(), every / _NEGATIVES
    for step in range(rounds):
        rate = 1.0 - step / rounds
        for edge in range(len(heads)):
            if due[edge] > step:
                continue
            due[edge] += every[edge]
            i, j = heads[edge], tails[edge]
            x, y = points[i, 0] - points[j, 0], points[i, 1] - points[j, 1]
            square = x * x + y * y
            if square > 0.0:
                pull = -2.0 * _A * _B * square ** (_B - 1.0) / (_A * square**_B + 1.0)
                x, y = rate * min(4.0, max(-4.0, pull * x)), rate * min(4.0, max(-4.0, pull * y))
                points[i, 0] += x
                points[i, 1] += y
                points[j, 0] -= x
                points[j, 1] -= y
            while apart[edge] <= step:
                apart[edge] += every[edge] / _NEGATIVES
                state ^= state << np.uint64(13)  # xorshift64, Marsaglia 2003
                state ^= state >> np.uint64(7)
                state ^= state << np.uint64(17)
                k = state % np.uint64(len(points))
                x, y = points[i, 0] - points[k, 0], points[i, 1] - points[k, 1]
                square = x * x + y * y
                if square > 0.0:
                    push = 2.0 * _B / ((0.001 + square) * (_A * square**_B + 1.0))
                    points[i, 0] += rate * min(4.0, max(-4.0, push * x))
                    points[i, 1] += rate * min(4.0, max(-4.0, push * y))
