"""Calibration: whether 80 % of the predictions with 80 % confidence are correct.

The expected calibration error (ECE; Guo et al. 2017, arXiv 1706.04599, equation 3) sorts cells by confidence into bins
of equal width and averages, weighted by cells, the distance between accuracy and mean confidence. The temperature (the
same paper, section 4.2) divides the logits and minimises the log loss of left-out cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from cell_lm.errors import InputError
from cell_lm.evaluation.labels import Labels, as_labels

Floats: TypeAlias = NDArray[np.float64]

BINS = 15
"""Number of bins in the paper."""
_SUMS_TO_ONE = 1e-3
_COLDEST, _HOTTEST = np.log(1e-5), np.log(50.0)
"""A strong penalty makes logits of a few thousandths, which a temperature has to undo."""


def calibration_error(
    truth: Labels,
    probabilities: ArrayLike,
    classes: Sequence[str] | NDArray[np.object_],
    *,
    bins: int = BINS,
    classwise: bool = False,
) -> float:
    """Return the expected calibration error, 0 to 1.

    Parameters
    ----------
    truth
        One label per cell. A label that is not among ``classes`` always counts as wrong.
    probabilities
        [cells, classes], rows sum to 1.
    classes
        The name of each column.
    bins
        Bins of equal width over 0 to 1, closed on the right.
    classwise
        The mean over classes of the error of each class's own probability (Nixon et al. 2019, arXiv 1904.01685, static
        calibration error) instead of that of the most probable label.

    Raises
    ------
    InputError
        Numbers of cells or classes differ, labels are missing, or rows are not probabilities.
    """
    p, true = _probabilities(probabilities), as_labels(truth, where="true labels")
    if p.shape != (len(true), len(classes)):
        found = f"probabilities of shape {p.shape} for {len(true)} cells and {len(classes)} classes"
        raise InputError(found, where="calibration error", fix="Pass one row a cell and one column a class")
    names = np.asarray(classes, dtype=object).astype(str)
    if classwise:
        return float(np.mean([_error(p[:, k], true == name, bins) for k, name in enumerate(names)]))
    top = p.argmax(axis=1)
    return _error(p[np.arange(len(p)), top], names[top] == true, bins)


def _probabilities(values: ArrayLike) -> Floats:
    p = np.asarray(values, np.float64)
    if p.ndim != 2 or not np.isfinite(p).all() or (p < 0).any() or (abs(p.sum(axis=1) - 1) > _SUMS_TO_ONE).any():
        found = "rows that are not probabilities: some are negative, missing, or do not sum to 1"
        raise InputError(found, where="calibration error", fix="Pass what predict_proba returns")
    return p


def _error(confidence: Floats, right: NDArray[np.bool_], bins: int) -> float:
    """Return the error over all cells: the sum over bins of |correct - confidence|, each a sum over the bin's cells."""
    number = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(number, right.astype(np.float64) - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def log_softmax(logits: Floats) -> Floats:
    """Return the logarithms of the probabilities of logits [..., classes]; -inf stays -inf."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)))


def best_temperature(logits: Floats, truth: NDArray[np.int64]) -> float:
    """Return the temperature that minimises the log loss, from .00001 to 50.

    One extra cell with all classes equally likely keeps it above zero where all predictions are correct.

    Parameters
    ----------
    logits
        [cells, classes], of cells left out of the fit; -inf for a class that was not there.
    truth
        The column of the class of each cell, int64.
    """
    finite = np.isfinite(logits)
    rows = np.arange(len(truth))

    def loss(log_temperature: float) -> float:
        log = log_softmax(logits / np.exp(log_temperature))
        unknown = float(np.mean(log[finite]))
        return -float(log[rows, truth].sum()) - unknown

    return float(np.exp(minimize_scalar(loss, bounds=(_COLDEST, _HOTTEST), method="bounded").x))
