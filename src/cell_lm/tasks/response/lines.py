"""Predict the standardised responses of lines from their vectors: both ridges, and the network if there is one.

The blend is .5 low-rank + .25 gene-weighted + .25 network, or 2/3 and 1/3 without a network. Both ridges are linear, so
that they are kept as one matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cell_lm.tasks.estimator import Fitted
from cell_lm.tasks.response.impute import drug_scale, soft_impute
from cell_lm.tasks.response.network import Network, fit_network
from cell_lm.tasks.response.ridge import fit_gene_weighted, fit_low_rank
from cell_lm.tasks.response.unfinished import Parts

Floats = NDArray[np.float64]

SHARES = {"low rank": 0.5, "gene-weighted": 0.25, "network": 0.25}
"""Shares of the three parts in the blend."""
RIDGES = ("low rank", "gene-weighted")


@dataclass(frozen=True, eq=False)
class LineModel:
    """From the vectors of lines to standardised responses.

    Attributes
    ----------
    centre, spread : ndarray
        Mean and standard deviation of each feature over the lines of the fit, float64 [features].
    weights : ndarray
        float64 [features, drugs]: the blend of both ridges.
    intercept : ndarray
        float64 [drugs].
    network : Network or None
        The network.
    """

    centre: Floats
    spread: Floats
    weights: Floats
    intercept: Floats
    network: Network | None = None

    def standardise(self, features: Floats) -> Floats:
        """Return features with mean 0 and variance 1 over the lines of the fit; a missing one (NaN) is 0."""
        return np.nan_to_num((features - self.centre) / self.spread, nan=0.0)

    def predict(self, features: Floats) -> Floats:
        """Return standardised responses, float64 [lines, drugs]."""
        own = self.standardise(features)
        ridges = own @ self.weights + self.intercept
        if self.network is None:
            return np.asarray(ridges)
        share = SHARES["network"]
        return np.asarray((1 - share) * ridges + share * self.network.predict(own))


def feature_scale(features: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of each feature; one that does not vary gets an infinite deviation."""
    spread = features.std(axis=0)
    return features.mean(axis=0), np.where(spread > 1e-9, spread, np.inf)


def fit_lines(
    features: Floats,
    standardised: Floats,
    *,
    members: int = 0,
    seed: int = 0,
    parts: tuple[str, ...] = RIDGES,
    progress: Callable[[int], None] | None = None,
) -> LineModel:
    """Fit both ridges and, with ``members``, the network.

    Parameters
    ----------
    features
        Vectors of the lines [lines, features], without gaps.
    standardised
        Standardised responses [lines, drugs], NaN where not measured.
    members
        Networks in the ensemble; 0: none.
    seed
        Seed of the network.
    parts
        The ridges to fit, for comparisons.
    progress
        Called with 1 after every step of the network.
    """
    centre, spread = feature_scale(features)
    own = (features - centre) / spread
    filled, total = soft_impute(standardised), sum(SHARES[part] for part in parts)
    weights = np.zeros((features.shape[1], standardised.shape[1]))
    intercept = np.zeros(standardised.shape[1])
    if "low rank" in parts:
        weights += SHARES["low rank"] / total * fit_low_rank(own, filled)
        intercept += SHARES["low rank"] / total * filled.mean(axis=0)
    if "gene-weighted" in parts:
        weights += SHARES["gene-weighted"] / total * fit_gene_weighted(own, standardised)
    network = fit_network(own, standardised, members=members, seed=seed, progress=progress) if members else None
    return LineModel(centre, spread, weights, intercept, network)


def line_folds(lines: int, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of every line, int64 [lines], equal in size up to one."""
    number = np.empty(lines, np.int64)
    number[np.random.default_rng(seed).permutation(lines)] = np.arange(lines) % folds
    return number


def left_out_predictions(
    features: Floats,
    responses: Floats,
    *,
    folds: int,
    seed: int = 0,
    parts: tuple[str, ...] = RIDGES,
    progress: Callable[[int], None] | None = None,
    done: Parts | None = None,
) -> Floats:
    """Return what the ridges predict for every line when it is left out, in units of the responses [lines, drugs].

    Means and deviations of drugs and genes, imputation, and strengths are computed anew without the lines of the fold.
    A drug that only lines of the fold have gets the mean of all responses. Folds that are kept in ``done`` are not
    computed.
    """
    done, number = done or Parts(), line_folds(len(features), folds, seed)
    found = np.full(responses.shape, np.nan)
    for fold in range(folds):
        left_out = partial(_left_out, features, responses, number == fold, parts)
        found[number == fold] = done.part(f"fold-{fold}", left_out).arrays["predicted"]
        if progress is not None:
            progress(1)
    return found


def _left_out(features: Floats, responses: Floats, rows: NDArray[np.bool_], parts: tuple[str, ...]) -> Fitted:
    """Return what the ridges predict for some lines when these are left out [rows, drugs]."""
    rest = responses[~rows]
    known = np.isfinite(rest).any(axis=0)
    scale = drug_scale(rest[:, known])
    model = fit_lines(features[~rows], scale.standardise(rest[:, known]), parts=parts)
    predicted = np.full((int(rows.sum()), responses.shape[1]), np.nanmean(rest))
    predicted[:, known] = scale.restore(model.predict(features[rows]))
    return Fitted({}, {"predicted": predicted})
