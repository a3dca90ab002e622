"""Prevalence and calibration from scores that few cells have labels for: a mixture of two normal distributions.

The scores of sensitive and of resistant cells are taken as normal with one common variance, so that the probability of
being sensitive is a logistic function of the score and keeps its order. Mixture and prevalence are estimated by
expectation-maximisation (Dempster, Laird & Rubin 1977) over all cells, in which labelled cells keep their label; the
prevalence has a prior of one further cell of each kind.

Where an encoder was trained on the labels, the scores of the labelled cells are too far apart: these cells then count
for the prevalence alone, and means and variance are those of the others.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

Floats: TypeAlias = NDArray[np.float64]

_STEPS, _TOLERANCE = 100, 1e-4
_TINY = 1e-9
_EDGE = 1e-3
"""Least prevalence of either kind."""


class Mixture(NamedTuple):
    """Two normal distributions of one variance.

    Attributes
    ----------
    prevalence : float
        Fraction of sensitive cells.
    slope, intercept : float
        The logit of being sensitive is ``slope * score + intercept``.
    separation : float
        Distance of the means in standard deviations.
    gain : float
        Log likelihood per cell (of labelled cells under their own distribution) above that of one normal distribution.
    """

    prevalence: float
    slope: float
    intercept: float
    separation: float
    gain: float


def share_of(codes: NDArray[np.int64]) -> float:
    """Return the fraction of sensitive cells (code 1) among labelled ones, with one further cell of each kind."""
    return float((codes.sum() + 1) / (len(codes) + 2))


def fit_mixture(
    scores: Floats,
    labelled: NDArray[np.int64],
    codes: NDArray[np.int64],
    prior: float | None = None,
    *,
    trained: bool = False,
) -> Mixture:
    """Fit the mixture.

    Parameters
    ----------
    scores
        One per cell, higher for sensitive cells.
    labelled
        Indices of the labelled cells.
    codes
        Their labels: 1 sensitive, 0 resistant.
    prior
        The prevalence; None: it is estimated.
    trained
        An encoder was trained on the labels. There must be cells without one.
    """
    prevalence = share_of(codes) if prior is None else float(np.clip(prior, _EDGE, 1 - _EDGE))
    chance = (scores > np.quantile(scores, 1 - prevalence)).astype(np.float64)
    chance[labelled] = codes
    counted = np.ones(len(scores))
    counted[labelled] = 0.0 if trained else 1.0
    means, variance = _moments(scores, chance, counted)
    for _ in range(_STEPS):
        if prior is None:
            prevalence = float(np.clip((chance.sum() + 1) / (len(scores) + 2), _EDGE, 1 - _EDGE))
        slope, intercept = _line(means, variance, prevalence)
        again = np.asarray(expit(np.clip(slope * scores + intercept, -40, 40)))
        again[labelled] = codes
        settled = float(np.abs(again - chance).max()) < _TOLERANCE
        chance = again
        means, variance = _moments(scores, chance, counted)
        if settled:
            break
    slope, intercept = _line(means, variance, prevalence)
    separation = float((means[1] - means[0]) / np.sqrt(variance))
    gain = _gain(scores, labelled, codes, (means, variance, prevalence))
    return Mixture(prevalence, slope, intercept, separation, gain)


def _gain(
    scores: Floats,
    labelled: NDArray[np.int64],
    codes: NDArray[np.int64],
    mixture: tuple[tuple[float, float], float, float],
) -> float:
    """Return the log likelihood per cell above that of one normal distribution."""
    means, variance, prevalence = mixture
    shares = np.array([1 - prevalence, prevalence])
    logs = np.log(shares) - (scores[:, None] - np.array(means)) ** 2 / (2 * variance)
    each = np.logaddexp(logs[:, 0], logs[:, 1])
    each[labelled] = logs[labelled, codes]
    single = -0.5 - 0.5 * np.log(float(scores.var()) + _TINY)
    return float(each.mean() - 0.5 * np.log(variance) - single)


def _moments(scores: Floats, chance: Floats, counted: Floats) -> tuple[tuple[float, float], float]:
    """Return the means of resistant and sensitive cells, and the common variance, of the cells that count."""
    weights = np.stack([1 - chance, chance]) * counted
    sizes = np.maximum(weights.sum(axis=1), _TINY)
    means = weights @ scores / sizes
    variance = float((weights * (scores - means[:, None]) ** 2).sum() / counted.sum()) + _TINY
    return (float(means[0]), float(means[1])), variance


def _line(means: tuple[float, float], variance: float, prevalence: float) -> tuple[float, float]:
    """Return slope and intercept of the logit of being sensitive (linear discriminant analysis in one dimension)."""
    slope = (means[1] - means[0]) / variance
    return slope, float(logit(prevalence)) - slope * (means[0] + means[1]) / 2
