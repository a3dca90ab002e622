"""Confidence intervals of a mean over seeds, and of the difference of two methods.

Over seeds: Student's t. Of two methods on the same cells: the paired bootstrap (Efron & Tibshirani 1993, chapter 13,
the percentile interval): cells are drawn with replacement and both methods are scored on the same draw, so that
difficulty shared by both cancels. Cells of one donor are similar. To generalise over donors, whole donors are drawn
(``groups``), or donors and then cells of each (``resample_parts``). For the given donors only, cells are drawn within
each of them (``within``). ``scipy.stats.bootstrap`` draws only rows, hence the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import InputError
from cell_lm.evaluation.labels import Labels, as_labels

Score: TypeAlias = "Callable[[NDArray[np.float64], NDArray[np.float64]], float]"
Metric: TypeAlias = 'Literal["macro_f1", "accuracy"] | Score'
Part: TypeAlias = tuple[Labels, Labels, Labels]
"""Truth and the predictions of two methods."""
Rows: TypeAlias = NDArray[np.int64]

CONFIDENCE = 0.95
RESAMPLES = 1000


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes
    ----------
    mean : float
        Mean of the values; for a difference, first minus second on the original cells.
    low, high : float
        Bounds; NaN for a single value, whose spread is unknown.
    n : int
        Number of values, or of cells.
    seed : int or None
        Seed of the bootstrap.
    """

    mean: float
    low: float
    high: float
    n: int
    seed: int | None = None

    def bounds(self) -> list[float | None]:
        """Return ``[low, high]`` for JSON; None for NaN, which JSON does not have."""
        return [None if np.isnan(bound) else round(bound, 4) for bound in (self.low, self.high)]

    def __str__(self) -> str:
        """Return the interval as ``0.921 [0.910, 0.932]``."""
        return f"{self.mean:.3f}" if np.isnan(self.low) else f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(values: Sequence[float] | NDArray[np.float64], *, confidence: float = CONFIDENCE) -> Interval:
    """Return the mean of scores over seeds (or donors), with Student's t interval.

    Raises
    ------
    InputError
        There are no values, or some are missing.
    """
    from scipy import stats

    each = np.asarray(values, np.float64)
    if each.ndim != 1 or not len(each) or np.isnan(each).any():
        found = f"{int(np.isnan(each).sum())} of {each.size} values are missing"
        raise InputError(found, where="interval", fix="Pass at least one score, all of them numbers")
    mean = float(each.mean())
    if len(each) == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
    half = float(stats.t.ppf((1 + confidence) / 2, len(each) - 1)) * float(each.std(ddof=1)) / np.sqrt(len(each))
    return Interval(mean, mean - half, mean + half, len(each))


