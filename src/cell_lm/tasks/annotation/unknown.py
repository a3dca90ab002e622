"""Cells of no known type: a novelty from 0 to 1, and the label ``unknown`` at a stated error rate.

1. *Left-out cells.* In every fold of the training cells (whole donors, if there are donors) the scores of
   :mod:`cell_lm.tasks.annotation.novelty` are learned without the left-out cells, and computed for them.
2. *One scale.* A score becomes the -log of its p-value: of the fraction of left-out cells that score at least as high;
   above the highest of them it goes on with the slope of the last tenth, so that no two cells far out are tied.
3. *Sum.* The sum over the scores is Fisher's combination. The scores are dependent, so its distribution is not taken
   from a table: it is that of the same left-out cells.
4. *Novelty* is the fraction of left-out cells with a smaller sum. A cell is ``unknown`` above 1 - rate: of the cells of
   known types and new donors, a fraction of ``rate`` is then wrongly unknown, as far as new donors resemble left-out
   ones. For another platform they do not, and more are (``docs/annotation.md``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import ConfigError, InputError
from cell_lm.evaluation.folds import training_folds
from cell_lm.files import JSON
from cell_lm.tasks.annotation.novelty import SCORES, Codes, Counts, Floats, NoveltyScores
from cell_lm.tasks.estimator import Arrays, checked

UNKNOWN = "unknown"
"""Label of a cell of no known type."""
RATE = 0.05
_KNOTS = 200
_TAIL = 0.1


@dataclass(frozen=True, eq=False)
class Tail:
    """Distribution of a number over left-out cells, as ascending quantiles.

    Attributes
    ----------
    knots : ndarray
        float64: quantiles at equal steps, at most :data:`_KNOTS`.
    cells : int
        Number of left-out cells.
    """

    knots: Floats
    cells: int

    @classmethod
    def of(cls, values: Floats) -> Self:
        """Return the distribution of these values."""
        levels = _levels(min(len(values), _KNOTS))
        return cls(np.quantile(values, levels), len(values))

    def log_p(self, values: Floats) -> Floats:
        """Return -log of the fraction of left-out cells that are at least as high; goes on above the highest."""
        n = self.cells
        fraction = np.interp(values, self.knots, _levels(len(self.knots)), left=0.0)
        inside = -np.log((n * (1.0 - fraction) + 1.0) / (n + 1.0))
        top, start = self.knots[-1], float(np.interp(1 - _TAIL, _levels(len(self.knots)), self.knots))
        slope = np.log(_TAIL * n + 1.0) / max(top - start, 1e-9 * max(1.0, abs(top)))
        return np.asarray(inside + np.maximum(values - top, 0.0) * slope)

    def p(self, values: Floats) -> Floats:
        """Return the p-value; above the highest left-out cell it falls slowly, so that it does not round to 0."""
        log_p, least = self.log_p(values), np.log(self.cells + 1.0)
        return np.asarray(np.exp(-np.minimum(log_p, least)) / (1.0 + np.maximum(log_p - least, 0.0)))


def _levels(number: int) -> Floats:
    return np.linspace(0.0, 1.0, max(number, 2))


@dataclass(frozen=True, eq=False)
class UnknownRule:
    """Novelty of cells, and whether they are of no known type.

    Attributes
    ----------
    scores : NoveltyScores
        Learned from all training cells.
    tails : tuple of Tail
        Distribution of each score over the left-out cells.
    total : Tail
        Distribution of their sum.
    rate : float
        Fraction of cells of known types that are wrongly unknown.
    """

    scores: NoveltyScores
    tails: tuple[Tail, ...]
    total: Tail
    rate: float

    def novelty(
        self,
        features: NDArray[np.floating[Any]],
        probabilities: NDArray[np.floating[Any]],
        counts: Counts | None = None,
    ) -> Floats:
        """Return the novelty of each cell, float64 [cells], from 0 (as the known types) to 1.

        Parameters
        ----------
        features
            CLS [cells, width].
        probabilities
            [cells, classes] of the classifier, whose classes are in the order of the fit.
        counts
            CSR [cells, vocabulary], if the rule was fitted with counts.

        Raises
        ------
        InputError
            The rule reads counts, and there are none.
        """
        if counts is None and len(self.scores.genes):
            raise InputError("the rule reads counts", where="unknown types", fix="Give the counts of the cells, too")
        scores = self.scores.score(features, probabilities, counts)
        return 1.0 - self.total.p(_sum(self.tails, scores))

    def is_unknown(self, novelty: Floats, rate: float | None = None) -> NDArray[np.bool_]:
        """Return which cells are of no known type, bool [cells]; ``rate`` replaces that of the fit."""
        return np.asarray(novelty > 1.0 - checked_rate(self.rate if rate is None else rate))

    def values(self) -> dict[str, JSON]:
        """Return the plain values to save."""
        return {"rate": self.rate, "cells": self.total.cells, "scores": list(self.scores.names)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to save."""
        knots = np.stack([tail.knots for tail in (*self.tails, self.total)])
        return self.scores.arrays() | {"unknown.knots": knots}

    @classmethod
    def restore(cls, values: Mapping[str, Any], arrays: Arrays, classes: int, width: int, vocabulary: int) -> Self:
        """Restore what was saved; ValueError, KeyError or TypeError if it is inconsistent."""
        scores = NoveltyScores.restore(arrays, classes, width, vocabulary)
        if list(values["scores"]) != list(scores.names):
            raise ValueError(f"its scores are not {', '.join(scores.names)}")
        knots = checked(arrays, "unknown.knots", (len(scores.names) + 1, -1))
        cells, rate = int(values["cells"]), values["rate"]
        if cells < 1 or not isinstance(rate, float) or not 0 < rate < 1 or (np.diff(knots, axis=1) < 0).any():
            raise ValueError("the calibration of unknown types is inconsistent")
        tails = tuple(Tail(row, cells) for row in knots)
        return cls(scores, tails[:-1], tails[-1], rate)


