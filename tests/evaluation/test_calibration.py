from __future__ import annotations

import numpy as np
import pytest

from cell_lm.errors import InputError
from cell_lm.evaluation.calibration import calibration_error
from cell_lm.evaluation.novelty import novelty_auroc


def two(confidence: list[float]) -> np.ndarray:
    return np.column_stack([confidence, 1 - np.array(confidence)])


def test_calibration_error_matches_bins_done_by_hand():
    """Ten bins: .95 twice (one right), .75 once (right), .65 once (wrong), each weighted by its cells."""
    error = calibration_error(["a", "b", "a", "b"], two([0.95, 0.95, 0.75, 0.65]), ["a", "b"], bins=10)
    assert error == pytest.approx(2 / 4 * 0.45 + 1 / 4 * 0.25 + 1 / 4 * 0.65)


def test_bins_are_closed_on_the_right():
    """0.8 belongs to (.7, .8] with .75, not to (.8, .9]: their errors cancel within the bin."""
    error = calibration_error(["a", "b"], two([0.8, 0.75]), ["a", "b"], bins=10)
    assert error == pytest.approx(abs((1 - 0.8) + (0 - 0.75)) / 2)


def test_certain_and_right_has_no_error_and_certain_and_wrong_has_all():
    p = two([1.0, 1.0, 1.0])
    assert calibration_error(["a"] * 3, p, ["a", "b"]) == 0
    assert calibration_error(["b"] * 3, p, ["a", "b"]) == 1
    assert calibration_error(["unseen"] * 3, p, ["a", "b"]) == 1


def test_honest_probabilities_have_little_error_and_sharpened_ones_more():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], 20_000)
    truth = np.array(list("abc"))[(p.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)]
    sharp = p**3 / (p**3).sum(axis=1, keepdims=True)
    for classwise in (False, True):
        assert calibration_error(truth, p, list("abc"), classwise=classwise) < 0.015
        assert calibration_error(truth, sharp, list("abc"), classwise=classwise) > 0.1


def test_classwise_counts_the_probability_of_every_class():
    """Always 'a' at .5: right half the time, so that the top label is calibrated, while 'b' and 'c' are not."""
    p = np.tile([0.5, 0.3, 0.2], (10, 1))
    truth = ["a"] * 5 + ["b"] * 5
    assert calibration_error(truth, p, list("abc")) == pytest.approx(0)
    assert calibration_error(truth, p, list("abc"), classwise=True) == pytest.approx((0 + 0.2 + 0.2) / 3)


@pytest.mark.parametrize("p", [[[0.5, 0.4]], [[1.5, -0.5]], [[np.nan, 1.0]], [0.5, 0.5]])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(InputError, match="not probabilities"):
        calibration_error(["a"], p, ["a", "b"])


def test_other_cells_or_classes_are_refused():
    with pytest.raises(InputError, match=r"shape \(2, 2\) for 1 cells and 2 classes"):
        calibration_error(["a"], two([0.5, 0.5]), ["a", "b"])


def test_novelty_is_the_chance_that_a_novel_cell_scores_higher():
    known, novel = [0.1, 0.2, 0.2, 0.9], [0.2, 0.8]
    wins = np.mean([(n > k) + 0.5 * (n == k) for n in novel for k in known])
    assert novelty_auroc(known, novel) == pytest.approx(wins)
    assert novelty_auroc(novel, known) == pytest.approx(1 - wins)


@pytest.mark.parametrize(
    ("known", "novel", "message"),
    [([], [1.0], "scores of known cells"), ([1.0], [[1.0]], "scores of novel cells"), ([np.nan, 1], [1.0], "1 of 2")],
)
def test_scores_that_cannot_be_ranked_are_named(known, novel, message):
    with pytest.raises(InputError, match=message):
        novelty_auroc(known, novel)
