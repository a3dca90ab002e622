"""Methods of the drug response benchmark: floors, simple models, ours. Each predicts the test pairs of a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor

from benchmarks.parts.response_sets import Floats, Task
from cell_lm.tasks.response.core import Predicted, ResponseModel, cold_prediction, fit_response_model
from cell_lm.tasks.response.drugs import DrugModel
from cell_lm.tasks.response.impute import drug_scale, soft_impute
from cell_lm.tasks.response.lines import RIDGES, fit_lines
from cell_lm.tasks.response.ridge import STRENGTHS

MOST_ROWS = 60_000
"""Training pairs of a forest at most, drawn by seed."""


class Result(NamedTuple):
    """Predictions [lines, drugs], and half the width of the intervals where the method has them."""

    mean: Floats
    half: Floats | None = None


def drug_mean(task: Task) -> Result:
    total = np.nanmean(task.train)
    mean = np.nan_to_num(_column_means(task.train), nan=total)
    return Result(np.broadcast_to(mean, task.train.shape))


def drug_line_mean(task: Task) -> Result:
    """Mean of the drug + mean deviation of the line from the means of its drugs."""
    mean = drug_mean(task).mean
    return Result(mean + np.nan_to_num(_row_means(task.train - mean))[:, None])


def tissue_mean(task: Task) -> Result:
    """Mean of the drug in the tissue of the line, drawn to the drug's mean as by 5 further lines."""
    mean = drug_mean(task).mean.copy()
    found = mean.copy()
    for tissue in np.unique(task.data.tissues):
        rows = task.data.tissues == tissue
        part = task.train[rows]
        count = np.isfinite(part).sum(axis=0)
        found[rows] = (np.nansum(part, axis=0) + 5 * mean[0]) / (count + 5)
    return Result(found)


def ridge(task: Task) -> Result:
    """Ridge per drug on all genes; its strength, common to all drugs, by leave-one-out. New drugs get the mean."""
    rows, columns = np.flatnonzero(~task.new_lines), np.flatnonzero(~task.new_drugs)
    X = _standardised(task.data.X, rows)
    K, found = X @ X[rows].T, np.array(drug_mean(task).mean)
    seen = {column: np.flatnonzero(np.isfinite(task.train[rows, column])) for column in columns}
    seen = {column: each for column, each in seen.items() if len(each) >= 10}
    errors = sum(_left_out(K[rows[seen[c]]][:, seen[c]], task.train[rows[seen[c]], c]) for c in list(seen)[::20])
    strength = float(STRENGTHS[::2][np.argmin(errors)])
    for column, each in seen.items():
        y, own = task.train[rows[each], column], K[rows[each]][:, each]
        own[np.diag_indices_from(own)] += strength * np.trace(own) / len(each)
        found[:, column] = y.mean() + K[:, each] @ linalg.solve(own, y - y.mean(), assume_a="pos")
    return Result(found)


def _left_out(K: Floats, y: Floats) -> Floats:
    """Return the leave-one-out error of every strength, relative to the variance."""
    values, vectors = linalg.eigh(K)
    values, centred = np.maximum(values, 0), y - y.mean()
    errors = []
    for strength in STRENGTHS[::2] * values.mean():
        shrunk = values / (values + strength)
        free = 1 - (vectors**2) @ shrunk - 1 / len(y)
        errors.append((((centred - vectors @ (shrunk * (vectors.T @ centred))) / free) ** 2).mean() / centred.var())
    return np.array(errors)


def forest(task: Task) -> Result:
    """Random forest on 50 PCs of expression and 50 of fingerprints (DrEval's best), on at most 60,000 pairs."""
    rows = np.flatnonzero(~task.new_lines)
    X = _standardised(task.data.X, rows)
    cells = PCA(50, random_state=0).fit(X[rows]).transform(X)
    bits = (task.data.structures.fingerprints > 0).astype(np.float64)
    drugs = PCA(min(50, len(bits) - 1), random_state=0).fit(bits[~task.new_drugs]).transform(bits)
    line, drug = np.nonzero(np.isfinite(task.train))
    drawn = np.random.default_rng(0).permutation(len(line))[:MOST_ROWS]
    line, drug = line[drawn], drug[drawn]
    model = RandomForestRegressor(60, min_samples_leaf=3, max_features=0.33, random_state=0)
    model.fit(np.hstack([cells[line], drugs[drug]]), task.train[line, drug])
    found = np.full(task.train.shape, np.nan)
    line, drug = np.nonzero(task.test)
    found[line, drug] = model.predict(np.hstack([cells[line], drugs[drug]]))
    return Result(found)


def low_rank(task: Task) -> Result:
    """Only the low-rank ridge of ours, for comparisons of cell vectors; no intervals."""
    return _only_lines(task, task.data.X, ("low rank",), 0)


def without_network(task: Task) -> Result:
    return _only_lines(task, task.data.X, ("low rank", "gene-weighted"), 0)


