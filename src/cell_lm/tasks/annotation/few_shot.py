"""How many labelled cells are needed: a classifier fitted anew on a few cells of each type, scored on the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from cell_lm.data.view import CellView
from cell_lm.evaluation import learning_curve
from cell_lm.evaluation.learning_curve import FewShotCurve, Rows
from cell_lm.tasks.classifier import Classifier

PER_TYPE = (1, 5, 20)
SEEDS = (0, 1, 2)


def few_shot_curve(
    classifier: Classifier,
    cells: CellView,
    labels: NDArray[np.object_],
    *,
    per_type: Sequence[int] = PER_TYPE,
    seeds: Sequence[int] = SEEDS,
) -> FewShotCurve:
    """Fit new classifiers with the parameters of one on a few of the cells, and score them on the others.

    Parameters
    ----------
    classifier
        Its parameters and encoder are used, not what it has learned.
    cells
        Cells of known type.
    labels
        Their types, str objects [cells].
    per_type, seeds
        As :func:`cell_lm.evaluation.learning_curve.few_shot_curve`.

    Raises
    ------
    InputError
        Every type has a single cell.
    """

    def predict(train: Rows, test: Rows, seed: int) -> NDArray[np.object_]:  # noqa: ARG001
        fresh = clone(classifier)
        fresh._learn(cells[train], labels[train], None, None)
        found: NDArray[np.object_] = fresh.classes_[fresh._probabilities(cells[test], None).argmax(axis=1)]
        return found

    return learning_curve.few_shot_curve(predict, labels, per_type=per_type, seeds=seeds)