def fit_unknown(
    features: NDArray[np.floating[Any]],
    codes: Codes,
    probabilities: NDArray[np.floating[Any]],
    *,
    donors: NDArray[np.object_] | None = None,
    counts: Counts | None = None,
    measured: NDArray[np.integer[Any]] | None = None,
    rate: float = RATE,
    seed: int = 0,
) -> UnknownRule:
    """Learn what the known types look like, and calibrate on left-out cells.

    Parameters
    ----------
    features
        CLS of the training cells [cells, width].
    codes
        The class of each, int64 from 0.
    probabilities
        [cells, classes], each row predicted without the cell (and its donor); rows of NaN were not left out.
    donors
        One per cell, as text; they are left out whole.
    counts, measured
        Counts, CSR [cells, vocabulary], and the measured genes of the vocabulary. Without counts the two scores on
        genes are left out, and subtypes are seen less well.
    rate
        Fraction of cells of known types that may be wrongly unknown.
    seed
        Seed of the folds without donors.

    Raises
    ------
    ConfigError
        The rate is not between 0 and 1.
    InputError
        No cell was left out.
    """
    rate = checked_rate(rate)
    left_out = _left_out(features, codes, probabilities, donors, counts, measured, seed)
    tails = tuple(Tail.of(column) for column in left_out.T)
    scores = NoveltyScores.fit(features, codes, counts, measured)
    return UnknownRule(scores, tails, Tail.of(_sum(tails, left_out)), rate)


def checked_rate(rate: float) -> float:
    """Return an error rate; :class:`ConfigError` if it is not between 0 and 1."""
    if not 0.0 < rate < 1.0:
        raise ConfigError(f"the rate of wrongly unknown cells is {rate!r}", fix="Choose one between 0 and 1, as 0.05")
    return float(rate)


def _left_out(
    features: NDArray[np.floating[Any]],
    codes: Codes,
    probabilities: NDArray[np.floating[Any]],
    donors: NDArray[np.object_] | None,
    counts: Counts | None,
    measured: NDArray[np.integer[Any]] | None,
    seed: int,
) -> Floats:
    """Return the scores [left-out cells, scores], each learned without the cell (and its donor)."""
    known, found = np.isfinite(probabilities).all(axis=1), list[Floats]()
    for rest, validation in training_folds(codes, donors, seed):
        some = validation[known[validation]]
        if not len(some):
            continue
        inside = np.unique(codes[rest], return_inverse=True)[1].astype(np.int64)
        scores = NoveltyScores.fit(features[rest], inside, None if counts is None else counts[rest], measured)
        found.append(scores.score(features[some], probabilities[some], None if counts is None else counts[some]))
    if not found:
        fix = "Give two or more cells of each type, or of two types in several donors"
        raise InputError("no cell could be left out to calibrate on", where="unknown types", fix=fix)
    return np.concatenate(found)


def _sum(tails: tuple[Tail, ...], scores: Floats) -> Floats:
    assert len(tails) == scores.shape[1] <= len(SCORES)
    each = [tail.log_p(column) for tail, column in zip(tails, scores.T, strict=True)]
    return np.asarray(np.sum(each, axis=0), np.float64)
