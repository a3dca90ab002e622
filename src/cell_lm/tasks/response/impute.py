"""Standardised responses, and their gaps filled by soft-impute (Mazumder, Hastie & Tibshirani 2010, algorithm 1)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RANK, SHRINKAGE, ITERATIONS, TOLERANCE = 30, 4.0, 60, 1e-3
_LEAST_SPREAD = 0.05
"""Smallest standard deviation of a drug, in units of the median one: a drug that hardly varies is not blown up."""


class DrugScale(NamedTuple):
    """Mean and standard deviation of the responses to each drug, float64 [drugs]."""

    mean: Floats
    spread: Floats

    def standardise(self, responses: Floats) -> Floats:
        """Return (y - mean) / spread; NaN stays NaN."""
        return (responses - self.mean) / self.spread

    def restore(self, standardised: Floats) -> Floats:
        """Undo :meth:`standardise`."""
        return standardised * self.spread + self.mean


def drug_scale(responses: Floats) -> DrugScale:
    """Return the scale of each drug of a matrix [lines, drugs]; every drug has at least one response."""
    count = np.isfinite(responses).sum(axis=0)
    mean = np.nanmean(responses, axis=0)
    spread = np.sqrt(np.nansum((responses - mean) ** 2, axis=0) / np.maximum(count - 1, 1))
    typical = float(np.median(spread[count > 1])) if (count > 1).any() else 1.0
    typical = typical if typical > 0 else 1.0
    # a drug with few lines is drawn to the typical spread
    spread = np.sqrt((count * spread**2 + 5 * typical**2) / (count + 5))
    return DrugScale(mean, np.maximum(spread, _LEAST_SPREAD * typical))


def soft_impute(
    values: Floats, *, rank: int = RANK, shrinkage: float = SHRINKAGE, iterations: int = ITERATIONS
) -> Floats:
    """Return a matrix with its NaN filled by a low-rank matrix; observed entries are unchanged.

    Parameters
    ----------
    values
        [lines, drugs], standardised per drug.
    rank
        Largest rank of the low-rank matrix.
    shrinkage
        Subtracted from its singular values in every iteration.
    iterations
        Most iterations; it stops when the filled entries change by less than a thousandth of their norm.
    """
    missing = np.isnan(values)
    filled = np.where(missing, 0.0, values)
    if not missing.any():
        return filled
    for _ in range(iterations):
        left, singular, right = np.linalg.svd(filled, full_matrices=False)
        kept = np.maximum(singular[:rank] - shrinkage, 0.0)
        low = (left[:, :rank] * kept) @ right[:rank]
        change = np.linalg.norm(low[missing] - filled[missing])
        filled[missing] = low[missing]
        if change <= TOLERANCE * max(float(np.linalg.norm(filled[missing])), 1e-12):
            break
    return filled
