r"""Stacking: one prediction from several, each weighted by what it contributes to cells that none was fitted on.

The prediction is :math:`\mathrm{softmax}(\sum_v w_v \log p_v)` with weights of at least 0 (a logarithmic opinion pool;
Wolpert 1992, Stacked generalization). The weights minimise the mean log loss of the left-out cells, each class with the
same weight, plus a penalty on their distance from equal weights that matters for some hundred cells:

.. math:: \mathrm{loss}(w) + \frac{\kappa}{n} \sum_v (w_v - 1/V)^2

Their sum is free, and acts as the inverse of a temperature, so the pool is calibrated, too.

A method can be given a fixed *share*: left-out cells of the same experiment cannot show what it is worth on cells of
another one. The others are pooled without it, its own temperature is fitted, the log-probabilities of both are mixed in
this proportion, and the temperature of the mixture is fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from cell_lm.evaluation.calibration import log_softmax
from cell_lm.evaluation.linear_head import LeftOut

Floats: TypeAlias = NDArray[np.float64]

PULL = 20.0
"""Kappa: equal weights count about as much as this many left-out cells per unit of squared distance."""
_LARGEST = 3.0


class Fixed(NamedTuple):
    """A method whose share of the pool is given, not fitted."""

    view: int
    """Its place among the methods."""
    share: float
    """From 0 to 1."""


def fit_weights(
    views: Sequence[LeftOut], codes: NDArray[np.int64], *, pull: float = PULL, fixed: Fixed | None = None
) -> Floats:
    """Return the weights of predictions.

    Parameters
    ----------
    views
        Predictions of each method for the same left-out cells in the same order.
    codes
        int64: the class of every training cell, of which :attr:`LeftOut.cells` are indices.
    pull
        The strength of the penalty; see the module.
    fixed
        A method whose share is given; None: none.

    Returns
    -------
    ndarray
        float64 [views], 0 or more.
    """
    logs = np.stack([view.log_probabilities for view in views])
    truth = codes[views[0].cells]
    return _weights(logs, truth, pull, fixed)


def left_out_of_pool(
    views: Sequence[LeftOut], codes: NDArray[np.int64], *, pull: float = PULL, fixed: Fixed | None = None
) -> LeftOut:
    """Return the predictions of the pool for the left-out cells of each fold, its weights from the other folds."""
    first, truth = views[0], codes[views[0].cells]
    logs = np.stack([view.log_probabilities for view in views])
    pooled = np.empty_like(first.log_probabilities)
    folds = np.unique(first.folds)
    for fold in folds:
        here = first.folds == fold
        others = ~here if len(folds) > 1 else here
        pooled[here] = pool(logs[:, here], _weights(logs[:, others], truth[others], pull, fixed))
    return LeftOut(first.cells, first.folds, pooled)


def pool(log_probabilities: Floats, weights: Floats) -> Floats:
    """Return log-probabilities [cells, classes] of views [views, cells, classes]."""
    return log_softmax(np.tensordot(weights, log_probabilities, 1))


def _weights(logs: Floats, truth: NDArray[np.int64], pull: float, fixed: Fixed | None) -> Floats:
    if fixed is None or len(logs) == 1:
        return _fitted(logs, truth, pull)
    alone = np.arange(len(logs)) == fixed.view
    weights = np.empty(len(logs))
    for chosen, share in ((alone, fixed.share), (~alone, 1.0 - fixed.share)):
        weights[chosen] = share * _fitted(logs[chosen], truth, pull)
    return np.asarray(weights * _fitted(pool(logs, weights)[None], truth, pull))


def _fitted(logs: Floats, truth: NDArray[np.int64], pull: float) -> Floats:
    views, cells = logs.shape[:2]
    _, places, sizes = np.unique(truth, return_inverse=True, return_counts=True)
    share = 1.0 / sizes[places] / len(sizes)
    true = np.take_along_axis(logs, truth[None, :, None], 2)[..., 0]
    even = 1.0 / views

    def loss(weights: Floats) -> tuple[float, Floats]:
        log = pool(logs, weights)
        expected = (np.exp(log) * logs).sum(-1)
        value = -float(share @ np.take_along_axis(log, truth[:, None], 1)[:, 0])
        away = weights - even
        return value + pull / cells * float(away @ away), (expected - true) @ share + 2 * pull / cells * away

    start = np.full(views, even)
    found = minimize(loss, start, jac=True, bounds=[(0.0, _LARGEST)] * views, method="L-BFGS-B")
    return np.asarray(found.x, np.float64)
