"""Predicted cell types compared with the true ones, and with the predictions of other methods for the same cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cell_lm.evaluation.annotation_metrics import AnnotationScores, annotation_scores, macro_f1
from cell_lm.evaluation.intervals import Interval, paired_bootstrap, score_interval
from cell_lm.evaluation.labels import Labels, as_labels


@dataclass(frozen=True)
class MethodScores:
    """One method on all cells.

    Attributes
    ----------
    name : str
    macro_f1 : Interval
    accuracy : float
    difference : Interval or None
        Macro-F1 of the model minus that of this method, paired over cells; None for the model itself.
    """

    name: str
    macro_f1: Interval
    accuracy: float
    difference: Interval | None


@dataclass(frozen=True)
class DonorScores:
    """The model, and its strongest baseline, on the cells of one donor.

    Attributes
    ----------
    name : str
    cells, types : int
        Number of cells and of types of the donor.
    macro_f1 : Interval
        Of the model, over the types of this donor.
    rival : float
        Of the strongest baseline; NaN where there is none.
    difference : Interval or None
        Model minus strongest baseline.
    """

    name: str
    cells: int
    types: int
    macro_f1: Interval
    rival: float
    difference: Interval | None


@dataclass(frozen=True)
class Annotation:
    """Predicted cell types of held-out cells."""

    truth: Labels
    predicted: Labels
    method: str = "cell-lm: genes and encoder, pooled"
    """Name of the method."""
    baselines: Mapping[str, Labels] = field(default_factory=dict)
    """Predictions of other methods for the same cells."""
    donors: Labels | None = None
    """One donor per cell; intervals are then for further cells of these donors, and each donor has a row."""
    trained_on: str = ""
    """Which cells the classifier was fitted on, as ``2,104 cells of 3 donors``."""
    tested_on: str = ""
    """Which cells these are, as ``1,204 cells of 2 unseen donors``."""
    known: frozenset[str] | None = None
    """Cell types of the training cells, if the truth has types that are not among them."""
    type_notes: Mapping[str, str] = field(default_factory=dict)
    """Note on a type, as ``5 training cells where donor human1 is left out``."""
    confidence: NDArray[np.floating] | None = None
    """Probability of the predicted label of every cell."""
    few_shot: Mapping[int, Interval] = field(default_factory=dict)
    """Macro-F1 of new classifiers on the tested cells, by the number of labelled cells of each type."""

    @cached_property
    def scores(self) -> AnnotationScores:
        """Scores of :attr:`predicted`."""
        return annotation_scores(self.truth, self.predicted)

    @cached_property
    def methods(self) -> tuple[MethodScores, ...]:
        """The model, then the baselines in the order given."""
        return tuple(self._method(name) for name in (None, *self.baselines))

    @cached_property
    def strongest(self) -> MethodScores | None:
        """The baseline with the highest macro-F1; None where there is no baseline."""
        return max(self.methods[1:], key=lambda one: one.macro_f1.mean, default=None)

    @cached_property
    def by_donor(self) -> tuple[DonorScores, ...]:
        """The scores per donor, sorted by name; empty if donors are not given."""
        if self.donors is None:
            return ()
        donors = as_labels(self.donors, where="donors")
        return tuple(self._donor(str(name), np.flatnonzero(donors == name)) for name in np.unique(donors))

    def _method(self, name: str | None) -> MethodScores:
        predicted = self.predicted if name is None else self.baselines[name]
        truth = as_labels(self.truth, where="true labels")
        accuracy = float(np.mean(truth == as_labels(predicted, where="predicted labels")))
        score = score_interval(truth, predicted, within=self.donors)
        if name is None:
            return MethodScores(self.method, score, accuracy, None)
        difference = paired_bootstrap(truth, self.predicted, predicted, within=self.donors)
        return MethodScores(name, score, accuracy, difference)

    def _donor(self, name: str, rows: NDArray[np.int64]) -> DonorScores:
        truth = as_labels(self.truth, where="true labels")[rows]
        predicted = as_labels(self.predicted, where="predicted labels")[rows]
        score, types = score_interval(truth, predicted), len(np.unique(truth))
        if self.strongest is None:
            return DonorScores(name, len(rows), types, score, float("nan"), None)
        rival = as_labels(self.baselines[self.strongest.name], where="predicted labels")[rows]
        difference = paired_bootstrap(truth, predicted, rival)
        return DonorScores(name, len(rows), types, score, macro_f1(truth, rival), difference)

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether each predicted label is the true one."""
        true = as_labels(self.truth, where="true labels")
        return np.asarray(true == as_labels(self.predicted, where="predicted labels"), bool)

    def at_confidence(self, least: float) -> tuple[float, float] | None:
        """Return the fraction of the cells with at least this confidence, and the accuracy among them."""
        if self.confidence is None:
            return None
        sure = np.asarray(self.confidence) >= least
        return (float(sure.mean()), float(self.right[sure].mean())) if sure.any() else None
