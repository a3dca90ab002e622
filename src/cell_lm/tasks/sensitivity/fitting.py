"""From components of cells and some labels to a calibrated score: chooses components, trains, calibrates.

With at least ten labelled cells of each kind, the number of components and the calibration come from left-out labelled
cells (five folds, or whole donors; in each, the left-out cells count as unlabelled): the number with the least log
loss, and Platt's logistic function of the score [1]_. With fewer, ten components are used, and the calibration is that
of the mixture of all scores (:mod:`cell_lm.tasks.sensitivity.mixture`).

References
----------
.. [1] Platt (1999). Probabilistic outputs for support vector machines. Advances in Large Margin Classifiers, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

from cell_lm.evaluation.folds import training_folds
from cell_lm.tasks.sensitivity.mixture import Floats, fit_mixture, share_of
from cell_lm.tasks.sensitivity.self_training import Codes, Line, best_of_starts, regression, self_train

FEW, TRIED = 10, (10, 30, 100)
"""Components where labels are few, and the numbers that are tried where they are not."""
ENOUGH = 10
"""Labelled cells of each kind from which the number of components and the calibration are chosen on left-out ones."""
_WEAK = 1e4
Calibrated = Literal["mixture", "left out", "regression"]


@dataclass(frozen=True, eq=False)
class Fit:
    """A calibrated linear score.

    Attributes
    ----------
    columns : ndarray
        int64: the components that are used.
    line : Line
        The score, from those.
    slope, intercept : float
        The logit of being sensitive is ``slope * score + intercept``.
    prevalence, separation : float
        Of the mixture of the scores of all cells: fraction of sensitive cells, and the distance of the two means in
        standard deviations.
    calibrated : {"mixture", "left out", "regression"}
        Where slope and intercept come from; ``"regression"``: it was left as it is.
    losses : tuple of (int, float)
        The numbers of components that were tried, and the log loss of left-out labelled cells.
    """

    columns: NDArray[np.int64]
    line: Line
    slope: float
    intercept: float
    prevalence: float
    separation: float
    calibrated: Calibrated
    losses: tuple[tuple[int, float], ...] = ()

    def scores(self, points: Floats) -> Floats:
        """Return the score of cells, a logit [cells]: above 0 for sensitive."""
        return self.slope * self.line(points[:, self.columns]) + self.intercept

    def probabilities(self, points: Floats) -> Floats:
        """Return the probability of being sensitive [cells]."""
        return np.asarray(expit(self.scores(points)))


def fit(
    points: Floats,
    fixed: int,
    labelled: Codes,
    codes: Codes,
    *,
    groups: NDArray[np.object_] | None = None,
    prior: float | None = None,
    components: int | None = None,
    self_training: bool = True,
    seed: int = 0,
) -> Fit:
    """Fit the classifier.

    Parameters
    ----------
    points
        Components of all cells [cells, components]; the last ``fixed`` are always used.
    fixed
        Number of components that are not chosen: those of the encoder.
    labelled, codes
        Indices of the labelled cells, and their labels: 1 sensitive, 0 resistant; at least two of each.
    groups
        A donor per labelled cell: whole donors are left out.
    prior
        Fraction of sensitive cells; None: it is estimated.
    components
        Number of components; None: chosen.
    self_training
        Learn from the unlabelled cells, too.
    seed
        Seed of the folds.
    """
    train = _trainer(prior, self_training)
    free = points.shape[1] - fixed
    enough = int(np.bincount(codes, minlength=2).min()) >= ENOUGH
    tried: list[int] = sorted({min(number, free) for number in ((components,) if components else TRIED)})
    if not enough:
        tried = [min(components or FEW, free)]
    with threadpool_limits(1, user_api="blas"):
        left_out = _left_out(points, fixed, labelled, codes, groups, seed, train, tried) if enough else {}
        best = min(left_out, key=lambda number: left_out[number].loss) if left_out else tried[0]
        columns = _columns(points, best, fixed)
        several = self_training and prior is None and not left_out and len(labelled) < len(points)
        inside = points[:, columns]
        line = best_of_starts(inside, labelled, codes) if several else train(inside, labelled, codes)
    mixture = fit_mixture(line(points[:, columns]), labelled, codes, prior)
    slope, intercept = mixture.slope, mixture.intercept
    calibrated: Calibrated = "mixture"
    if left_out or len(labelled) == len(points):  # without unlabelled cells, the regression is all there is
        slope, intercept = (left_out[best].slope, left_out[best].intercept) if left_out else (1.0, 0.0)
        calibrated = "left out" if left_out else "regression"
        if prior is not None:
            intercept += float(logit(np.clip(prior, 1e-3, 1 - 1e-3)) - logit(share_of(codes)))
    return Fit(
        columns,
        line,
        slope,
        intercept,
        mixture.prevalence,
        mixture.separation,
        calibrated,
        tuple((number, each.loss) for number, each in left_out.items()),
    )


@dataclass(frozen=True)
class _LeftOut:
    """Platt's calibration on left-out cells, and its log loss."""

    slope: float
    intercept: float
    loss: float


class _Train:
    """Trains a score, with or without unlabelled cells."""

    def __init__(self, prior: float | None, alone: bool) -> None:
        self.prior, self.alone = prior, alone

    def __call__(self, points: Floats, labelled: Codes, codes: Codes) -> Line:
        if self.alone:
            return regression(points[labelled], codes)
        return self_train(points, labelled, codes, prior=self.prior)


def _trainer(prior: float | None, self_training: bool) -> _Train:
    return _Train(prior, not self_training)


def _columns(points: Floats, number: int, fixed: int) -> NDArray[np.int64]:
    """Return the first components, and the fixed ones."""
    width = points.shape[1]
    return np.concatenate([np.arange(number), np.arange(width - fixed, width)]).astype(np.int64)


def _left_out(
    points: Floats,
    fixed: int,
    labelled: Codes,
    codes: Codes,
    groups: NDArray[np.object_] | None,
    seed: int,
    train: _Train,
    tried: Sequence[int],
) -> dict[int, _LeftOut]:
    """Return the calibration for each number of components; empty where no fold can be scored."""
    folds = list(training_folds(codes, groups, seed))
    found: dict[int, _LeftOut] = {}
    for number in tried if folds else ():
        inside = points[:, _columns(points, number, fixed)]
        scores = np.concatenate(
            [train(inside, labelled[rest], codes[rest])(inside[labelled[judged]]) for rest, judged in folds]
        )
        found[number] = _platt(scores, np.concatenate([codes[judged] for _, judged in folds]))
    return found


def _platt(scores: Floats, codes: Codes) -> _LeftOut:
    """Fit a logistic function of the score, each target drawn a little towards the other side."""
    spread = float(scores.std()) or 1.0
    sensitive, resistant = int(codes.sum()), int((1 - codes).sum())
    target = np.where(codes == 1, (sensitive + 1) / (sensitive + 2), 1 / (resistant + 2))
    x = np.concatenate([scores, scores])[:, None] / spread
    y = np.repeat([1, 0], len(scores))
    model = LogisticRegression(C=_WEAK, max_iter=1000).fit(x, y, sample_weight=np.concatenate([target, 1 - target]))
    slope, intercept = max(float(model.coef_[0, 0]) / spread, 1e-6), float(model.intercept_[0])
    return _LeftOut(slope, intercept, float(log_loss(codes, expit(slope * scores + intercept), labels=[0, 1])))
