"""All scores of predicted cell types at once: overall, by type, by donor, and of the confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cell_lm.errors import InputError
from cell_lm.evaluation.annotation_metrics import AnnotationScores, annotation_scores, macro_f1
from cell_lm.evaluation.calibration import calibration_error
from cell_lm.evaluation.intervals import Interval, score_interval
from cell_lm.evaluation.labels import Labels, as_labels
from cell_lm.evaluation.selective import ReliabilityBin, Risk, label_reliability, risk_coverage
from cell_lm.files import JSON

BINS = 10
COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
_PER_TYPE = ("precision", "recall", "f1")


class GroupScores(NamedTuple):
    """Scores on the cells of one donor."""

    name: str
    cells: int
    types: int
    macro_f1: float
    """Over the types of this donor."""
    accuracy: float


@dataclass(frozen=True, eq=False)
class AnnotationEvaluation:
    """Scores of a classifier on cells of known type.

    Attributes
    ----------
    truth, predicted : ndarray
        str [cells].
    confidence : ndarray
        float64 [cells]: probability of the predicted type.
    scores : AnnotationScores
        Accuracy, F1 by type, and the confusion.
    macro_f1 : Interval
        With the 95 % bootstrap interval over cells, within each donor if donors are given.
    ece : float
        Expected calibration error.
    reliability : tuple of ReliabilityBin
        Accuracy by confidence.
    risk_coverage : tuple of Risk
        Error among the most confident cells.
    groups : tuple of GroupScores
        By donor, sorted by name; empty without donors.
    unknown : tuple of str
        Types of the truth that the classifier does not know; their cells count as wrong.
    """

    truth: NDArray[np.str_]
    predicted: NDArray[np.str_]
    confidence: NDArray[np.float64]
    scores: AnnotationScores
    macro_f1: Interval
    ece: float
    reliability: tuple[ReliabilityBin, ...]
    risk_coverage: tuple[Risk, ...]
    groups: tuple[GroupScores, ...]
    unknown: tuple[str, ...]

    def to_json(self) -> dict[str, JSON]:
        """Return all scores as JSON; a score that is undefined is null."""
        scores = self.scores
        return {
            "cells": scores.cells,
            "accuracy": _number(scores.accuracy),
            "macro_f1": _number(self.macro_f1.mean),
            "macro_f1_interval": list[JSON](self.macro_f1.bounds()),
            "ece": _number(self.ece),
            "unknown_types": list[JSON](self.unknown),
            "by_type": {
                str(name): {"cells": int(row["support"]), **{key: _number(row[key]) for key in _PER_TYPE}}
                for name, row in scores.per_class.iterrows()
            },
            "confusion": {
                "types": list[JSON](scores.classes),
                "cells": [list[JSON](map(int, row)) for row in scores.confusion],
            },
            "by_group": {one.name: _row(one) for one in self.groups},
            "reliability": [_row(one) for one in self.reliability],
            "risk_coverage": [_row(one) for one in self.risk_coverage],
        }


def evaluate_annotation(
    truth: Labels, probabilities: ArrayLike, classes: Sequence[object], *, groups: Labels | None = None, seed: int = 0
) -> AnnotationEvaluation:
    """Score predicted cell types.

    Parameters
    ----------
    truth
        The type of each cell. A type that is not among ``classes`` counts as wrong.
    probabilities
        [cells, classes], rows sum to 1.
    classes
        The type of each column.
    groups
        The donor of each cell: the bootstrap then draws cells within each donor, and each donor has its scores.
    seed
        Seed of the bootstrap.

    Raises
    ------
    InputError
        Numbers of cells or classes differ, labels are missing, or rows are not probabilities.
    """
    true, names = as_labels(truth, where="true labels"), np.array([str(name) for name in classes])
    donors = None if groups is None else as_labels(groups, where="donors")
    if donors is not None and len(donors) != len(true):
        found = f"{len(donors):,} donors for {len(true):,} cells"
        raise InputError(found, where="annotation evaluation", fix="Pass one donor for each cell")
    ece = calibration_error(true, probabilities, list(names))
    p = np.asarray(probabilities, np.float64)
    predicted, confidence = names[p.argmax(axis=1)], p.max(axis=1)
    return AnnotationEvaluation(
        truth=true,
        predicted=predicted,
        confidence=confidence,
        scores=annotation_scores(true, predicted),
        macro_f1=score_interval(true, predicted, within=donors, seed=seed),
        ece=ece,
        reliability=label_reliability(true, predicted, confidence, BINS),
        risk_coverage=risk_coverage(true, predicted, confidence).at(COVERAGES),
        groups=() if donors is None else tuple(_group(name, donors, true, predicted) for name in np.unique(donors)),
        unknown=tuple(sorted(set(map(str, true)) - set(map(str, names)))),
    )


def _group(name: str, donors: NDArray[np.str_], truth: NDArray[np.str_], predicted: NDArray[np.str_]) -> GroupScores:
    rows = donors == name
    true, guess = truth[rows], predicted[rows]
    accuracy = float(np.mean(true == guess))
    return GroupScores(str(name), int(rows.sum()), len(np.unique(true)), macro_f1(true, guess), accuracy)


def _row(scores: GroupScores | ReliabilityBin | Risk) -> dict[str, JSON]:
    """Return the numbers of a row by name."""
    values = {name: value for name, value in scores._asdict().items() if name != "name"}
    return {name: value if isinstance(value, int) else _number(value) for name, value in values.items()}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
