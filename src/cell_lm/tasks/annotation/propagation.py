r"""Labels carried from labelled to unlabelled cells over a graph of nearest neighbours.

Cells are points of length 1 in a partly whitened embedding. Each is connected to its nearest neighbours, symmetrically,
with the weight :math:`\exp(-d^2/s^2)`, s being the distance of the farthest of them. Labels are spread by
:math:`F \leftarrow \alpha S F + (1-\alpha) Y` with the symmetrically normalised graph S (Zhou et al. 2003, Learning
with local and global consistency); every class starts with the same mass, whatever its number of labelled cells. The
labels of a new cell are the mean of its nearest cells in the graph, so that they depend on that cell alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from cell_lm.evaluation.folds import Fold
from cell_lm.evaluation.linear_head import LeftOut, space_of

Floats: TypeAlias = NDArray[np.float64]

NEIGHBOURS = 15
WHITENING = 0.5
"""Degree of whitening of the space in which neighbours are sought (:mod:`cell_lm.evaluation.linear_head`)."""
ALPHA = 0.99
_ROUNDS = 30
FLOOR = 1e-4
"""Added to every class, so that a class that reaches no neighbour is not impossible."""


@dataclass(frozen=True, eq=False)
class LabelGraph:
    """A graph of cells, each with its share of the labels.

    Attributes
    ----------
    mean : ndarray
        float64 [width], subtracted from an embedding.
    rotation : ndarray
        float64 [width, directions], applied then.
    points : ndarray
        float32 [cells, directions], of length 1.
    shares : ndarray
        float32 [cells, classes], rows sum to 1, or to 0 where no label arrived.
    """

    mean: Floats
    rotation: Floats
    points: NDArray[np.float32]
    shares: NDArray[np.float32]

    def log_shares(self, embedding: NDArray[np.floating[Any]]) -> Floats:
        """Return the log of the share of each class, float64 [cells, classes], at embeddings [cells, width]."""
        points = _unit((embedding.astype(np.float64) - self.mean) @ self.rotation)
        index = _index(self.points, min(NEIGHBOURS, len(self.points)))
        distances, places = index.kneighbors(points)
        weights = _weights(distances)
        shares = (weights[..., None] * self.shares[places]).sum(1) / weights.sum(1, keepdims=True)
        return log_of(shares)


def log_of(shares: NDArray[np.floating[Any]]) -> Floats:
    """Return the log of shares [cells, classes] with the floor, rows normalised."""
    raised = shares.astype(np.float64) + FLOOR
    return np.asarray(np.log(raised / raised.sum(axis=1, keepdims=True)))


def spread_labels(
    embedding: NDArray[np.floating[Any]], codes: NDArray[np.int64], classes: int, folds: list[Fold]
) -> tuple[LabelGraph, LeftOut | None]:
    """Spread labels over cells.

    Parameters
    ----------
    embedding
        [cells, width]: the labelled cells first, then the unlabelled ones.
    codes
        int64: the class of each labelled cell.
    classes
        Number of classes.
    folds
        Of the labelled cells: the labels of each fold are hidden in turn, to predict its cells.

    Returns
    -------
    LabelGraph
        With the labels spread.
    LeftOut or None
        Predictions for the cells of the folds; None without folds.
    """
    x = embedding.astype(np.float64)
    space = space_of(x, WHITENING)
    assert space.rotation is not None
    points = _unit(space(x))
    graph = _graph(points)
    labelled = np.arange(len(codes))
    shares = _spread(graph, labelled, codes, classes)
    found = LabelGraph(space.mean, space.rotation * space.scale, points, shares.astype(np.float32))
    if not folds:
        return found, None
    hidden = [_spread(graph, rest, codes[rest], classes)[validation] for rest, validation in folds]
    return found, LeftOut.of(folds, [log_of(each) for each in hidden], 1.0)


def _spread(
    graph: sparse.csr_matrix[np.float64], labelled: NDArray[np.int64], codes: NDArray[np.int64], classes: int
) -> Floats:
    start = np.zeros((graph.shape[0], classes))
    start[labelled, codes] = 1.0
    start /= np.maximum(start.sum(axis=0), 1.0)
    shares = start
    for _ in range(_ROUNDS):
        shares = ALPHA * (graph @ shares) + (1 - ALPHA) * start
    return np.asarray(shares / np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny))


def _graph(points: NDArray[np.float32]) -> sparse.csr_matrix[np.float64]:
    """Return the symmetrically normalised graph, [cells, cells]."""
    neighbours, cells = min(NEIGHBOURS, len(points) - 1), len(points)
    distances, places = _index(points, neighbours).kneighbors()
    rows = np.repeat(np.arange(cells), neighbours)
    weights = sparse.csr_matrix((_weights(distances).ravel(), (rows, places.ravel())), shape=(cells, cells))
    both = weights.maximum(weights.T)
    degree = sparse.diags(1 / np.sqrt(np.maximum(np.asarray(both.sum(axis=1)).ravel(), np.finfo(np.float64).tiny)))
    return sparse.csr_matrix(degree @ both @ degree)


def _index(points: NDArray[np.float32], neighbours: int) -> NearestNeighbors:
    return NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(points)


def _weights(distances: Floats) -> Floats:
    widest = np.maximum(distances[:, -1:], np.finfo(np.float32).tiny)
    return np.asarray(np.exp(-((distances / widest) ** 2)), np.float64)


def _unit(x: Floats) -> NDArray[np.float32]:
    return np.asarray(normalize(x), np.float32)
