"""Scores, rankings and learning curves of a fitted regressor."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import RegressorMixin

from cell_lm.data.opening import Data
from cell_lm.data.read_options import ReadKeywords
from cell_lm.data.response.table import ResponseTable
from cell_lm.errors import InputError
from cell_lm.evaluation.regression import LEAST, ResponseScores, predict_mean_effects, response_scores
from cell_lm.tasks.estimator import Estimator, Progress
from cell_lm.tasks.response.core import ResponseModel
from cell_lm.tasks.response.tables import MEASURED, refuse_other_unit


class ScoredRegressor(RegressorMixin, Estimator):  # type: ignore[misc]
    """Rankings, scores and learning curves, from the predictions of a subclass."""

    lines_: NDArray[np.object_]
    drugs_: NDArray[np.object_]
    unit_: str
    model_: ResponseModel

    @abstractmethod
    def predict(self, *args: Any, **options: Any) -> pd.DataFrame:
        """Return the response of every line to every drug."""

    def rank_drugs(self, data: Data | None, name: str, **options: Any) -> pd.DataFrame:
        """Return :meth:`predict` for one line, the most effective drug first.

        ``score`` is how far below the mean of the drug the response is, in standard deviations of that drug over
        lines: drugs that kill every line are not at the top for that alone. Sorted by ``score``.
        """
        return _ranked(self, self.predict(data, **options), "line", name)

    def rank_lines(self, data: Data | None, drug: str, **options: Any) -> pd.DataFrame:
        """Return :meth:`predict` for one drug, the most sensitive line first; ``score`` as in :meth:`rank_drugs`."""
        new = options.get("new_drugs") or {}
        chosen: dict[str, Any] = {"drugs": []} if drug in new else {"drugs": [drug]}
        return _ranked(self, self.predict(data, **(options | chosen)), "drug", drug)

    def evaluate(
        self,
        data: Data | None,
        responses: ResponseTable,
        *,
        line_column: str | None = None,
        unseen_lines: bool = False,
        progress: Progress = None,
        **how: Unpack[ReadKeywords],
    ) -> ResponseScores:
        """Compare predictions with responses that were not in the fit.

        Parameters
        ----------
        data
            Lines by genes; None: lines of the fit, for pairs that were not measured in it.
        responses
            Measured responses. Drugs that the fit does not have are predicted by their SMILES in this table.
        line_column
            As for :meth:`predict`.
        unseen_lines
            Refuse lines of the fit: the scores are then those for new lines.
        progress, **how
            As for :meth:`predict`.

        Raises
        ------
        InputError
            A pair was in the fit, or, with ``unseen_lines``, a line; or nothing can be compared.
        """
        return self.compare(
            data, responses, line_column=line_column, unseen_lines=unseen_lines, progress=progress, **how
        )[0]

    def compare(
        self,
        data: Data | None,
        responses: ResponseTable,
        *,
        line_column: str | None = None,
        unseen_lines: bool = False,
        progress: Progress = None,
        **how: Unpack[ReadKeywords],
    ) -> tuple[ResponseScores, pd.DataFrame]:
        """Return the scores of :meth:`evaluate` and the table behind them: that of :meth:`predict` with ``truth``."""
        return _compare(
            self, data, responses, unseen_lines=unseen_lines, line_column=line_column, progress=progress, **how
        )

    def learning_curve(
        self,
        data: Data,
        responses: ResponseTable,
        *,
        measured: Sequence[int] = (0, 1, 2, 5, 10, 20),
        seed: int = 0,
        **how: Any,
    ) -> pd.DataFrame:
        """Score new lines with more and more measured drugs, drawn at random from those of each line.

        Parameters
        ----------
        data, responses
            New lines and their responses.
        measured
            Numbers of measured drugs; the others are scored.
        seed
            Seed of the draws; a larger number includes the smaller ones.
        **how
            As for :meth:`predict`.

        Returns
        -------
        DataFrame
            ``measured``, ``pearson``, ``per_drug``, ``rmse`` and ``inside`` (fraction in the interval).

        Raises
        ------
        InputError
            As :meth:`evaluate`.
        """
        return _learning_curve(self, data, responses, measured=measured, seed=seed, **how)

    def score(self, data: Data | None, responses: ResponseTable, **how: Any) -> float:
        """Return the mean correlation within drugs of :meth:`evaluate`."""
        return self.evaluate(data, responses, **how).pearson_per_drug


def _compare(
    regressor: ScoredRegressor,
    data: Data | None,
    responses: ResponseTable,
    *,
    unseen_lines: bool = False,
    measured: ResponseTable | None = None,
    **how: Any,
) -> tuple[ResponseScores, pd.DataFrame]:
    """Return scores, and predictions with ``truth``; see :meth:`DrugResponseRegressor.compare`."""
    refuse_other_unit(responses, regressor.unit_, "the responses")
    _refuse_fitted_pairs(regressor, responses, unseen_lines)
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


def _scores(regressor: ScoredRegressor, table: pd.DataFrame) -> ResponseScores:
    """Compare, with DrEval's naive prediction from the pairs of the fit."""
    model = regressor.model_
    fitted = model.scale.restore(model.standardised)
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


