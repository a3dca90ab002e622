"""Scores, rankings and learning curves of a fitted regressor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data.opening import Data
from cell_lm.data.response.table import ResponseTable
from cell_lm.errors import InputError
from cell_lm.evaluation.regression import LEAST, ResponseScores, predict_mean_effects, response_scores
from cell_lm.tasks.response.core import ResponseModel
from cell_lm.tasks.response.tables import MEASURED


class Regressor(Protocol):
    """What scores need of a fitted :class:`~cell_lm.tasks.response.regressor.DrugResponseRegressor`."""

    lines_: NDArray[np.object_]
    drugs_: NDArray[np.object_]
    unit_: str
    model_: ResponseModel

    def predict(self, data: Data | None = None, **how: Any) -> pd.DataFrame:
        """Return the response of every line to every drug."""


def compare(
    regressor: Regressor,
    data: Data | None,
    responses: ResponseTable,
    *,
    unseen_lines: bool = False,
    measured: ResponseTable | None = None,
    **how: Any,
) -> tuple[ResponseScores, pd.DataFrame]:
    """Return scores, and predictions with ``truth``; see :meth:`DrugResponseRegressor.compare`."""
    refuse_fitted_pairs(regressor, responses, unseen_lines)
    fitted = set(regressor.drugs_)
    new = {drug: text for drug, text in responses.smiles().items() if drug not in fitted}
    known = [str(drug) for drug in responses.drugs if drug in fitted]
    table = regressor.predict(data, drugs=known, new_drugs=new, measured=measured, **how)
    truth = responses.pairs[["line", "drug", "response"]].rename(columns={"response": "truth"})
    table = table.merge(truth, on=["line", "drug"])
    table = table[table["known"] != MEASURED].reset_index(drop=True)
    if len(table) < LEAST:
        found = f"{len(table)} pairs of the table have a line with expression and a drug that can be predicted"
        raise InputError(found, where=responses.name, fix="Check that the names of lines and drugs agree")
    return _scores(regressor, table), table


def _scores(regressor: Regressor, table: pd.DataFrame) -> ResponseScores:
    """Compare, with DrEval's naive prediction from the pairs of the fit."""
    model = regressor.model_
    fitted = model.scale.restore(model.left_out + model.residuals)
    rows, columns = np.nonzero(np.isfinite(fitted))
    naive = predict_mean_effects(
        fitted[rows, columns],
        regressor.lines_[rows],
        regressor.drugs_[columns],
        of_lines=table["line"],
        of_drugs=table["drug"],
    )
    return response_scores(
        table["truth"], table["response"], lines=table["line"], drugs=table["drug"], mean_effects=naive
    )


def learning_curve(
    regressor: Regressor,
    data: Data,
    responses: ResponseTable,
    *,
    measured: Sequence[int],
    seed: int,
    **how: Any,
) -> pd.DataFrame:
    """Score new lines with more and more measured drugs; see :meth:`DrugResponseRegressor.learning_curve`."""
    known = responses.keep(responses.pairs["drug"].isin(regressor.drugs_).to_numpy())
    shuffled = known.pairs.sample(frac=1, random_state=seed)
    order = shuffled.groupby("line").cumcount().reindex(known.pairs.index).to_numpy()
    rows = []
    for number in measured:
        given = known.keep(order < number) if number else None
        scores, table = compare(regressor, data, known.keep(order >= number), unseen_lines=True, measured=given, **how)
        inside = table["truth"].between(table["low"], table["high"]).mean()
        rows.append((number, scores.pearson, scores.pearson_per_drug, scores.rmse, float(inside)))
    return pd.DataFrame(rows, columns=["measured", "pearson", "per_drug", "rmse", "inside"])


def ranked(regressor: Regressor, table: pd.DataFrame, axis: str, name: str) -> pd.DataFrame:
    """Return the rows of one line or drug with ``score``, in order."""
    own = table[table[axis] == name]
    if not len(own):
        found = f"there is no {axis} '{name}'"
        raise InputError(found, where="ranking", fix=f"Name a {axis} of the data, or check its spelling")
    mean, spread = (dict(zip(regressor.drugs_, each, strict=True)) for each in regressor.model_.scale)
    of_new = table.groupby("drug")["response"].agg(
        ["mean", "std"]
    )  # of a drug never measured: over the lines asked for
    centre = own["drug"].map(mean).fillna(own["drug"].map(of_new["mean"]))
    width = own["drug"].map(spread).fillna(own["drug"].map(of_new["std"].where(of_new["std"] > 0))).fillna(1.0)
    own = own.assign(score=(own["response"] - centre) / width)
    return own.sort_values("response" if axis == "drug" else "score", kind="stable").reset_index(drop=True)


def refuse_fitted_pairs(regressor: Regressor, responses: ResponseTable, unseen_lines: bool) -> None:
    """Refuse to score pairs of the fit and, with ``unseen_lines``, lines of the fit."""
    if responses.unit != regressor.unit_:
        found = f"the responses are {responses.unit}, those of the fit {regressor.unit_}"
        raise InputError(found, where=responses.name, fix="Give both in one unit")
    lines = sorted(set(map(str, responses.lines)) & set(map(str, regressor.lines_)))
    if unseen_lines and lines:
        found = f"{len(lines):,} lines are also in the fit, as '{lines[0]}'"
        raise InputError(found, where=responses.name, fix="Leave them out of the fit, or of this table")
    fitted = pd.DataFrame(np.isfinite(regressor.model_.residuals), index=regressor.lines_, columns=regressor.drugs_)
    both = responses.pairs["line"].isin(lines) & responses.pairs["drug"].isin(regressor.drugs_)
    rows = responses.pairs[both]
    inside = [(row.line, row.drug) for row in rows.itertuples() if fitted.at[row.line, row.drug]]
    if inside:
        found = f"{len(inside):,} of {len(responses):,} pairs were in the fit, as {inside[0][0]} x {inside[0][1]}"
        raise InputError(found, where=responses.name, fix="Score only pairs that were not in the fit")
