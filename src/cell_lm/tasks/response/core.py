"""The whole model on arrays: lines from their vectors, lines with measured drugs, and drugs never measured.

:class:`~cell_lm.tasks.response.regressor.DrugResponseRegressor` reads files and names around it; benchmarks call it
directly. All matrices are [lines, drugs], responses in their own unit unless said to be standardised (per drug).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import ConfigError
from cell_lm.tasks.estimator import Fitted
from cell_lm.tasks.response import packing
from cell_lm.tasks.response.conformal import REVEALED, calibrate, conformal_factor, factor_for
from cell_lm.tasks.response.drugs import LEAST_DRUGS, TREES, DrugModel, Structures
from cell_lm.tasks.response.gaussian import condition, fit_covariance
from cell_lm.tasks.response.impute import DrugScale, drug_scale, soft_impute
from cell_lm.tasks.response.lines import RIDGES, LineModel, fit_lines, left_out_predictions, line_folds
from cell_lm.tasks.response.unfinished import Parts

Floats = NDArray[np.float64]
Progress = Callable[[int], None] | None

DRUG_FOLDS, CALIBRATION_FOLDS = 5, 5
LEAST_LINES = 10
"""Fewest lines for a fit."""
_KINDS = ("known_line", "new_line")


class Predicted(NamedTuple):
    """Predicted responses, float64 [lines, drugs] each."""

    mean: Floats
    """In the unit of the responses."""
    half: Floats
    """Half the width of the interval; 0 for a pair that was measured."""


@dataclass(frozen=True, eq=False)
class ColdDrugs:
    """What predicts drugs that were never measured.

    Attributes
    ----------
    model : DrugModel
        Of the drugs with a structure.
    columns : ndarray
        int64: their columns.
    known_line, new_line : float
        Conformal factors over drugs, for lines of the fit and for new ones.
    """

    model: DrugModel
    columns: NDArray[np.int64]
    known_line: float
    new_line: float


@dataclass(frozen=True, eq=False)
class ResponseModel:
    """A fitted model.

    Attributes
    ----------
    scale : DrugScale
        Mean and spread of each drug.
    lines : LineModel
        From vectors to standardised responses.
    left_out : ndarray
        Standardised prediction for each line of the fit from a model that was fitted without it.
    residuals : ndarray
        Standardised measured responses minus ``left_out``; NaN where not measured.
    covariance : ndarray
        Of the residuals, between drugs.
    factors : dict
        Conformal factor by number of measured drugs.
    cold : ColdDrugs or None
        For drugs never measured, if there are enough structures.
    """

    scale: DrugScale
    lines: LineModel
    left_out: Floats
    residuals: Floats
    covariance: Floats
    factors: Mapping[int, float]
    cold: ColdDrugs | None = None

    @property
    def standardised(self) -> Floats:
        """Standardised measured responses of the fit; NaN where not measured."""
        return self.left_out + self.residuals

    def predict(self, features: Floats, measured: Floats | None = None) -> Predicted:
        """Predict new lines.

        Parameters
        ----------
        features
            Vectors of the lines [lines, features]; NaN: missing.
        measured
            Their measured responses [lines, drugs], NaN where there is none; None: none at all.
        """
        expected = self.lines.predict(features)
        nothing = np.full(expected.shape, np.nan)
        given = nothing if measured is None else self.scale.standardise(measured) - expected
        return self._conditioned(expected, given)

    def predict_known(self, rows: NDArray[np.int64] | None = None, more: Floats | None = None) -> Predicted:
        """Predict lines of the fit, given all that was measured in them.

        Parameters
        ----------
        rows
            Which lines; None: all.
        more
            Further measured responses of these lines, which replace those of the fit; NaN where there is none.
        """
        chosen = np.arange(len(self.left_out)) if rows is None else rows
        given = self.residuals[chosen]
        if more is not None:
            given = np.where(np.isfinite(more), self.scale.standardise(more) - self.left_out[chosen], given)
        return self._conditioned(self.left_out[chosen], given)

    def predict_drugs(self, known: Predicted, new: Structures, *, new_lines: bool) -> Predicted:
        """Predict drugs that were never measured, in lines whose responses to the known drugs are given.

        Parameters
        ----------
        known
            Of :meth:`predict` or :meth:`predict_known`.
        new
            Structures of the new drugs.
        new_lines
            Whether the lines are not among those of the fit, for the width of the intervals.

        Raises
        ------
        ConfigError
            This version of RDKit has other descriptors than that of the fit.
        """
        if self.cold is None:
            raise ValueError("no structures were known in the fit")
        have, need = (each.descriptors.shape[1] for each in (new, self.cold.model.structures))
        if have != need:
            found = f"RDKit has {have} descriptors here, and the model learned from {need}"
            raise ConfigError(
                found, where="new drugs", fix="Install the version of RDKit it was fitted with, or fit anew"
            )
        standardised = self.scale.standardise(known.mean)
        mean, spread = cold_prediction(self.cold.model, standardised, self.cold.columns, new)
        factor = self.cold.new_line if new_lines else self.cold.known_line
        return Predicted(mean, np.broadcast_to(factor * spread, mean.shape).copy())

    def _conditioned(self, expected: Floats, given: Floats) -> Predicted:
        mean, half = np.empty_like(expected), np.empty_like(expected)
        for row in range(len(expected)):
            found = condition(self.covariance, given[row])
            factor = factor_for(dict(self.factors), int(np.isfinite(given[row]).sum()))
            mean[row] = expected[row] + found.mean
            half[row] = factor * found.spread
        return Predicted(self.scale.restore(mean), half * self.scale.spread)


def cold_prediction(
    model: DrugModel, standardised: Floats, columns: NDArray[np.int64], new: Structures
) -> tuple[Floats, Floats]:
    """Return mean [lines, new drugs] and spread [new drugs] of drugs never measured.

    Parameters
    ----------
    model
        Of the drugs in ``columns``.
    standardised
        Responses of the lines to all known drugs, without gaps.
    columns
        The drugs of ``model``.
    new
        Structures of the new drugs.
    """
    level = standardised.mean(axis=1, keepdims=True)
    profile = (standardised[:, columns] - level) @ model.weights(new).T
    spread = model.spread(new)
    return model.mean(new) + spread * (level + profile), spread


def fit_response_model(
    features: Floats,
    responses: Floats,
    *,
    structures: Structures | None = None,
    with_structure: NDArray[np.bool_] | None = None,
    members: int = 4,
    folds: int = 5,
    confidence: float = 0.9,
    parts: tuple[str, ...] = RIDGES,
    trees: int = TREES,
    graphs: bool = False,
    seed: int = 0,
    progress: Progress = None,
    done: Parts | None = None,
) -> ResponseModel:
    """Fit all parts.

    Parameters
    ----------
    features
        Vectors of the lines [lines, features].
    responses
        [lines, drugs], NaN where not measured; every drug and every line has at least one.
    structures, with_structure
        Structures of the drugs that have one, and which these are, bool [drugs].
    members
        Networks in the ensemble; 0: none.
    folds
        Folds in which lines are left out for residuals and intervals.
    confidence
        Of the intervals.
    parts
        The ridges to fit, for comparisons.
    trees
        Trees in each forest.
    graphs
        Train the graph encoder of molecules, where graphs are known.
    seed
        Seed of folds, networks and forests.
    progress
        Called with 1 after every part: ``folds`` + 3 in all.
    done
        Where parts that are done are kept, so that they are not computed again; None: nowhere.
    """
    done = done or Parts()
    scale = drug_scale(responses)
    left_out = scale.standardise(
        left_out_predictions(features, responses, folds=folds, seed=seed, parts=parts, progress=progress, done=done)
    )
    standardised = scale.standardise(responses)
    residuals = standardised - left_out
    found = done.part(
        "lines", lambda: packing.pack_lines(fit_lines(features, standardised, members=members, seed=seed, parts=parts))
    )
    lines = packing.unpack_lines(*found, responses.shape[1])
    _tell(progress)
    values, arrays = done.part("intervals", partial(_calibrated, residuals, confidence, seed))
    _tell(progress)
    cold = None
    if structures is not None and with_structure is not None and len(structures) >= LEAST_DRUGS:
        columns = np.flatnonzero(with_structure)
        cold = _fit_cold(responses, left_out, scale, structures, columns, confidence, trees, seed, done)
        if graphs and structures.graphs:
            packed = done.part("graphs", lambda: packing.pack_graphs(cold.model.graph_correction()))
            cold.model.correction = packing.unpack_graphs(*packed)
    _tell(progress)
    return ResponseModel(
        scale, lines, left_out, residuals, arrays["covariance"], packing.unpack_factors(values["factors"]), cold
    )


def _calibrated(residuals: Floats, confidence: float, seed: int) -> Fitted:
    """Return the covariance of all lines, and factors: each fold of lines is scored by the covariance of the others."""
    number = line_folds(len(residuals), CALIBRATION_FOLDS, seed + 1)
    covariances = [(number == fold, fit_covariance(residuals[number != fold])) for fold in range(CALIBRATION_FOLDS)]
    factors = calibrate(residuals, covariances, confidence=confidence, seed=seed, revealed=REVEALED)
    return Fitted({"factors": packing.pack_factors(factors or {0: 1.96})}, {"covariance": fit_covariance(residuals)})


def _fit_cold(
    responses: Floats,
    left_out: Floats,
    scale: DrugScale,
    structures: Structures,
    columns: NDArray[np.int64],
    confidence: float,
    trees: int,
    seed: int,
    done: Parts,
) -> ColdDrugs:
    """Fit the model of new drugs; its factors come from drugs left out in folds."""
    standardised = scale.standardise(responses)
    number = line_folds(len(columns), min(DRUG_FOLDS, len(columns) // 2), seed)

    def scores(fold: int) -> Fitted:
        rest, test = np.flatnonzero(number != fold), np.flatnonzero(number == fold)
        filled = soft_impute(standardised[:, columns[rest]])
        model = _drug_model(structures[rest], scale, columns[rest], filled, trees, seed)
        found = dict[str, Floats]()
        for lines, known in zip(_KINDS, (filled, left_out[:, columns[rest]]), strict=True):
            mean, spread = cold_prediction(model, known, np.arange(len(rest)), structures[test])
            found[lines] = np.abs(responses[:, columns[test]] - mean) / spread
        return Fitted({}, found)

    folds = [done.part(f"drug-fold-{fold}", partial(scores, fold)).arrays for fold in range(int(number.max()) + 1)]
    filled = soft_impute(standardised)
    whole = _drug_model(structures, scale, columns, filled[:, columns], trees, seed)
    factors = [_over_drugs(np.hstack([fold[lines] for fold in folds]), confidence) for lines in _KINDS]
    return ColdDrugs(whole, columns, *factors)


def _drug_model(
    structures: Structures, scale: DrugScale, columns: NDArray[np.int64], filled: Floats, trees: int, seed: int
) -> DrugModel:
    profiles = (filled - filled.mean(axis=1, keepdims=True)).T
    return DrugModel(structures, scale.mean[columns], scale.spread[columns], profiles, trees=trees, seed=seed)


def _over_drugs(scores: Floats, confidence: float) -> float:
    """Return the conformal factor with drugs as the exchangeable unit."""
    seen = np.isfinite(scores)
    drugs = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return conformal_factor(scores[seen], drugs[seen], confidence)


def _tell(progress: Progress) -> None:
    if progress is not None:
        progress(1)
