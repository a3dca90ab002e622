"""What a classifier of cell types would have said about its own training cells, had it not seen them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cell_lm.evaluation.annotation_metrics import AnnotationScores, annotation_scores
from cell_lm.evaluation.calibration import calibration_error
from cell_lm.evaluation.intervals import Interval, score_interval
from cell_lm.evaluation.linear_head import LeftOut
from cell_lm.files import JSON

Texts = NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Predictions for training cells that were left out, whole donors at a time if there are donors.

    Regularisation and temperature of each view were chosen on these cells, so the scores are a little optimistic; the
    weights of the views were not: those of each fold come from the others.

    Attributes
    ----------
    classes : ndarray
        str objects, sorted.
    codes : ndarray
        int64 [cells]: the class of each cell that was left out.
    probabilities : ndarray
        float32 [cells, classes].
    donors : ndarray or None
        str objects [cells].
    """

    classes: Texts
    codes: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    donors: Texts | None

    @classmethod
    def of(cls, left_out: LeftOut | None, codes: NDArray[Any], classes: Texts, groups: Texts | None) -> Self | None:
        """Return the predictions of a fit; None where no cell was left out."""
        if left_out is None:
            return None
        donors = None if groups is None else groups[left_out.cells]
        probabilities = np.exp(left_out.log_probabilities).astype(np.float32)
        return cls(classes.astype(object), codes[left_out.cells].astype(np.int64), probabilities, donors)

    @property
    def truth(self) -> Texts:
        """The labels, str objects [cells]."""
        return np.asarray(self.classes[self.codes], object)

    @property
    def predicted(self) -> Texts:
        """The most probable labels, str objects [cells]."""
        return np.asarray(self.classes[self.probabilities.argmax(axis=1)], object)

    @cached_property
    def scores(self) -> AnnotationScores:
        """Macro-F1, accuracy, confusion and scores by class."""
        return annotation_scores(self.truth, self.predicted)

    @cached_property
    def macro_f1(self) -> Interval:
        """Macro-F1 with its bootstrap interval over the cells (of each donor)."""
        return score_interval(self.truth, self.predicted, within=self.donors)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error."""
        exact = self.probabilities.astype(np.float64)
        return calibration_error(self.truth, exact / exact.sum(axis=1, keepdims=True), self.classes)

    def by_donor(self) -> dict[str, AnnotationScores]:
        """Return the scores of each donor that was left out; empty without donors."""
        if self.donors is None:
            return {}
        truth, predicted = self.truth, self.predicted
        each = ((str(name), self.donors == name) for name in np.unique(self.donors.astype(str)))
        return {name: annotation_scores(truth[here], predicted[here]) for name, here in each}

    def values(self) -> dict[str, JSON]:
        """Return what is saved as JSON."""
        return {"donors": None if self.donors is None else sorted(set(self.donors.astype(str).tolist()))}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what is saved as arrays."""
        found: dict[str, NDArray[Any]] = {"left_out.codes": self.codes, "left_out.probabilities": self.probabilities}
        if self.donors is not None:
            found["left_out.donors"] = np.unique(self.donors.astype(str), return_inverse=True)[1].astype(np.int64)
        return found

    @classmethod
    def read(cls, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], classes: Texts) -> Self:
        """Read what :meth:`values` and :meth:`arrays` returned; ValueError or KeyError if it is inconsistent."""
        codes, probabilities = arrays["left_out.codes"], arrays["left_out.probabilities"]
        _refuse_codes(codes, len(classes), "left_out.codes")
        if probabilities.dtype != np.float32 or probabilities.shape != (len(codes), len(classes)):
            raise ValueError(f"'left_out.probabilities' is {probabilities.dtype} {probabilities.shape}")
        if not np.isfinite(probabilities).all() or (probabilities < 0).any():
            raise ValueError("'left_out.probabilities' are not probabilities")
        if values["donors"] is None:
            return cls(classes, codes, probabilities, None)
        names, places = np.array([str(name) for name in values["donors"]], object), arrays["left_out.donors"]
        _refuse_codes(places, len(names), "left_out.donors")
        if len(places) != len(codes):
            raise ValueError("'left_out.donors' is not one per cell")
        return cls(classes, codes, probabilities, names[places])


def _refuse_codes(codes: NDArray[Any], number: int, name: str) -> None:
    if codes.dtype != np.int64 or codes.ndim != 1 or not len(codes) or codes.min() < 0 or codes.max() >= number:
        raise ValueError(f"'{name}' are not indices below {number}")
