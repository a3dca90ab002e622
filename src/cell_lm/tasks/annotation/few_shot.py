"""How many labelled cells are needed: a classifier fitted anew on a few cells of each type, scored on the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from cell_lm.data.view import CellView
from cell_lm.evaluation.annotation_metrics import macro_f1
from cell_lm.evaluation.intervals import Interval, mean_interval
from cell_lm.evaluation.splits import few_shot
from cell_lm.tasks.classifier import Classifier

PER_TYPE = (1, 5, 20)
SEEDS = (0, 1, 2)


class FewShot(NamedTuple):
    """Macro-F1 with few labelled cells."""

    per_type: int
    """Cells of each type to learn from; at most half of a type."""
    macro_f1: Interval
    """Over the seeds."""


def few_shot_curve(
    classifier: Classifier,
    cells: CellView,
    labels: NDArray[np.object_],
    *,
    per_type: Sequence[int] = PER_TYPE,
    seeds: Sequence[int] = SEEDS,
) -> tuple[FewShot, ...]:
    """Fit new classifiers with the parameters of one on a few of the cells, and score them on the others.

    Parameters
    ----------
    classifier
        Its parameters and encoder are used, not what it has learned.
    cells
        Cells of known type.
    labels
        Their types, str objects [cells].
    per_type
        Numbers of cells of each type to learn from.
    seeds
        Seeds of the choice of cells.

    Raises
    ------
    InputError
        Every type has a single cell.
    """
    found = []
    for number in per_type:
        scores = [_score(classifier, cells, labels, train, test) for train, test in _splits(labels, number, seeds)]
        found.append(FewShot(number, mean_interval(scores)))
    return tuple(found)


def _splits(labels: NDArray[np.object_], number: int, seeds: Sequence[int]) -> list[tuple[NDArray[np.int64], ...]]:
    return [(split.train, split.test) for split in few_shot(labels, number, seeds)]


def _score(
    classifier: Classifier,
    cells: CellView,
    labels: NDArray[np.object_],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
) -> float:
    fresh = clone(classifier)
    fresh._learn(cells[train], labels[train], None, None)
    probabilities = fresh._probabilities(cells[test], None)
    return macro_f1(labels[test], fresh.classes_[probabilities.argmax(axis=1)])
