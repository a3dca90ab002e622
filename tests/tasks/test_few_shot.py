from __future__ import annotations

import numpy as np
import pytest

from cell_lm.data.view import CellView
from cell_lm.errors import InputError
from cell_lm.tasks import CentroidBaseline
from cell_lm.tasks.annotation.few_shot import few_shot_curve


@pytest.mark.usefixtures("any_tissue")
def test_more_labels_give_higher_scores_and_leave_the_classifier_as_it_was(reference_cells, fitted):
    labels, rng = reference_cells.obs["cell_type"].to_numpy(object).copy(), np.random.default_rng(0)
    wrong = rng.random(len(labels)) < 0.35  # so that one label can mislead
    labels[wrong] = rng.permutation(labels[wrong])
    before = fitted.pool_
    curve = few_shot_curve(fitted, CellView.of(reference_cells), labels, per_type=(1, 20), seeds=(0, 1, 2))
    assert curve.per_type == (1, 20)
    one, twenty = curve.intervals
    assert 0.25 < one.mean < twenty.mean <= 1
    assert fitted.pool_ is before


def test_scores_are_of_other_cells_than_the_labelled_ones(reference_cells):
    """With labels that mean nothing, a classifier that saw the tested cells would score high."""
    labels = np.random.default_rng(0).permutation(reference_cells.obs["cell_type"].to_numpy(object))
    curve = few_shot_curve(CentroidBaseline(), CellView.of(reference_cells), labels, per_type=(10,), seeds=(0, 1))
    assert curve.intervals[0].mean < 0.4


def test_types_of_single_cells_alone_are_refused(reference_cells):
    cells = CellView.of(reference_cells)[np.arange(3)]
    with pytest.raises(InputError, match="has a single cell"):
        few_shot_curve(CentroidBaseline(), cells, np.array(["a", "b", "c"], object), per_type=(1,))
