r"""Residuals of a line over all drugs as one Gaussian: what a few measured drugs say about the others.

Around its prediction from expression, the standardised response row of a line is Gaussian with one covariance between
drugs. It is estimated from rows with gaps by a few EM steps (Little & Rubin 2002, section 11.2). There are about as
many lines as free parameters, so that every step draws the estimate :math:`E` of *n* lines to a model with few factors:

.. math:: \Sigma = \frac{n E + \nu P}{n + \nu}

:math:`P` has the variances of :math:`E`, and of its correlations only what the :data:`FACTORS` leading eigenvectors
explain; :math:`\nu` is twice the number of drugs. This is the form of an estimate under an inverse Wishart prior,
but for :math:`P`, which comes from the same lines. Given the drugs that were measured in a line, the rest follows
exactly (conditional Gaussian).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Floats = NDArray[np.float64]

STEPS, FACTORS, PRIOR = 5, 10, 2.0
"""EM steps, factors of the prior, and its weight in lines per drug; chosen on validation pairs of known lines."""
_DRUGS_PER_FACTOR = 4
_RIDGE = 1e-6


class Conditional(NamedTuple):
    """Mean and standard deviation of each drug given the measured ones, float64 [drugs]."""

    mean: Floats
    spread: Floats


def fit_covariance(residuals: Floats, *, steps: int = STEPS, factors: int = FACTORS, prior: float = PRIOR) -> Floats:
    """Return the covariance between drugs, float64 [drugs, drugs], positive definite.

    Parameters
    ----------
    residuals
        Measured minus predicted, standardised [lines, drugs]; NaN where not measured. Those of lines that the
        prediction did not learn from.
    steps
        EM steps.
    factors
        Of the model to which the estimate is drawn; at most one for four drugs.
    prior
        Weight of that model, in lines per drug.
    """
    lines, drugs = residuals.shape
    seen = np.isfinite(residuals)
    variance = np.nansum(np.where(seen, residuals, 0.0) ** 2, axis=0) / np.maximum(seen.sum(axis=0), 1)
    covariance = np.diag(np.maximum(variance, _RIDGE))
    factors, weight = min(factors, drugs // _DRUGS_PER_FACTOR), prior * drugs
    for _ in range(1 if seen.all() else steps):
        found = _em_step(residuals, seen, covariance)
        covariance = (lines * found + weight * _with_factors(found, factors)) / (lines + weight)
    covariance[np.diag_indices(drugs)] += _RIDGE
    return covariance


def _with_factors(covariance: Floats, factors: int) -> Floats:
    """Return a covariance with the same variances, and of the correlations what so many eigenvectors explain."""
    spread = np.sqrt(np.maximum(np.diag(covariance), _RIDGE))
    values, vectors = np.linalg.eigh(covariance / np.outer(spread, spread))
    leading = slice(len(values) - factors, None)
    correlation = (vectors[:, leading] * np.maximum(values[leading], 0.0)) @ vectors[:, leading].T
    correlation[np.diag_indices_from(correlation)] = 1.0
    return np.asarray(correlation * np.outer(spread, spread))


def _em_step(residuals: Floats, seen: NDArray[np.bool_], covariance: Floats) -> Floats:
    """Return the mean of the expected outer products of the completed rows."""
    filled, spare = np.where(seen, residuals, 0.0), np.zeros_like(covariance)
    for row in range(len(residuals)):
        known, gaps = np.flatnonzero(seen[row]), np.flatnonzero(~seen[row])
        if not len(gaps):
            continue
        if not len(known):
            spare += covariance
            continue
        gain, between = _gain(covariance, known, gaps)
        filled[row, gaps] = gain @ residuals[row, known]
        spare[np.ix_(gaps, gaps)] += covariance[np.ix_(gaps, gaps)] - gain @ between
    return np.asarray((filled.T @ filled + spare) / len(residuals))


def _gain(covariance: Floats, known: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return cov(wanted, known) cov(known)^-1 [wanted, known], and cov(known, wanted)."""
    own = covariance[np.ix_(known, known)].copy()
    own[np.diag_indices_from(own)] += _RIDGE
    between = covariance[np.ix_(known, wanted)]
    return np.asarray(linalg.solve(own, between, assume_a="pos").T), between


def condition(covariance: Floats, residual: Floats) -> Conditional:
    """Return the distribution of the residuals of one line, given those that were measured.

    Parameters
    ----------
    covariance
        Of :func:`fit_covariance`.
    residual
        [drugs], NaN where not measured.

    Returns
    -------
    Conditional
        For a measured drug the distribution of a new measurement given the *other* measured drugs is not what is
        wanted, so that its mean is the measured residual and its spread 0.
    """
    known, wanted = np.flatnonzero(np.isfinite(residual)), np.flatnonzero(~np.isfinite(residual))
    mean, spread = np.where(np.isfinite(residual), residual, 0.0), np.zeros(len(residual))
    variance = np.diag(covariance)
    if not len(known):
        return Conditional(mean, np.sqrt(variance))
    gain, between = _gain(covariance, known, wanted)
    mean[wanted] = gain @ residual[known]
    left = variance[wanted] - np.einsum("ij,ji->i", gain, between)
    spread[wanted] = np.sqrt(np.maximum(left, 0.01 * variance[wanted]))
    return Conditional(mean, spread)
