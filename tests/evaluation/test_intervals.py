from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cell_lm.errors import InputError
from cell_lm.evaluation.annotation_metrics import macro_f1
from cell_lm.evaluation.intervals import mean_interval, paired_bootstrap, paired_bootstrap_over, score_interval

TRUTH = np.repeat(list("abcd"), [80, 60, 40, 20])


def guesses(wrong: float, seed: int, truth: np.ndarray = TRUTH) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(len(truth)) < wrong, rng.permutation(truth), truth)


def test_the_interval_over_seeds_is_students_t():
    values = [0.8, 0.9, 0.85, 0.7]
    interval = mean_interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((np.mean(values), low, high))
    assert interval.bounds() == [round(low, 4), round(high, 4)]


def test_one_value_has_no_bounds():
    assert mean_interval([0.5]).bounds() == [None, None]
    assert str(mean_interval([0.5])) == "0.500"


def test_nearly_all_intervals_hold_the_mean_that_they_are_for():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(0, 1, 5)) for _ in range(600)]
    assert np.mean([each.low <= 0 <= each.high for each in intervals]) == pytest.approx(0.95, abs=0.03)


def test_the_difference_is_that_of_the_scores_and_a_better_method_is_above_zero():
    good, bad = guesses(0.1, 1), guesses(0.5, 2)
    difference = paired_bootstrap(TRUTH, good, bad, resamples=300)
    assert difference.mean == pytest.approx(macro_f1(TRUTH, good) - macro_f1(TRUTH, bad))
    assert 0 < difference.low < difference.mean < difference.high
    assert paired_bootstrap(TRUTH, bad, good, resamples=300).high < 0


def test_the_same_method_differs_from_itself_by_nothing_as_both_have_the_same_draw():
    same = paired_bootstrap(TRUTH, guesses(0.3, 1), guesses(0.3, 1), resamples=100)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_the_interval_agrees_with_scipys_bootstrap():
    first, second = guesses(0.2, 1) == TRUTH, guesses(0.4, 2) == TRUTH
    peer = stats.bootstrap(
        (first.astype(float), second.astype(float)),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    ours = paired_bootstrap(TRUTH, guesses(0.2, 1), guesses(0.4, 2), metric="accuracy", resamples=4000)
    assert (ours.low, ours.high) == pytest.approx((peer.low, peer.high), abs=0.01)


def test_a_metric_of_numbers_is_a_function():
    truth = np.linspace(0, 1, 50)
    close, far = truth + 0.01 * np.sin(np.arange(50)), truth + 0.5 * np.sin(np.arange(50))
    difference = paired_bootstrap(truth, far, close, metric=lambda a, b: float(np.mean((a - b) ** 2)), resamples=100)
    assert difference.low > 0


def test_drawing_whole_donors_is_less_sure_where_a_donor_decides_all():
    truth = np.tile(["a", "b"], 100)
    donors = np.repeat([f"d{i}" for i in range(5)], 40)
    first = np.where(np.isin(donors, ["d0", "d1", "d2"]), truth, truth[::-1])
    second = truth[::-1]
    cells = paired_bootstrap(truth, first, second, metric="accuracy", resamples=500)
    whole = paired_bootstrap(truth, first, second, metric="accuracy", groups=donors, resamples=500)
    assert whole.mean == cells.mean == pytest.approx(0.6)
    assert whole.high - whole.low > 3 * (cells.high - cells.low)


def test_over_test_sets_each_counts_the_same_and_drawing_them_widens_the_interval():
    large, small = np.tile(["a", "b"], 200), np.tile(["a", "b"], 30)
    wrong = {"a": "b", "b": "a"}
    parts = [
        (large, large, [wrong[x] for x in large]),
        (small, small, small),
        (small, small, small),
    ]
    cells = paired_bootstrap_over(parts, metric="accuracy", resample_parts=False, resamples=200)
    both = paired_bootstrap_over(parts, metric="accuracy", resamples=200)
    assert cells.mean == both.mean == pytest.approx(1 / 3)
    assert (cells.low, cells.high) == pytest.approx((1 / 3, 1 / 3))
    assert (both.low, both.high) == pytest.approx((0, 1))
    assert both.n == 520


def test_a_seed_gives_one_interval():
    pair = (TRUTH, guesses(0.2, 1), guesses(0.3, 2))
    assert paired_bootstrap(*pair, resamples=50, seed=3) == paired_bootstrap(*pair, resamples=50, seed=3)
    assert paired_bootstrap(*pair, resamples=50, seed=3) != paired_bootstrap(*pair, resamples=50, seed=4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mean_interval([]), "0 of 0 values"),
        (lambda: mean_interval([1.0, np.nan]), "1 of 2 values are missing"),
        (lambda: paired_bootstrap(TRUTH, TRUTH, TRUTH[1:]), "200 and 200 and 199"),
        (lambda: paired_bootstrap(TRUTH, TRUTH, TRUTH, groups=["d"] * 200), "1 groups of 200 cells"),
        (lambda: paired_bootstrap_over([]), "no test set"),
    ],
)
def test_what_has_no_interval_is_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_the_interval_of_one_score_holds_the_score_whatever_the_labels_are_called():
    for truth in (TRUTH, np.where(TRUTH == "a", "", TRUTH)):
        predicted = guesses(0.2, 1, truth)
        interval = score_interval(truth, predicted, resamples=200)
        assert interval.mean == pytest.approx(macro_f1(truth, predicted))
        assert interval.low < interval.mean < interval.high
    assert score_interval(TRUTH, TRUTH, resamples=50).bounds() == [1, 1]


def test_cells_drawn_within_donors_leave_each_donor_its_share():
    donors = np.repeat(["easy", "hard"], 100)
    right, never = np.repeat(["a", "b"], 100), np.full(200, "c")
    half = np.where(donors == "easy", right, never)
    within = paired_bootstrap(right, half, never, metric="accuracy", within=donors, resamples=200)
    assert within.bounds() == [0.5, 0.5]
    free = paired_bootstrap(right, half, never, metric="accuracy", resamples=200)
    assert free.low < 0.5 < free.high
    with pytest.raises(InputError, match="both groups= and within="):
        paired_bootstrap(right, half, never, groups=donors, within=donors)
    with pytest.raises(InputError, match="1 groups of 3 cells, for 200 labels"):
        paired_bootstrap(right, half, never, within=["x"] * 3)
