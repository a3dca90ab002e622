"""Agreement of predicted with measured drug responses, over pairs of line and drug.

Drugs differ in potency far more than lines differ in their response to one drug, so that a prediction of each drug's
mean already correlates with the truth over all pairs. Two figures do not reward it: the mean correlation within each
drug, and DrEval's normalised correlation (Bernett et al. 2025, drevalpy, ``normalize_metrics_by_mean_effects``): the
prediction of mean effects (mean of all training pairs + deviation of the line's mean + deviation of the drug's mean) is
subtracted from truth and prediction before they are correlated. The correlation within each line rewards nothing else,
and is given to show it.

A drug with fewer than three lines, or whose truth does not vary, has no correlation: it is left out and counted. A
prediction that is the same for all lines of a drug scores 0; leaving it out would reward constant predictions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cell_lm.errors import InputError
from cell_lm.evaluation.labels import Labels, as_labels

Floats: TypeAlias = NDArray[np.float64]

LEAST = 3
"""Fewest pairs of a drug, or line, for a correlation."""
_ROUNDING = 1e-10


@dataclass(frozen=True)
class ResponseScores:
    """Agreement of predicted and measured responses; RMSE in units of the response, such as ln of the IC50 in µM."""

    pearson: float
    """Over all pairs."""
    spearman: float
    """Over all pairs, of the ranks."""
    rmse: float
    """Root of the mean squared error."""
    pearson_per_drug: float
    """Mean over drugs; NaN if none is left."""
    drugs: int
    """Number of drugs in that mean."""
    drugs_left_out: int
    """Drugs with fewer than three lines, or a truth that does not vary."""
    pearson_per_line: float
    """Mean over lines; NaN if none is left."""
    lines: int
    """Number of lines in that mean."""
    lines_left_out: int
    """Lines with fewer than three drugs, or a truth that does not vary."""
    normalised_pearson: float | None
    """Over all pairs, after subtracting the prediction of mean effects; None without it."""


def response_scores(
    truth: ArrayLike, predicted: ArrayLike, *, lines: Labels, drugs: Labels, mean_effects: ArrayLike | None = None
) -> ResponseScores:
    """Compare predicted with measured responses.

    Parameters
    ----------
    truth, predicted
        One number per pair.
    lines, drugs
        The line and the drug of each pair.
    mean_effects
        Prediction of :func:`predict_mean_effects` for these pairs, from the training pairs.

    Raises
    ------
    InputError
        Values are missing, not finite or differ in number, or there are fewer than three pairs.
    """
    true, guess = _numbers(truth, "measured responses"), _numbers(predicted, "predicted responses")
    line, drug = as_labels(lines, where="lines"), as_labels(drugs, where="drugs")
    naive = None if mean_effects is None else _numbers(mean_effects, "mean effects")
    sizes = {len(each) for each in (true, guess, line, drug, true if naive is None else naive)}
    if len(sizes) > 1 or len(true) < LEAST:
        found = f"{len(true)} measured and {len(guess)} predicted responses of {len(line)} lines and {len(drug)} drugs"
        raise InputError(found, where="response scores", fix=f"Pass the same pairs in the same order, at least {LEAST}")
    per_drug, per_line = (list(_within(true, guess, group)) for group in (drug, line))
    return ResponseScores(
        pearson=pearson(true, guess),
        spearman=spearman(true, guess),
        rmse=float(np.sqrt(np.mean((true - guess) ** 2))),
        pearson_per_drug=float(np.mean(per_drug)) if per_drug else float("nan"),
        drugs=len(per_drug),
        drugs_left_out=len(np.unique(drug)) - len(per_drug),
        pearson_per_line=float(np.mean(per_line)) if per_line else float("nan"),
        lines=len(per_line),
        lines_left_out=len(np.unique(line)) - len(per_line),
        normalised_pearson=None if naive is None else pearson(true - naive, guess - naive),
    )


def predict_mean_effects(
    response: ArrayLike, lines: Labels, drugs: Labels, *, of_lines: Labels, of_drugs: Labels
) -> Floats:
    """Return DrEval's naive prediction: the mean plus the deviations of the line's and of the drug's mean.

    Parameters
    ----------
    response, lines, drugs
        Responses, lines and drugs of the training pairs.
    of_lines, of_drugs
        Lines and drugs of the pairs to predict; a line or drug without training pairs adds nothing.

    Returns
    -------
    ndarray
        float64 [pairs to predict].

    Raises
    ------
    InputError
        Values are missing or differ in number.
    """
    y = _numbers(response, "training responses")
    total = float(y.mean())
    prediction: Floats = np.full(len(as_labels(of_lines, where="lines")), total)
    for known, asked, what in ((lines, of_lines, "lines"), (drugs, of_drugs, "drugs")):
        names, wanted = as_labels(known, where=what), as_labels(asked, where=what)
        if len(names) != len(y) or len(wanted) != len(prediction):
            found = f"{len(names):,} {what} for {len(y):,} responses, {len(wanted):,} of {len(prediction):,} pairs"
            raise InputError(found, where="mean effects", fix="Pass one line and one drug a pair")
        distinct, codes = np.unique(names, return_inverse=True)
        effects = dict(zip(distinct, np.bincount(codes, y) / np.bincount(codes) - total, strict=True))
        prediction += [effects.get(name, 0.0) for name in wanted]
    return prediction


def pearson(truth: Floats, predicted: Floats) -> float:
    """Return Pearson's correlation; 0 for a constant prediction, NaN for a constant truth."""
    a, b = truth - truth.mean(), predicted - predicted.mean()
    if not _varies(a, truth):
        return float("nan")
    return float(a @ b / np.sqrt((a @ a) * (b @ b))) if _varies(b, predicted) else 0.0


def spearman(truth: Floats, predicted: Floats) -> float:
    """Return Spearman's correlation, Pearson's of the ranks, with ties at their mean rank."""
    from scipy.stats import rankdata

    return pearson(rankdata(truth), rankdata(predicted))


def _varies(centred: Floats, values: Floats) -> bool:
    return bool(np.abs(centred).max() > _ROUNDING * max(1.0, float(np.abs(values).max())))


def _within(truth: Floats, predicted: Floats, groups: NDArray[np.str_]) -> Iterator[float]:
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if len(rows) >= LEAST and not np.isnan(each := pearson(truth[rows], predicted[rows])):
            yield each


def _numbers(values: ArrayLike, where: str) -> Floats:
    array = np.asarray(values, np.float64)
    bad = int((~np.isfinite(array)).sum())
    if array.ndim != 1 or not len(array) or bad:
        found = f"{bad} of {array.size} values are missing or infinite, in shape {array.shape}"
        raise InputError(found, where=where, fix="Pass one finite number for each pair")
    return array
