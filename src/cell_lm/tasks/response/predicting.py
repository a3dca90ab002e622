"""Predictions of some lines as a table: which part of the model answers for which pair."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.tasks.response.core import Predicted, ResponseModel
from cell_lm.tasks.response.tables import BOTH, DRUG, GIVEN, LINE, MEASURED, WARM, long_table, structures_of

Floats = NDArray[np.float64]


class Asked(NamedTuple):
    """Lines, all of them of the fit or none, and the drugs to predict."""

    names: list[str]
    features: Floats | None
    """[lines, features]; None: lines of the fit."""
    measured: Floats | None
    """Responses measured in them [lines, drugs of the fit], NaN where there is none."""
    drugs: list[str]
    new_drugs: dict[str, str]
    """SMILES by name."""


def predict_lines(
    model: ResponseModel, asked: Asked, lines: NDArray[np.object_], drugs: NDArray[np.object_], *, of_fit: bool
) -> pd.DataFrame:
    """Return a row per line and drug.

    Parameters
    ----------
    model
        The fitted model.
    asked
        What to predict.
    lines, drugs
        Names of those of the fit, sorted.
    of_fit
        Whether the lines are those of the fit.
    """
    given, count = asked.measured, len(asked.names)
    if of_fit:
        rows = np.searchsorted(lines, np.array(asked.names, object))
        predicted, was = model.predict_known(rows, given), np.isfinite(model.residuals[rows])
    else:
        if asked.features is None:
            raise ValueError("new lines need features")
        predicted, was = model.predict(asked.features, given), np.zeros((count, len(drugs)), np.bool_)
    some = np.zeros(count, np.bool_)
    if given is not None:
        was = was | np.isfinite(given)
        some = np.asarray(np.isfinite(given).any(axis=1))
    plain = np.full(count, WARM, object) if of_fit else np.where(some, GIVEN, LINE).astype(object)
    frames = []
    if asked.drugs:
        columns = np.searchsorted(drugs, np.array(asked.drugs, object))
        known = np.where(was[:, columns], MEASURED, plain[:, None])
        chosen = Predicted(predicted.mean[:, columns], predicted.half[:, columns])
        frames.append(long_table(asked.names, asked.drugs, chosen, known))
    if asked.new_drugs:
        structures, _ = structures_of(asked.new_drugs, list(asked.new_drugs), "new_drugs", least=1)
        if structures is None:
            raise ValueError("no structure")
        cold = model.predict_drugs(predicted, structures, new_lines=not of_fit)
        kind = np.full(cold.mean.shape, DRUG if of_fit else BOTH, object)
        frames.append(long_table(asked.names, list(asked.new_drugs), cold, kind))
    return pd.concat(frames)
