"""Majority voting: the cells of a small cluster share the label that most of them have (CellTypist's habit).

The clusters are many more than the types, so that a cluster rarely holds two. Without a column of clusters they are
made by k-means (scikit-learn, mini-batches) of CLS at unit length, as many as the square root of the number of cells.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

MIXED = "mixed"
"""Label of the cells of a cluster without a majority."""
_BATCH = 2_048
_STARTS = 3


class Vote(NamedTuple):
    """Result of a vote.

    Attributes
    ----------
    labels : ndarray
        str objects [cells]: the label of the majority of the cell's cluster, or ``mixed``.
    share : ndarray
        float64 [cells]: fraction of the cluster that has its most frequent label.
    """

    labels: NDArray[np.object_]
    share: NDArray[np.float64]


def vote(labels: NDArray[Any], clusters: NDArray[Any], min_share: float = 0.5) -> Vote:
    """Return the label of the majority of each cell's cluster.

    Parameters
    ----------
    labels, clusters
        One of each per cell.
    min_share
        Fraction of a cluster that must have the label; in a cluster with less, or with a tie, cells are ``mixed``.
    """
    names, label_codes = np.unique(labels.astype(str), return_inverse=True)
    _, cluster_codes = np.unique(clusters.astype(str), return_inverse=True)
    counts = np.zeros((int(cluster_codes.max()) + 1, len(names)), np.int64)
    np.add.at(counts, (cluster_codes, label_codes), 1)
    most = counts.max(axis=1)
    share = most / counts.sum(axis=1)
    clear = (share >= min_share) & ((counts == most[:, None]).sum(axis=1) == 1)
    winner = np.where(clear, names[counts.argmax(axis=1)].astype(object), MIXED)
    return Vote(winner[cluster_codes], share[cluster_codes])


def over_cluster(embedding: NDArray[np.floating[Any]], seed: int = 0) -> NDArray[np.int64]:
    """Return a cluster for each cell, int64 from 0: about the square root of the number of cells."""
    x = embedding.astype(np.float64)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    number = max(1, round(len(x) ** 0.5))
    found = MiniBatchKMeans(number, random_state=seed, n_init=_STARTS, batch_size=_BATCH).fit_predict(x)
    return np.unique(found, return_inverse=True)[1].astype(np.int64)
