"""Several methods on the same splits: each is fitted on the training cells and predicts the test cells once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import InputError
from cell_lm.evaluation.annotation_metrics import macro_f1
from cell_lm.evaluation.calibration import calibration_error
from cell_lm.evaluation.intervals import Interval, mean_interval, paired_bootstrap_over
from cell_lm.evaluation.labels import Labels, as_labels
from cell_lm.evaluation.span import Matrix
from cell_lm.evaluation.splits import Split, refuse_leakage


class Classifier(Protocol):
    """A classifier with scikit-learn's interface."""

    classes_: NDArray[np.object_]

    def fit(self, X: Matrix, y: NDArray[np.object_], groups: NDArray[np.object_] | None = None) -> Self:
        """Fit on cells, their labels and optionally their donors."""

    def predict_proba(self, X: Matrix) -> NDArray[np.float64]:
        """Return the probabilities, [cells, classes]."""


Method: TypeAlias = Callable[[int], Classifier]
"""Makes an unfitted classifier from a seed."""


@dataclass(frozen=True, eq=False)
class Result:
    """One method on one split.

    Attributes
    ----------
    method : str
        Its name.
    split : Split
        The cells.
    predicted : ndarray
        str objects [test cells].
    macro_f1, calibration_error : float
        Scores on the test cells.
    """

    method: str
    split: Split
    predicted: NDArray[np.object_]
    macro_f1: float
    calibration_error: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """All methods on all splits.

    Attributes
    ----------
    truth : ndarray
        The labels of all cells.
    results : tuple of Result
        By split, then method.
    """

    truth: NDArray[np.str_]
    results: tuple[Result, ...]

    def of(self, method: str) -> list[Result]:
        """Return the results of one method, ordered by split.

        Raises
        ------
        InputError
            There is no such method.
        """
        found = [result for result in self.results if result.method == method]
        if not found:
            names = ", ".join(dict.fromkeys(result.method for result in self.results))
            raise InputError(f"no method '{method}'", where="comparison", fix=f"Choose one of {names}")
        return found

    def score(self, method: str) -> Interval:
        """Return the macro-F1 over splits, with the t interval."""
        return mean_interval([result.macro_f1 for result in self.of(method)])

    def difference(self, first: str, second: str, *, resample_splits: bool, seed: int = 0) -> Interval:
        """Return the macro-F1 of the first method minus that of the second, by the paired bootstrap.

        Use ``resample_splits`` if splits are donors, but not if they are seeds, which share their test cells.
        """
        pairs = zip(self.of(first), self.of(second), strict=True)
        parts = [(self.truth[one.split.test], one.predicted, other.predicted) for one, other in pairs]
        return paired_bootstrap_over(parts, resample_parts=resample_splits, seed=seed)


def compare(
    methods: Mapping[str, Method],
    X: Matrix,
    labels: Labels,
    splits: Sequence[Split],
    *,
    groups: Labels | None = None,
    progress: Callable[[Result], None] | None = None,
) -> Comparison:
    """Fit and test each method on each split.

    Parameters
    ----------
    methods
        Factory by name; it gets the seed of the split, or 0 if there is none.
    X
        [cells, features].
    labels
        One label per cell.
    splits
        No row may be in two parts of a split, and no group unless the held-out unit is the cell.
    groups
        One donor per cell, passed to a method if its training cells come from at least two donors.
    progress
        Called with each result.

    Raises
    ------
    InputError
        A split leaks, or a method raises it.
    """
    truth = as_labels(labels, where="labels")
    donors = None if groups is None else as_labels(groups, where="groups").astype(object)
    results: list[Result] = []
    for split in splits:
        refuse_leakage(split, **({} if donors is None or split.unit == "cell" else {split.unit: donors}))
        for name, make in methods.items():
            results.append(_result(name, make(split.seed or 0), X, truth, split, donors))
            if progress is not None:
                progress(results[-1])
    return Comparison(truth, tuple(results))


def _result(
    name: str,
    method: Classifier,
    X: Matrix,
    truth: NDArray[np.str_],
    split: Split,
    donors: NDArray[np.object_] | None,
) -> Result:
    known = None if donors is None or len(set(donors[split.train])) < 2 else donors[split.train]
    method.fit(X[split.train], truth[split.train].astype(object), known)
    probabilities = method.predict_proba(X[split.test])
    predicted = np.asarray(method.classes_)[probabilities.argmax(axis=1)]
    error = calibration_error(truth[split.test], probabilities, method.classes_)
    return Result(name, split, predicted, macro_f1(truth[split.test], predicted), error)