def paired_bootstrap(
    truth: Labels,
    first: Labels,
    second: Labels,
    *,
    metric: Metric = "macro_f1",
    groups: Labels | None = None,
    within: Labels | None = None,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Return the score of the first method minus that of the second on the same cells, by paired bootstrap.

    Parameters
    ----------
    truth, first, second
        One label per cell; numbers if ``metric`` is a function.
    metric
        ``"macro_f1"`` (over the classes in a draw), ``"accuracy"``, or a function of truth and prediction.
    groups
        One donor per cell: whole donors are drawn.
    within
        One donor per cell: from each donor as many cells are drawn as it has; the interval is for these donors.
    resamples, confidence, seed
        Draws, confidence of the interval, and seed of the draws.

    Raises
    ------
    InputError
        Labels are missing or differ in number; there is only one group; or both ``groups`` and ``within`` are given.
    """
    part, score = _coded((truth, first, second), metric)
    n = len(part[0])
    if groups is not None and within is not None:
        found = "both groups= and within= are given"
        fix = "Draw whole donors (groups), or cells of each donor (within)"
        raise InputError(found, where="paired bootstrap", fix=fix)
    whole = None if groups is None else _members(groups, n, least=2)
    strata = [np.arange(n)] if within is None else _members(within, n, least=1)

    def draw() -> Rows:
        if whole is not None:
            return np.concatenate([whole[k] for k in rng.integers(0, len(whole), len(whole))])
        return np.concatenate([rows[_draw(rng, len(rows))] for rows in strata])

    rng = np.random.default_rng(seed)
    draws = [_difference(part, draw(), score) for _ in range(resamples)]
    return _interval(_difference(part, np.arange(n), score), draws, n, confidence, seed)


def score_interval(
    truth: Labels,
    predicted: Labels,
    *,
    metric: Literal["macro_f1", "accuracy"] = "macro_f1",
    within: Labels | None = None,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Return the score of one method with its interval; parameters and errors as :func:`paired_bootstrap`."""
    truth = as_labels(truth, where="labels")
    never_right = np.full(
        len(truth), f"not {''.join(np.unique(truth))}"
    )  # second method scores 0, so that the difference is the score
    return paired_bootstrap(
        truth,
        predicted,
        never_right,
        metric=metric,
        within=within,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )


def _members(groups: Labels, n: int, *, least: int) -> list[Rows]:
    """Return the rows of each group."""
    names = as_labels(groups, where="groups")
    members = [np.flatnonzero(names == name) for name in np.unique(names)]
    if len(names) != n or len(members) < least:
        found = f"{len(members)} groups of {len(names):,} cells, for {n:,} labels"
        fix = f"Pass one group a cell, of at least {least} group{'s' if least > 1 else ''}"
        raise InputError(found, where="paired bootstrap", fix=fix)
    return members


def paired_bootstrap_over(
    parts: Sequence[Part],
    *,
    metric: Metric = "macro_f1",
    resample_parts: bool = True,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Return the mean difference over several test sets, such as held-out donors.

    Parameters
    ----------
    parts
        Truth, first and second method of each test set; the differences of the sets are averaged.
    resample_parts
        Draw test sets, then cells of each: the interval then also covers new donors. With few donors it is coarse.
        False draws cells within each set: the interval is for other cells of these donors only.
    metric, resamples, confidence, seed
        As :func:`paired_bootstrap`.

    Raises
    ------
    InputError
        As :func:`paired_bootstrap`, or there are no parts.
    """
    if not parts:
        raise InputError("no test set", where="paired bootstrap", fix="Pass at least one")
    coded = [_coded(part, metric) for part in parts]
    rng = np.random.default_rng(seed)

    def once() -> float:
        chosen = rng.integers(0, len(coded), len(coded)) if resample_parts else range(len(coded))
        each = [_difference(coded[k][0], _draw(rng, len(coded[k][0][0])), coded[k][1]) for k in chosen]
        return float(np.mean(each))

    whole = float(np.mean([_difference(part, np.arange(len(part[0])), score) for part, score in coded]))
    return _interval(whole, [once() for _ in range(resamples)], sum(len(p[0]) for p, _ in coded), confidence, seed)


_Coded: TypeAlias = "tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]"


def _coded(part: Part, metric: Metric) -> tuple[_Coded, Score]:
    """Return labels as integers and a score for integers, which avoids comparing text in every draw."""
    if callable(metric):
        values = [np.asarray(each, np.float64) for each in part]
        score: Score = metric
    else:
        texts = [as_labels(each, where="labels") for each in part]
        classes, codes = np.unique(np.concatenate(texts), return_inverse=True)
        values = [each.astype(np.float64) for each in np.split(codes, np.cumsum([len(each) for each in texts])[:-1])]
        score = _accuracy if metric == "accuracy" else _macro_f1_of(len(classes))
    if len({len(each) for each in values}) > 1:
        found = f"{' and '.join(str(len(each)) for each in values)} values of truth and the two methods"
        raise InputError(found, where="paired bootstrap", fix="Pass the same cells in the same order")
    return (values[0], values[1], values[2]), score


def _accuracy(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    return float(np.mean(truth == predicted))


def _macro_f1_of(classes: int) -> Score:
    def score(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
        true, guess = truth.astype(np.int64), predicted.astype(np.int64)
        size, given = np.bincount(true, minlength=classes), np.bincount(guess, minlength=classes)
        right = np.bincount(true[true == guess], minlength=classes)
        return float(np.mean((2 * right / np.maximum(size + given, 1))[size > 0]))

    return score


def _draw(rng: np.random.Generator, n: int) -> Rows:
    return rng.integers(0, n, n)


def _difference(part: _Coded, rows: Rows, score: Score) -> float:
    truth, first, second = (values[rows] for values in part)
    return score(truth, first) - score(truth, second)


def _interval(whole: float, draws: Sequence[float], n: int, confidence: float, seed: int) -> Interval:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(whole, float(low), float(high), n, seed)
