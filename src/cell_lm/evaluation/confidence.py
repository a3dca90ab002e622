"""Whether confidence can be trusted: reliability by confidence, and the error among the most confident cells."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating]

BINS = 10
COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


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


def reliability(confidence: Floats, right: NDArray[np.bool_], *, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Return accuracy by confidence, in bins of equal width.

    Parameters
    ----------
    confidence
        Probability of the predicted label, [cells].
    right
        Whether it is the true one, bool [cells].
    bins
        Number of bins over 0 to 1, closed on the right.
    """
    place = np.clip(np.ceil(np.asarray(confidence, np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)
    found = []
    for number in range(bins):
        inside = place == number
        cells = int(inside.sum())
        means = (float(confidence[inside].mean()), float(right[inside].mean())) if cells else (float("nan"),) * 2
        found.append(ReliabilityBin(number / bins, (number + 1) / bins, cells, *means))
    return tuple(found)


def risk_coverage(
    confidence: Floats, right: NDArray[np.bool_], *, coverages: tuple[float, ...] = COVERAGES
) -> tuple[Risk, ...]:
    """Return the error among the most confident cells, for several fractions of the cells.

    Parameters
    ----------
    confidence, right
        As :func:`reliability`.
    coverages
        Fractions of the cells to keep, above 0 and up to 1; at least one cell is kept.
    """
    order = np.argsort(-np.asarray(confidence, np.float64), kind="stable")
    wrong = np.cumsum(~right[order])
    found = []
    for coverage in coverages:
        kept = max(1, round(coverage * len(order)))
        found.append(Risk(coverage, float(confidence[order[kept - 1]]), float(wrong[kept - 1] / kept)))
    return tuple(found)