def _learning_curve(
    regressor: ScoredRegressor,
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
        scores, table = _compare(regressor, data, known.keep(order >= number), unseen_lines=True, measured=given, **how)
        inside = table["truth"].between(table["low"], table["high"]).mean()
        rows.append((number, scores.pearson, scores.pearson_per_drug, scores.rmse, float(inside)))
    return pd.DataFrame(rows, columns=["measured", "pearson", "per_drug", "rmse", "inside"])


def _ranked(regressor: ScoredRegressor, table: pd.DataFrame, axis: str, name: str) -> pd.DataFrame:
    """Return the rows of one line or drug with ``score``, in order."""
    own = table[table[axis] == name]
    if not len(own):
        found = f"there is no {axis} '{name}'"
        raise InputError(found, where="ranking", fix=f"Name a {axis} of the data, or check its spelling")
    mean, spread = (dict(zip(regressor.drugs_, each, strict=True)) for each in regressor.model_.scale)
    # of a drug that was never measured: over the lines asked for
    of_new = table.groupby("drug")["response"].agg(["mean", "std"])
    centre = own["drug"].map(mean).fillna(own["drug"].map(of_new["mean"]))
    width = own["drug"].map(spread).fillna(own["drug"].map(of_new["std"].where(of_new["std"] > 0))).fillna(1.0)
    own = own.assign(score=(own["response"] - centre) / width)
    return own.sort_values("response" if axis == "drug" else "score", kind="stable").reset_index(drop=True)


def _refuse_fitted_pairs(regressor: ScoredRegressor, responses: ResponseTable, unseen_lines: bool) -> None:
    """Refuse to score pairs of the fit and, with ``unseen_lines``, lines of the fit."""
    lines = sorted(set(map(str, responses.lines)) & set(map(str, regressor.lines_)))
    if unseen_lines and lines:
        found = f"{len(lines):,} lines are also in the fit, as '{lines[0]}'"
        raise InputError(found, where=responses.name, fix="Leave them out of the fit, or of this table")
    fitted = pd.DataFrame(np.isfinite(regressor.model_.residuals), index=regressor.lines_, columns=regressor.drugs_)
    both = responses.pairs["line"].isin(lines) & responses.pairs["drug"].isin(regressor.drugs_)
    rows = responses.pairs[both]
    pairs = zip(rows["line"].astype(str), rows["drug"].astype(str), strict=True)
    inside = [(line, drug) for line, drug in pairs if fitted.at[line, drug]]
    if inside:
        found = f"{len(inside):,} of {len(responses):,} pairs were in the fit, as {inside[0][0]} x {inside[0][1]}"
        raise InputError(found, where=responses.name, fix="Score only pairs that were not in the fit")
