"""From components of cells and some labels to a calibrated score: chooses components, trains, calibrates.

With at least 25 labelled cells of each kind, left-out labelled cells decide (five folds, or whole donors; in each, the
left-out cells count as unlabelled): the number of components and whether to use self-training are those of the least
log loss, and the calibration is Platt's logistic function of the score [1]_. With fewer, ten components are used, and
the calibration is that of the mixture of all scores (:mod:`cell_lm.tasks.sensitivity.mixture`).

A fine-tuned encoder has seen the labels: it separates these cells better than new ones, and five folds of them would
give too good a score. So cells are left out once, those that fine-tuning left out (:class:`Trial`): they are scored by
a fit without their labels, on the encoder that was trained without them. With fewer than 25 labels of a kind, means and
variance of the mixture are those of the cells without a label. Where half of the cells have a label, there are not
enough others, and the left-out cells calibrate, however few: Platt's targets keep their probabilities modest.

References
----------
.. [1] Platt (1999). Probabilistic outputs for support vector machines. Advances in Large Margin Classifiers, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

from cell_lm.evaluation.folds import Fold, training_folds
from cell_lm.tasks.sensitivity.mixture import Floats, fit_mixture, share_of
from cell_lm.tasks.sensitivity.self_training import Codes, Line, best_of_starts, regression, self_train

FEW, TRIED = 10, (10, 30, 100)
"""Components where labels are few, and the numbers that are tried where they are not."""
ENOUGH = 25
"""Labelled cells of each kind from which the number of components and the calibration are chosen on left-out ones."""
MANY = 0.5
"""Fraction of labelled cells from which self-training is not tried: there is little left to learn from."""
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
        standard deviations. The labels of half of the cells or more, where an encoder was trained on them, make the
        distance too large.
    calibrated : {"mixture", "left out", "regression"}
        Where slope and intercept come from; ``"regression"``: it was left as it is.
    losses : tuple of (int, bool, float)
        The numbers of components that were tried, with self-training or without, and the log loss of left-out cells.
    """

    columns: NDArray[np.int64]
    line: Line
    slope: float
    intercept: float
    prevalence: float
    separation: float
    calibrated: Calibrated
    losses: tuple[tuple[int, bool, float], ...] = ()

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
    trial: Trial | None = None,
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
    trial
        The cells as the encoder shows them that was trained without some of the labels, where that of ``points`` was
        trained on all; None: it has seen none.
    seed
        Seed of the folds.
    """
    free = points.shape[1] - fixed
    few_labelled = self_training and len(labelled) < MANY * len(points)
    enough = np.bincount(codes, minlength=2).min() >= ENOUGH
    wanted = TRIED if enough else (FEW,)
    numbers = {min(number, free) for number in ((components,) if components else wanted)}
    kinds = (True, False) if few_labelled else (False,)
    tried = [_Tried(number, kind) for number in sorted(numbers) for kind in kinds]
    folds = list[Fold]()
    if trial is not None:
        folds = trial.folds() if enough or not few_labelled else []
    elif enough:
        folds = list(training_folds(codes, groups, seed))
    honest = points if trial is None else trial.points
    with threadpool_limits(1, user_api="blas"):
        left_out = {each: _left_out(honest, fixed, labelled, codes, folds, prior, each) for each in tried if folds}
        best = min(left_out, key=lambda each: left_out[each].loss) if left_out else None
        if best is not None:
            columns = _columns(points, best.components, fixed)
            line = best.train(points[:, columns], labelled, codes, prior)
        else:
            columns = _columns(points, min(components or FEW, free), fixed)
            line = _few_labels(points[:, columns], labelled, codes, prior, self_training)
    trained = trial is not None and few_labelled
    mixture = fit_mixture(line(points[:, columns]), labelled, codes, prior, trained=trained)
    slope, intercept = mixture.slope, mixture.intercept
    calibrated: Calibrated = "mixture"
    if best is not None or len(labelled) == len(points):  # without unlabelled cells, the regression is all there is
        slope, intercept = (left_out[best].slope, left_out[best].intercept) if best is not None else (1.0, 0.0)
        calibrated = "left out" if best is not None else "regression"
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
        tuple((*how, each.loss) for how, each in left_out.items()),
    )


class Trial(NamedTuple):
    """All cells as an encoder shows them that was trained without some of the labelled ones.

    Attributes
    ----------
    points : ndarray
        Components of all cells, as those of :func:`fit` [cells, components].
    left_out : ndarray
        bool [labelled cells]: those that it was trained without, some of each kind.
    """

    points: Floats
    left_out: NDArray[np.bool_]

    def folds(self) -> list[Fold]:
        """Return the one fold: the labelled cells that it saw, and the others."""
        return [(np.flatnonzero(~self.left_out), np.flatnonzero(self.left_out))]


@dataclass(frozen=True)
class _LeftOut:
    """Platt's calibration on left-out cells, and its log loss."""

    slope: float
    intercept: float
    loss: float


class _Tried(NamedTuple):
    """A way to fit: the number of components, with self-training or without."""

    components: int
    self_trained: bool

    def train(self, points: Floats, labelled: Codes, codes: Codes, prior: float | None) -> Line:
        """Return the score."""
        if self.self_trained:
            return self_train(points, labelled, codes, prior=prior)
        return regression(points[labelled], codes)


def _few_labels(points: Floats, labelled: Codes, codes: Codes, prior: float | None, self_training: bool) -> Line:
    if not self_training or len(labelled) == len(points):
        return regression(points[labelled], codes)
    if prior is None:
        return best_of_starts(points, labelled, codes)
    return self_train(points, labelled, codes, prior=prior)


def _columns(points: Floats, number: int, fixed: int) -> NDArray[np.int64]:
    """Return the first components, and the fixed ones."""
    width = points.shape[1]
    return np.concatenate([np.arange(number), np.arange(width - fixed, width)]).astype(np.int64)


def _left_out(
    points: Floats, fixed: int, labelled: Codes, codes: Codes, folds: Sequence[Fold], prior: float | None, how: _Tried
) -> _LeftOut:
    """Return the calibration on left-out labelled cells."""
    inside = points[:, _columns(points, how.components, fixed)]
    scores = [how.train(inside, labelled[rest], codes[rest], prior)(inside[labelled[judged]]) for rest, judged in folds]
    return _platt(np.concatenate(scores), np.concatenate([codes[judged] for _, judged in folds]))


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