def lines_only(task: Task) -> Result:
    """Ours for new lines, without the folds that intervals need."""
    return _only_lines(task, task.data.X, ("low rank", "gene-weighted"), 4)


def _only_lines(task: Task, X: Floats, parts: tuple[str, ...], members: int) -> Result:
    rows, columns = np.flatnonzero(~task.new_lines), np.flatnonzero(~task.new_drugs)
    train = task.train[np.ix_(rows, columns)]
    scale = drug_scale(train)
    model = fit_lines(X[rows], scale.standardise(train), parts=parts, members=members)
    found = np.array(drug_mean(task).mean)
    found[:, columns] = scale.restore(model.predict(X))
    return Result(found)


def fit_ours(
    task: Task, members: int = 4, seed: int = 0, parts: tuple[str, ...] = RIDGES
) -> tuple[ResponseModel, NDArray[np.int64], NDArray[np.int64]]:
    rows, columns = np.flatnonzero(~task.new_lines), np.flatnonzero(~task.new_drugs)
    cold = task.new_drugs.any()
    model = fit_response_model(
        task.data.X[rows],
        task.train[np.ix_(rows, columns)],
        structures=task.data.structures[columns] if cold else None,
        with_structure=np.ones(len(columns), np.bool_) if cold else None,
        members=members if task.new_lines.any() else 0,
        seed=seed,
        parts=parts,
    )
    return model, rows, columns


def new_drugs(task: Task) -> Result:
    """Ours for new drugs in known lines, without the folds that intervals need and without the graph encoder."""
    return _only_drugs(task, graphs=False)


def new_drugs_graphs(task: Task) -> Result:
    """The same with the graph encoder."""
    return _only_drugs(task, graphs=True)


def _only_drugs(task: Task, *, graphs: bool) -> Result:
    rows, columns = np.flatnonzero(~task.new_lines), np.flatnonzero(~task.new_drugs)
    train, new = task.train[np.ix_(rows, columns)], np.flatnonzero(task.new_drugs)
    scale = drug_scale(train)
    filled = soft_impute(scale.standardise(train))
    profiles = (filled - filled.mean(axis=1, keepdims=True)).T
    model = DrugModel(task.data.structures[columns], scale.mean, scale.spread, profiles)
    if graphs:
        model.correction = model.graph_correction()
    found = np.array(drug_line_mean(task).mean)
    found[np.ix_(rows, new)] = cold_prediction(model, filled, np.arange(len(columns)), task.data.structures[new])[0]
    return Result(found)


def ours_low_rank(task: Task) -> Result:
    """Ours with the low-rank ridge alone: a third of the time of a fit."""
    model, rows, columns = fit_ours(task, members=0, parts=("low rank",))
    return predict_ours(model, task, rows, columns)


def ours(task: Task) -> Result:
    model, rows, columns = fit_ours(task)
    return predict_ours(model, task, rows, columns)


def predict_ours(
    model: ResponseModel,
    task: Task,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    measured: Floats | None = None,
) -> Result:
    """Predict all pairs; ``measured`` holds responses of new lines that are given."""
    mean, half = np.full(task.train.shape, np.nan), np.full(task.train.shape, np.nan)
    new_columns, new_rows = np.flatnonzero(task.new_drugs), np.flatnonzero(task.new_lines)
    given = None if measured is None else measured[np.ix_(new_rows, columns)]
    known: list[tuple[NDArray[np.int64], bool, Predicted]] = [(rows, False, model.predict_known())]
    if len(new_rows):
        known.append((new_rows, True, model.predict(task.data.X[new_rows], given)))
    for own, is_new, predicted in known:
        mean[np.ix_(own, columns)], half[np.ix_(own, columns)] = predicted
        if len(new_columns):
            cold = model.predict_drugs(predicted, task.data.structures[new_columns], new_lines=is_new)
            mean[np.ix_(own, new_columns)], half[np.ix_(own, new_columns)] = cold
    return Result(mean, half)


METHODS: dict[str, Callable[[Task], Result]] = {
    "drug_mean": drug_mean,
    "drug_line_mean": drug_line_mean,
    "tissue_mean": tissue_mean,
    "ridge": ridge,
    "forest": forest,
    "low_rank": low_rank,
    "without_network": without_network,
    "lines_only": lines_only,
    "new_drugs": new_drugs,
    "new_drugs_graphs": new_drugs_graphs,
    "ours_low_rank": ours_low_rank,
    "ours": ours,
}


def _standardised(X: Floats, rows: NDArray[np.int64]) -> Floats:
    spread = X[rows].std(axis=0)
    return (X - X[rows].mean(axis=0)) / np.where(spread > 0, spread, np.inf)


def _column_means(values: Floats) -> Floats:
    seen = np.isfinite(values)
    count = seen.sum(axis=0)
    return np.where(count > 0, np.where(seen, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _row_means(values: Floats) -> Floats:
    return _column_means(values.T)
