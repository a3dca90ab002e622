"""Whether cells are like those of a fit: by the cosine of their embedding with the nearest cells of the fit.

The distance of a cell is 1 minus its mean cosine with the ten nearest cells of the fit. Its threshold is a quantile of
the distances of left-out donors to the other donors, so the stated fraction of the cells of a new donor of the same
tissue is above it, as far as donors are alike.

The embedding is that of the packaged ``small``, whatever encoder classifies: its components are those of many tissues.
An encoder adapted to the cells of the fit keeps their donors apart and has no direction for what they lack, so that
other tissues seem near (docs/malignancy.md). Euclidean distance was tried and is worse, too: cells of low depth are
near every other such cell.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from cell_lm.data.loading.sampler import random_subset
from cell_lm.evaluation.folds import training_folds
from cell_lm.model import CellLM
from cell_lm.tasks.features import weights_hash

Floats: TypeAlias = NDArray[np.float64]
Unit = Literal["donor", "cell"]

MOST = 2_000
"""Most cells of the fit that are kept to compare with."""
NEIGHBOURS = 10
WARNED = 0.25
"""Fraction of unlike cells above which :class:`DissimilarCellsWarning` is issued."""


class DissimilarCellsWarning(UserWarning):
    """Many cells are unlike those of the fit: probabilities for them may be wrong, whatever they say."""


@dataclass(frozen=True, eq=False)
class Likeness:
    """Cells of a fit, and the distance from them above which a cell is unlike them.

    Attributes
    ----------
    points : ndarray
        float64 [cells, width]: embeddings of some cells of the fit, of length 1.
    threshold : float
        Distance, 0 to 2.
    rate : float
        Fraction of the left-out cells above it.
    unit : {"donor", "cell"}
        What was left out to set it.
    encoder : str
        Hash of the weights of the encoder of the embeddings.
    """

    points: Floats
    threshold: float
    rate: float
    unit: Unit
    encoder: str

    def distances(self, embedding: NDArray[np.floating[Any]]) -> Floats:
        """Return the distance of each cell, float64 [cells]; ``embedding`` is [cells, width]."""
        return _distances(self.points, _unit(embedding))


def encoder_of_likeness(model: CellLM) -> tuple[CellLM, str]:
    """Return the packaged ``small``, and the hash of its weights; a model of another vocabulary itself."""
    packaged, digest = _packaged()
    same = packaged.vocabulary.hash == model.vocabulary.hash
    return (packaged, digest) if same else (model, weights_hash(model))


@cache
def _packaged() -> tuple[CellLM, str]:
    model = CellLM.from_pretrained("small")
    return model, weights_hash(model)


def learn_likeness(
    embedding: NDArray[np.floating[Any]],
    codes: NDArray[np.int64],
    groups: NDArray[np.object_] | None,
    *,
    rate: float,
    seed: int,
    encoder: str = "",
) -> Likeness:
    """Learn the distance of cells that are left out.

    Parameters
    ----------
    embedding
        [cells, width], of the cells of the fit.
    codes
        The class of each.
    groups
        The donor of each; whole donors are left out. None: cells are.
    rate
        Fraction of left-out cells that may be called unlike.
    seed
        Seed of the cells that are kept.
    encoder
        Hash of the weights of the encoder.
    """
    points = _unit(embedding)
    found = [each for each in _left_out(points, codes, groups, seed) if len(each)]
    threshold = float(np.quantile(np.concatenate(found), 1 - rate)) if found else 2.0
    kept = random_subset(len(points), MOST, seed)
    return Likeness(points[kept], threshold, rate, "cell" if groups is None else "donor", encoder)


def warn_if_unlike(unlike: NDArray[np.bool_], name: str, stacklevel: int) -> None:
    """Issue :class:`DissimilarCellsWarning` where more than :data:`WARNED` of the cells are unlike those of the fit."""
    share = float(unlike.mean()) if len(unlike) else 0.0
    if share > WARNED:
        found = f"{share:.0%} of the cells are unlike those of the fit (another tissue, tumour or protocol?)"
        advice = "Do not trust the calls: fit on labelled cells of this kind"
        warnings.warn(f"{name}: {found}. {advice}.", DissimilarCellsWarning, stacklevel=stacklevel)


def _left_out(
    points: Floats, codes: NDArray[np.int64], groups: NDArray[np.object_] | None, seed: int
) -> Iterator[Floats]:
    for rest, validation in training_folds(codes, groups, seed):
        yield _distances(points[rest[random_subset(len(rest), MOST, seed)]], points[validation])


def _unit(embedding: NDArray[np.floating[Any]]) -> Floats:
    wide = embedding.astype(np.float64)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(np.float32).tiny))


def _distances(points: Floats, others: Floats) -> Floats:
    """Return 1 minus the mean cosine with the nearest points; squared distances of unit vectors are twice that."""
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(points)), algorithm="brute").fit(points)
    return np.asarray(np.square(near.kneighbors(others)[0]).mean(axis=1) / 2)
