"""Conformal intervals over lines (hierarchical conformal prediction).

The responses of one line are dependent; lines are exchangeable. Every calibration line therefore has the same weight,
spread evenly over its pairs, and the new line has the weight of one more line, at infinity (Lee, Barber & Willett 2023,
"Distribution-free inference with hierarchical data", equation 7; the pooled method of Dunn, Wasserman & Ramdas 2022).
An interval is prediction ± factor x spread, the spread being that of the Gaussian of residuals given the drugs that
were measured; the factor is the quantile of |residual| / spread of left-out lines.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cell_lm.tasks.response.gaussian import condition

Floats = NDArray[np.float64]

REVEALED = (0, 1, 2, 5, 10, 20, 50, 100, 180)
"""Numbers of measured drugs for which factors are calibrated; others are interpolated."""

FEWEST_LINES, FEWEST_SHARE = 10, 0.25
"""Lines with so many measured drugs, and their share of all, below which no factor is calibrated for that number."""


def conformal_factor(scores: Floats, lines: NDArray[np.int64], confidence: float) -> float:
    """Return the factor that covers a pair of a new line with this probability.

    Parameters
    ----------
    scores
        |residual| / spread of the pairs of left-out lines.
    lines
        The line of each pair, as an integer.
    confidence
        Such as .9.

    Returns
    -------
    float
        The weighted quantile; the largest score where there are too few lines for the confidence.
    """
    _, codes, sizes = np.unique(lines, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    weight = 1.0 / sizes[codes][order] / (len(sizes) + 1)
    place = int(np.searchsorted(np.cumsum(weight), confidence - 1e-12))
    return float(scores[order[min(place, len(order) - 1)]])


def calibrate(
    residuals: Floats,
    covariances: Sequence[tuple[NDArray[np.bool_], Floats]],
    *,
    confidence: float,
    seed: int = 0,
    revealed: Sequence[int] = REVEALED,
    most_lines: int = 200,
) -> dict[int, float]:
    """Return the factor for every number of measured drugs.

    Parameters
    ----------
    residuals
        Standardised, of left-out lines [lines, drugs]; NaN where not measured.
    covariances
        Pairs of a mask of lines and the covariance that was estimated without them.
    confidence
        Such as .9.
    seed
        Seed of which drugs count as measured.
    revealed
        Numbers of measured drugs.
    most_lines
        Lines per number, to bound the time.
    """
    factors, rng = dict[int, float](), np.random.default_rng(seed)
    for number in revealed:
        scores, lines, tried = list[Floats](), list[NDArray[np.int64]](), 0
        for mask, covariance in covariances:
            rows = rng.permutation(np.flatnonzero(mask))[: max(1, most_lines // len(covariances))]
            tried += len(rows)
            for row in rows:
                seen = np.flatnonzero(np.isfinite(residuals[row]))
                if len(seen) < number + 2:
                    continue
                given = np.full(residuals.shape[1], np.nan)
                shown = rng.permutation(seen)[:number]
                given[shown] = residuals[row, shown]
                hidden = np.setdiff1d(seen, shown)
                found = condition(covariance, given)
                scores.append(np.abs(residuals[row, hidden] - found.mean[hidden]) / found.spread[hidden])
                lines.append(np.full(len(hidden), row))
        if len(scores) >= max(FEWEST_LINES, FEWEST_SHARE * tried):  # few lines of many drugs give a poor quantile
            factors[number] = conformal_factor(np.concatenate(scores), np.concatenate(lines), confidence)
    return factors


def factor_for(factors: dict[int, float], measured: int) -> float:
    """Return the factor for a number of measured drugs, interpolated between the calibrated ones."""
    numbers = sorted(factors)
    return float(np.interp(np.log1p(measured), np.log1p(numbers), [factors[number] for number in numbers]))
