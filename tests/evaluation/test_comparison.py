from __future__ import annotations

import numpy as np
import pytest

from cell_lm.errors import InputError
from cell_lm.evaluation.annotation_metrics import macro_f1
from cell_lm.evaluation.baselines import GeneLogisticRegression, MajorityClass, NearestCentroid
from cell_lm.evaluation.comparison import compare
from cell_lm.evaluation.splits import Split, few_shot, leave_one_group_out

RNG = np.random.default_rng(0)
CODES = RNG.integers(0, 3, 150)
X = RNG.normal(0, 1.0, (150, 8)) + 2.0 * np.eye(3, 8)[CODES]
LABELS = np.array(list("abc"), object)[CODES]
DONORS = np.repeat(["d1", "d2", "d3"], 50).astype(object)
METHODS = {"centroid": lambda seed: NearestCentroid(seed=seed), "majority": lambda seed: MajorityClass()}


class Recorder(GeneLogisticRegression):
    """Keeps what it is given."""

    given: list[tuple[str, np.ndarray]]

    def fit(self, X, y, groups=None):
        self.given.append(("fit", X))
        self.groups = groups
        return super().fit(X, y, groups)

    def predict_proba(self, X):
        self.given.append(("predict", X))
        return super().predict_proba(X)


def test_every_method_is_fitted_on_the_training_cells_and_predicts_the_test_cells_once():
    made = []

    def make(seed):
        made.append(Recorder(seed=seed))
        made[-1].given = []
        return made[-1]

    splits = few_shot(LABELS, 5, [3, 4])
    compare({"recorder": make}, X, LABELS, splits, groups=DONORS)
    assert [each.seed for each in made] == [3, 4]
    for one, split in zip(made, splits, strict=True):
        assert [what for what, _ in one.given] == ["fit", "predict"]
        np.testing.assert_array_equal(one.given[0][1], X[split.train])
        np.testing.assert_array_equal(one.given[1][1], X[split.test])
        np.testing.assert_array_equal(one.groups, DONORS[split.train])


def test_scores_and_differences_are_those_of_the_test_cells():
    told = []
    comparison = compare(METHODS, X, LABELS, leave_one_group_out(DONORS), groups=DONORS, progress=told.append)
    assert [(each.method, each.split.name) for each in told[:3]] == [
        ("centroid", "donor d1"), ("majority", "donor d1"), ("centroid", "donor d2"),
    ]  # fmt: skip
    for result in comparison.results:
        assert result.macro_f1 == macro_f1(LABELS[result.split.test], result.predicted)
        assert 0 <= result.calibration_error <= 1
    centroid, majority = comparison.score("centroid"), comparison.score("majority")
    assert centroid.mean > 0.8 > 0.3 > majority.mean
    difference = comparison.difference("centroid", "majority", resample_splits=True)
    assert difference.mean == pytest.approx(centroid.mean - majority.mean)
    assert difference.low > 0.4


def test_a_donor_on_both_sides_of_a_split_by_donors_is_refused():
    split = Split(np.arange(60), np.arange(60, 150), "by hand", "donor")
    with pytest.raises(InputError, match="by hand: donor 'd2' is on both sides"):
        compare(METHODS, X, LABELS, [split], groups=DONORS)


def test_a_method_that_is_not_there_is_named():
    comparison = compare(METHODS, X, LABELS, few_shot(LABELS, 5, [0]))
    with pytest.raises(InputError, match=r"no method 'genes'.*Choose one of centroid, majority"):
        comparison.of("genes")
