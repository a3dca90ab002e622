"""Peers of :mod:`benchmarks.annotation` that need no encoder and no package of their own.

Features are log1p of counts per 10,000 of the genes that both sides measured. Strength of regularisation and
temperature are chosen on left-out cells of the fit (whole donors where another donor is asked for), the same for every
method, by :func:`cell_lm.evaluation.folds.training_folds`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import f1_score
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from benchmarks.parts.annotation_tasks import Case, Labels
from cell_lm.data import CellData
from cell_lm.data.loading.expression import log_expression
from cell_lm.evaluation.baselines import BASELINES, COMPONENTS, GRID, UNTRIED
from cell_lm.evaluation.calibration import best_temperature, log_softmax
from cell_lm.evaluation.folds import training_folds
from cell_lm.evaluation.linear_head import fit_head
from cell_lm.evaluation.span import Components, Lanczos, leading_components
from cell_lm.files import JSON

Floats = NDArray[np.float64]
SVM_GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method says of the cells of the query.

    Attributes
    ----------
    predicted : ndarray
        str objects [cells].
    probabilities : ndarray or None
        float64 [cells, classes]; None for a method without them.
    classes : ndarray
        str objects [classes].
    fit_s, predict_s : float
        CPU seconds.
    notes : dict
        What was chosen, for the file of results.
    """

    predicted: Labels
    probabilities: Floats | None
    classes: Labels
    fit_s: float
    predict_s: float
    notes: Mapping[str, JSON] = field(default_factory=dict)

    @classmethod
    def of(cls, probabilities: Floats, classes: Labels, fit_s: float, predict_s: float, **notes: JSON) -> Answer:
        predicted = np.asarray(classes, object)[probabilities.argmax(axis=1)]
        return cls(predicted, probabilities, np.asarray(classes, object), fit_s, predict_s, notes)


Method = Callable[[Case], Mapping[str, Answer]]
"""Answers a case, under one name, or several where one fit gives several answers."""


def expression(cells: CellData, genes: NDArray[np.int64]) -> sparse.csr_matrix[np.float32]:
    """Return log1p of counts per 10,000 of some genes, float32 [cells, genes]."""

    class Cut:
        X = sparse.csr_matrix(cells.X[:, genes])

    return log_expression(Cut())


def rival(name: str) -> Method:
    """Return a baseline of :mod:`cell_lm.evaluation.baselines`."""

    def answer(case: Case) -> dict[str, Answer]:
        start = time.process_time()
        model = BASELINES[name](case.seed).fit(expression(case.reference, case.genes), case.labels, case.groups)
        fitted = time.process_time()
        probabilities = model.predict_proba(expression(case.query, case.genes))
        notes = {"C": model.head_.selection.C} if hasattr(model, "head_") else {}
        return {name: Answer.of(probabilities, model.classes_, fitted - start, time.process_time() - fitted, **notes)}

    return answer


def components_of_all(case: Case) -> dict[str, Answer]:
    """Logistic regression on components of the labelled and the unlabelled cells together."""
    start = time.process_time()
    reference, query = expression(case.reference, case.genes), expression(case.query, case.genes)
    before = time.process_time()
    space, seconds = _space(case.union, _Pair((reference, query)))
    skipped = time.process_time() - before - seconds
    head = fit_head(
        space(reference),
        case.labels,
        groups=case.groups,
        whitening=0.0,
        grid=GRID,
        untried=UNTRIED,
        seed=case.seed,
    )
    fitted = time.process_time()
    probabilities = head.probabilities(space(query))
    fit_s, predict_s = fitted - start - skipped, time.process_time() - fitted
    return {
        "pca_all_lr": Answer.of(probabilities, np.array(head.classes, object), fit_s, predict_s, C=head.selection.C)
    }


class _Pair(tuple[sparse.csr_matrix, sparse.csr_matrix]):  # type: ignore[type-arg]
    """Both matrices as an argument that the cache of :func:`_space` ignores."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Pair)


@lru_cache(maxsize=4)
def _space(union: str, both: _Pair) -> tuple[Components | Lanczos, float]:  # noqa: ARG001
    """Return the components of all cells, once for all cases of the same ones, and the seconds that this took."""
    start = time.process_time()
    with threadpool_limits(1, user_api="blas"):
        space = leading_components(sparse.csr_matrix(sparse.vstack(both)), COMPONENTS, 0)
    return space, time.process_time() - start


def support_vectors(case: Case) -> dict[str, Answer]:
    """Linear SVM, one against the rest; its decision values become probabilities by a temperature."""
    start = time.process_time()
    classes, codes = np.unique(case.labels.astype(str), return_inverse=True)
    x = expression(case.reference, case.genes)
    with threadpool_limits(1, user_api="blas"):
        C, temperature = _chosen(x, codes, case)
        model = _svm(x, codes, C, case.seed)
    fitted = time.process_time()
    logits = _decision(model, expression(case.query, case.genes), len(classes))
    answer = Answer.of(
        np.exp(log_softmax(logits / temperature)),
        classes.astype(object),
        fitted - start,
        time.process_time() - fitted,
        C=C,
    )
    return {"svm": answer}


def _chosen(x: sparse.csr_matrix[np.float32], codes: NDArray[np.int64], case: Case) -> tuple[float, float]:
    """Return the strength with the best macro-F1 on left-out cells, and the temperature of their decision values."""
    folds = list(training_folds(codes, case.groups, case.seed))
    if not folds:
        return SVM_GRID[-1], 1.0
    truth, classes = np.concatenate([codes[out] for _, out in folds]), int(codes.max()) + 1
    logits = {C: np.full((len(truth), classes), -np.inf) for C in SVM_GRID}
    for C, values in logits.items():
        done = 0
        for rest, out in folds:
            known, rest_codes = np.unique(codes[rest], return_inverse=True)
            model = _svm(x[rest], rest_codes, C, case.seed)
            values[done : done + len(out), known] = _decision(model, x[out], len(known))
            done += len(out)
    present = np.unique(truth)
    scores = {
        C: f1_score(truth, values.argmax(axis=1), labels=present, average="macro", zero_division=0.0)
        for C, values in logits.items()
    }
    best = max(SVM_GRID, key=lambda C: scores[C])
    return best, best_temperature(logits[best], truth)


def _svm(x: sparse.csr_matrix[np.float32], codes: NDArray[np.int64], C: float, seed: int) -> LinearSVC:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a strength too weak to converge is scored like any other
        return LinearSVC(C=C, class_weight="balanced", random_state=seed).fit(x, codes)


def _decision(model: LinearSVC, x: sparse.csr_matrix[np.float32], classes: int) -> Floats:
    values = np.asarray(model.decision_function(x), np.float64)
    return np.column_stack([-values, values]) if classes == 2 else values


PEERS: dict[str, Method] = {
    "genes_lr": rival("genes_lr"),
    "pca_lr": rival("pca_lr"),
    "pca_all_lr": components_of_all,
    "svm": support_vectors,
    "neighbours": rival("neighbours"),
}
