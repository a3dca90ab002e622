from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cell_lm.errors import InputError
from cell_lm.evaluation.calibration import calibration_error
from cell_lm.evaluation.learning_curve import few_shot_curve
from cell_lm.evaluation.selective import label_reliability, risk_coverage

TRUTH = ["T", "T", "B", "B", "NK"]
PREDICTED = ["T", "T", "B", "T", "T"]
CONFIDENCE = [0.9, 0.8, 0.8, 0.6, 0.3]


def test_risk_is_that_of_the_cells_above_each_threshold() -> None:
    found = risk_coverage(TRUTH, PREDICTED, CONFIDENCE)
    np.testing.assert_allclose(found.coverage, [0.2, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(found.risk, [0, 0, 0.25, 0.4])
    np.testing.assert_allclose(found.confidence, [0.9, 0.8, 0.6, 0.3])
    assert found.area == pytest.approx((0 * 1 + 0 * 2 + 0.25 + 0.4) / 5)
    assert (found.coverage_at(0.0), found.coverage_at(0.3), found.coverage_at(0.4)) == (0.6, 0.8, 1.0)
    assert risk_coverage(["B"], ["T"], [0.5]).coverage_at(0.5) == 0.0


def test_confidence_that_tells_right_from_wrong_has_less_area_than_one_that_does_not() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat("a", 500)
    predicted = np.where(rng.random(500) < 0.3, "b", "a")
    knows, guesses = (predicted == "a") + rng.random(500), rng.random(500)
    good, bad = (risk_coverage(truth, predicted, each).area for each in (knows, guesses))
    assert good < 0.1 < bad == pytest.approx(0.3, abs=0.06)


def test_reliability_adds_up_to_the_calibration_error() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], 300)
    names = np.array(["a", "b", "c"])
    truth = names[[rng.choice(3, p=row) for row in p]]
    held = [one for one in label_reliability(truth, names[p.argmax(axis=1)], p.max(axis=1)) if one.cells]
    assert sum(one.cells for one in held) == 300
    error = sum(abs(one.confidence - one.accuracy) * one.cells for one in held) / 300
    assert error == pytest.approx(calibration_error(truth, p, names))


def test_reliability_puts_each_cell_into_one_bin() -> None:
    confidence = np.array([0.05, 0.1, 0.11, 0.95, 1.0, 1.0])
    right = np.array([False, False, True, True, True, False])
    bins = label_reliability(np.full(6, "a"), np.where(right, "a", "b"), confidence, 10)
    assert [one.cells for one in bins] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 3]
    assert bins[0].accuracy == 0
    assert bins[9].accuracy == pytest.approx(2 / 3)
    assert bins[9].confidence == pytest.approx(2.95 / 3)
    assert np.isnan(bins[5].accuracy)


def test_risk_is_the_error_of_the_most_confident_cells() -> None:
    confidence = np.array([0.9, 0.2, 0.8, 0.4])
    right = np.array([True, False, True, False])
    risks = risk_coverage(np.full(4, "a"), np.where(right, "a", "b"), confidence).at((0.25, 0.5, 0.75, 1.0))
    assert [one.error for one in risks] == [0, 0, pytest.approx(1 / 3), 0.5]
    assert [one.confidence for one in risks] == [0.9, 0.8, 0.4, 0.2]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="5 true labels, 4 predicted ones"):
        risk_coverage(TRUTH, PREDICTED[:4], CONFIDENCE)
    with pytest.raises(InputError, match="1 of 5 confidences are missing"):
        risk_coverage(TRUTH, PREDICTED, [0.1, 0.2, 0.3, 0.4, np.nan])
    with pytest.raises(InputError, match=r"confidences from 0\.3 to 9"):
        label_reliability(TRUTH, PREDICTED, [9, *CONFIDENCE[1:]])


def test_more_labelled_cells_score_higher_and_never_meet_the_test_cells() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c"], [40, 40, 6])
    x = rng.normal(0, 1, (86, 3)) + 1.2 * np.eye(3)[np.repeat(np.arange(3), [40, 40, 6])]
    met = []

    def predict(train: NDArray[np.int64], test: NDArray[np.int64], seed: int) -> NDArray[np.str_]:
        met.append(len(np.intersect1d(train, test)))
        means = np.stack([x[train[labels[train] == name]].mean(axis=0) for name in "abc"])
        return np.array(["a", "b", "c"])[((x[test][:, None] - means) ** 2).sum(axis=2).argmin(axis=1)]

    curve = few_shot_curve(predict, labels, per_type=(10, 1, 500), seeds=range(6))
    assert curve.per_type == (1, 10)
    assert [len(each) for each in curve.scores] == [6, 6]
    assert all(0 <= one.low <= one.mean <= one.high <= 1 for one in curve.intervals)
    assert curve.intervals[1].mean > curve.intervals[0].mean + 0.05
    assert met == [0] * 12
    with pytest.raises(InputError, match="the largest type has 40 cells, too few for 50"):
        few_shot_curve(predict, labels, per_type=(50,))
