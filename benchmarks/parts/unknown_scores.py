"""Novelty scores that ours is compared with, each from the embedding or the logits of a linear head."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from cell_lm.evaluation.calibration import log_softmax
from cell_lm.evaluation.linear_head import LinearHead

Floats = NDArray[np.float64]
NEIGHBOURS = 5


def peer_scores(x: NDArray[Any], codes: NDArray[np.int64], head: LinearHead, query: NDArray[Any]) -> dict[str, Floats]:
    """Return scores [cells] of the query, higher for more novel, from the training cells."""
    x, query = x.astype(np.float64), query.astype(np.float64)
    logits = (query - head.mean) @ head.coefficients.T + head.intercept
    log_p = log_softmax(logits)
    means = np.stack([x[codes == code].mean(axis=0) for code in range(codes.max() + 1)])
    within = whitener(ledoit_wolf(x - means[codes], assume_centered=True)[0])
    total = whitener(ledoit_wolf(x - x.mean(axis=0), assume_centered=True)[0])
    nearest = squared_distances(query @ within, means @ within).min(axis=1)
    background = squared_distances(query @ total, x.mean(axis=0)[None] @ total)[:, 0]
    cosine = np.sort(unit(query) @ unit(x).T, axis=1)[:, -NEIGHBOURS:].mean(axis=1)
    euclidean = np.sort(squared_distances(query, x), axis=1)[:, :NEIGHBOURS].mean(axis=1)
    return {
        "energy": -np.logaddexp.reduce(logits, axis=1),
        "entropy": -(np.exp(log_p) * log_p).sum(axis=1),
        "relative mahalanobis": nearest - background,
        "5 neighbours": euclidean,
        "5 neighbours, cosine": -cosine,
    }


def whitener(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors / np.sqrt(np.maximum(values, 1e-12 * values[-1])))


def squared_distances(a: Floats, b: Floats) -> Floats:
    return np.asarray((a**2).sum(axis=1)[:, None] - 2 * a @ b.T + (b**2).sum(axis=1))


def unit(x: Floats) -> Floats:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))
