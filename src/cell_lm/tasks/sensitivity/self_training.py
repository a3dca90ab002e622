"""Self-training: a logistic regression that learns from its own most certain calls, in the shares of the prevalence.

1. A logistic regression learns the labelled cells.
2. The prevalence is estimated from the scores of all cells (:mod:`cell_lm.tasks.sensitivity.mixture`), unless stated.
3. The highest-scored unlabelled cells become sensitive, the lowest resistant, in the proportion of the prevalence; a
   regression learns them (weight .5) together with the labelled ones (weight 2). Twelve rounds take 20 to 96 % of the
   cells.

With equal shares of both kinds instead, the method assumes that half of the cells are sensitive. An estimate from the
first scores can be far off, too, and self-training then settles on it. So where the prevalence is not stated and labels
are few, it is run from several prevalences (:func:`best_of_starts`); the run is kept whose scores form two groups most
clearly.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from cell_lm.tasks.sensitivity.mixture import fit_mixture

Floats: TypeAlias = NDArray[np.float64]
Codes: TypeAlias = NDArray[np.int64]

SHARES = tuple(float(share) for share in np.linspace(0.20, 0.96, 12))
"""Fraction of the unlabelled cells that are learned from in each round."""
LABELLED, UNLABELLED = 2.0, 0.5
"""Weights of a labelled cell, and of one with a label of its own."""
STARTS = (None, 0.1, 0.3, 0.5, 0.7, 0.9)
"""Prevalences to run self-training from; None: estimated in every round."""
STRENGTH = 10.0
"""Inverse strength of the regularisation (scikit-learn's ``C``), for components of which the first has variance 1."""


class Line(NamedTuple):
    """A linear score: ``points @ coefficients + intercept``."""

    coefficients: Floats
    intercept: float

    def __call__(self, points: Floats) -> Floats:
        """Return the scores of cells [cells]."""
        return np.asarray(points @ self.coefficients + self.intercept)


def regression(points: Floats, codes: Codes, weights: Floats | None = None, strength: float = STRENGTH) -> Line:
    """Return a logistic regression on points [cells, components]; codes are 1 sensitive, 0 resistant."""
    solver = "newton-cholesky" if len(points) > points.shape[1] else "lbfgs"
    model = LogisticRegression(C=strength, solver=solver, max_iter=1000).fit(points, codes, sample_weight=weights)
    return Line(np.asarray(model.coef_[0], np.float64), float(model.intercept_[0]))


def self_train(
    points: Floats, labelled: Codes, codes: Codes, *, prior: float | None = None, strength: float = STRENGTH
) -> Line:
    """Learn from labelled and unlabelled cells.

    Parameters
    ----------
    points
        Components of all cells [cells, components].
    labelled
        Indices of the labelled cells, of both kinds.
    codes
        Their labels: 1 sensitive, 0 resistant.
    prior
        Fraction of sensitive cells; None: it is estimated.
    strength
        Inverse strength of the regularisation.
    """
    line = regression(points[labelled], codes, strength=strength)
    rest = np.setdiff1d(np.arange(len(points)), labelled)
    if not len(rest):
        return line
    for share in SHARES:
        scores = line(points)
        prevalence = fit_mixture(scores, labelled, codes, prior).prevalence
        order = rest[np.argsort(-scores[rest], kind="stable")]
        sensitive = max(1, round(share * prevalence * len(rest)))
        resistant = max(1, round(share * (1 - prevalence) * len(rest)))
        learned = np.concatenate([labelled, order[:sensitive], order[::-1][:resistant]])
        called = np.concatenate([codes, np.ones(sensitive, np.int64), np.zeros(resistant, np.int64)])
        weights = np.where(np.arange(len(learned)) < len(labelled), LABELLED, UNLABELLED)
        line = regression(points[learned], called, weights, strength)
    return line


def best_of_starts(points: Floats, labelled: Codes, codes: Codes) -> Line:
    """Return the run of :func:`self_train` from one of :data:`STARTS` whose scores a mixture of two fits best.

    The prevalence of a start only sets how many cells are learned from; the mixture estimates it anew.
    """
    runs = [self_train(points, labelled, codes, prior=start) for start in STARTS]
    gains = [fit_mixture(run(points), labelled, codes).gain for run in runs]
    return runs[int(np.argmax(gains))]
