"""Selective annotation: how many of the most confident labels are wrong, and how confidence compares with accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cell_lm.errors import InputError
from cell_lm.evaluation.calibration import BINS
from cell_lm.evaluation.labels import Labels, as_labels

Floats: TypeAlias = NDArray[np.float64]


_ROUNDING = 1e-9


class ReliabilityBin(NamedTuple):
    """Cells whose confidence lies between two bounds, the upper one included."""

    low: float
    high: float
    cells: int
    confidence: float
    """Mean confidence; NaN without cells."""
    accuracy: float
    """Fraction that is correct; NaN without cells."""


class Risk(NamedTuple):
    """Error among the most confident cells."""

    coverage: float
    """Fraction of the cells that are kept, those of highest confidence."""
    confidence: float
    """Lowest confidence among them."""
    error: float
    """Fraction of them that is wrong."""


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """Fraction of wrong labels among the most confident ones (El-Yaniv & Wiener 2010, JMLR 11:1605).

    Attributes
    ----------
    coverage : ndarray
        float64 [thresholds], ascending to 1: fraction of the cells that keep their label.
    risk : ndarray
        float64 [thresholds]: fraction of these labels that are wrong.
    confidence : ndarray
        float64 [thresholds]: the least confidence among them, which is the threshold.
    area : float
        Mean risk when the cells are labelled from the most confident one on (AURC; Geifman et al. 2019, arXiv
        1805.08206); cells of the same confidence count together.
    """

    coverage: Floats
    risk: Floats
    confidence: Floats
    area: float

    def coverage_at(self, risk: float) -> float:
        """Return the largest coverage at which at most this fraction is wrong; 0 if there is none."""
        fits = np.flatnonzero(self.risk <= risk)
        return float(self.coverage[fits[-1]]) if len(fits) else 0.0

    def at(self, coverages: Sequence[float]) -> tuple[Risk, ...]:
        """Return the error at the first threshold that keeps each of these fractions, above 0 and up to 1."""
        places = np.searchsorted(self.coverage, np.asarray(coverages, np.float64) - _ROUNDING)
        kept = np.minimum(places, len(self.coverage) - 1)
        return tuple(
            Risk(float(asked), float(self.confidence[k]), float(self.risk[k]))
            for asked, k in zip(coverages, kept, strict=True)
        )


def risk_coverage(truth: Labels, predicted: Labels, confidence: ArrayLike) -> RiskCoverage:
    """Return the fraction of wrong labels at every threshold of the confidence.

    Parameters
    ----------
    truth, predicted
        One label per cell.
    confidence
        One number per cell, higher for more confident.

    Raises
    ------
    InputError
        Lengths differ, or labels or confidences are missing.
    """
    right, sure = _right_and_sure(truth, predicted, confidence)
    order = np.argsort(-sure, kind="stable")
    sure, wrong = sure[order], np.cumsum(~right[order])
    last = np.flatnonzero(np.append(sure[1:] != sure[:-1], True))  # cells of one confidence stay together
    kept = last + 1
    risk = wrong[last] / kept
    area = float((risk * np.diff(kept, prepend=0)).sum() / len(sure))
    return RiskCoverage(kept / len(sure), risk, sure[last], area)


def label_reliability(
    truth: Labels, predicted: Labels, confidence: ArrayLike, bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """Return accuracy by confidence.

    Bins have equal width over 0 to 1 and are closed on the right, as in
    :func:`cell_lm.evaluation.calibration.calibration_error`.

    Raises
    ------
    InputError
        As :func:`risk_coverage`, or a confidence is not between 0 and 1.
    """
    right, sure = _right_and_sure(truth, predicted, confidence)
    if (sure < 0).any() or (sure > 1).any():
        found = f"confidences from {sure.min():g} to {sure.max():g}"
        raise InputError(found, where="reliability", fix="Pass probabilities, from 0 to 1")
    number = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    sizes = np.bincount(number, minlength=bins)
    sums = (np.bincount(number, each, minlength=bins) for each in (sure, right.astype(float)))
    mean, share = (np.where(sizes, each / np.maximum(sizes, 1), np.nan) for each in sums)
    rows = zip(sizes, mean, share, strict=True)
    return tuple(
        ReliabilityBin(k / bins, (k + 1) / bins, int(n), float(m), float(a)) for k, (n, m, a) in enumerate(rows)
    )


def _right_and_sure(truth: Labels, predicted: Labels, confidence: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    true, found = as_labels(truth, where="true labels"), as_labels(predicted, where="predicted labels")
    sure = np.asarray(confidence, np.float64)
    if not true.shape == found.shape == sure.shape:
        told = f"{len(true):,} true labels, {len(found):,} predicted ones and confidences of shape {sure.shape}"
        raise InputError(told, where="confidence", fix="Pass one of each per cell")
    if not np.isfinite(sure).all():
        told = f"{int((~np.isfinite(sure)).sum()):,} of {len(sure):,} confidences are missing"
        raise InputError(told, where="confidence", fix="Leave these cells out")
    return true == found, sure
