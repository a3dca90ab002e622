"""CellTypist (Dominguez Conde et al. 2022) by its package: logistic regression on genes that a first fit selects.

Its recipe: log1p of counts per 10,000, genes selected by a first fit by SGD (``feature_selection``, the 300 of the
largest coefficients of each type), scaled, logistic regression; majority voting over an over-clustering of the query.
``C`` (its default is 1) is chosen on left-out cells; the genes are selected without these.
"""

from __future__ import annotations

import time
from typing import Any

import anndata
import celltypist  # type: ignore[import-not-found,unused-ignore]
import numpy as np
from case_files import Case  # type: ignore[import-not-found,unused-ignore]
from sklearn.metrics import f1_score

GRID = (0.01, 0.1, 1.0)
DEFAULT = 1.0
TOP_GENES = 300
MANY, FEW_FOLDS = 1000, 2
"""With many cells, so many folds."""


def main(folder: str) -> None:
    case = Case(folder)
    start = time.process_time()
    cells = anndata.AnnData(case.log())
    cells.var_names, cells.obs_names = case.genes, [str(number) for number in range(cells.n_obs)]
    reference, query = cells[: case.known].copy(), cells[case.known :].copy()
    C, scores = choose(reference, case)
    model = train(selected(reference, case.labels), case.labels, C)
    fitted = time.process_time()
    told = celltypist.annotate(query, model=model, majority_voting=False)
    named = time.process_time()
    matrix = told.probability_matrix
    chances = matrix.to_numpy(float) + 1e-12
    chances /= chances.sum(axis=1, keepdims=True)
    case.write("celltypist", told.predicted_labels["predicted_labels"], chances, matrix.columns)
    voted = celltypist.annotate(query, model=model, majority_voting=True).predicted_labels["majority_voting"]
    case.write("celltypist_vote", voted)
    case.note(
        fit_s=fitted - start,
        predict_s={"celltypist": named - fitted, "celltypist_vote": time.process_time() - named},
        C=C,
        scores=scores,
        version=celltypist.__version__,
    )


def choose(reference: Any, case: Case) -> tuple[float, dict[str, float]]:
    """Return the C with the best macro-F1 on left-out cells."""
    folds = case.folds if case.known < MANY else case.folds[:FEW_FOLDS]
    if not folds:
        return DEFAULT, {}
    truth, guesses = [], {C: [] for C in GRID}
    for rest, out in folds:
        part, labels = reference[rest].copy(), case.labels[rest]
        genes = selected(part, labels)
        truth.append(case.labels[out])
        for C in GRID:
            told = celltypist.annotate(reference[out].copy(), model=train(genes, labels, C))
            guesses[C].append(told.predicted_labels["predicted_labels"].to_numpy(str))
    true = np.concatenate(truth).astype(str)
    scores = {
        C: f1_score(true, np.concatenate(guesses[C]), labels=np.unique(true), average="macro", zero_division=0.0)
        for C in GRID
    }
    best = max(GRID, key=lambda C: (round(scores[C], 6), C))
    return best, {str(C): round(float(score), 4) for C, score in scores.items()}


def selected(cells: Any, labels: Any) -> Any:
    """Return the cells with the genes that ``celltypist.train(feature_selection=True)`` would use."""
    first = celltypist.train(
        cells, labels, use_SGD=True, alpha=1e-3, mini_batch=False, check_expression=False, n_jobs=1, random_state=0
    )
    weights = np.abs(first.classifier.coef_)
    best = np.unique(np.argpartition(weights, -min(TOP_GENES, weights.shape[1]), axis=1)[:, -TOP_GENES:])
    return cells[:, np.isin(cells.var_names, np.asarray(first.classifier.features)[best])].copy()


def train(cells: Any, labels: Any, C: float) -> Any:
    return celltypist.train(cells, labels, C=C, check_expression=False, n_jobs=1)
