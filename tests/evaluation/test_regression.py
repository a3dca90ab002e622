from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats

from cell_lm.errors import InputError
from cell_lm.evaluation.regression import predict_mean_effects, response_scores

RNG = np.random.default_rng(0)
LINES, DRUGS = np.repeat([f"l{i}" for i in range(12)], 6), np.tile([f"d{i}" for i in range(6)], 12)
LINE, DRUG = np.repeat(RNG.normal(0, 0.5, 12), 6), np.tile(RNG.normal(0, 3, 6), 12)
OWN = RNG.normal(0, 1, 72)
TRUTH = 2 + LINE + DRUG + OWN


def test_scores_are_those_of_scipy():
    predicted = TRUTH + RNG.normal(0, 1, 72)
    scores = response_scores(TRUTH, predicted, lines=LINES, drugs=DRUGS)
    assert scores.pearson == pytest.approx(stats.pearsonr(TRUTH, predicted).statistic)
    assert scores.spearman == pytest.approx(stats.spearmanr(TRUTH, predicted).statistic)
    assert scores.rmse == pytest.approx(np.sqrt(np.mean((TRUTH - predicted) ** 2)))
    for mean, groups in ((scores.pearson_per_drug, DRUGS), (scores.pearson_per_line, LINES)):
        each = [stats.pearsonr(TRUTH[groups == g], predicted[groups == g]).statistic for g in np.unique(groups)]
        assert mean == pytest.approx(np.mean(each))
    assert (scores.drugs, scores.lines, scores.drugs_left_out, scores.lines_left_out) == (6, 12, 0, 0)


def test_knowing_only_the_drugs_pays_over_all_pairs_and_nowhere_else():
    naive = predict_mean_effects(TRUTH, LINES, DRUGS, of_lines=LINES, of_drugs=DRUGS)
    drug_means = np.array([TRUTH[drug == DRUGS].mean() for drug in DRUGS])
    scores = response_scores(TRUTH, drug_means, lines=LINES, drugs=DRUGS, mean_effects=naive)
    assert scores.pearson > 0.9
    assert scores.pearson_per_line > 0.9
    assert scores.pearson_per_drug == 0
    assert abs(scores.normalised_pearson) < 0.01


def test_mean_effects_themselves_are_worth_nothing_normalised_and_the_truth_all():
    naive = predict_mean_effects(TRUTH, LINES, DRUGS, of_lines=LINES, of_drugs=DRUGS)
    by = {"lines": LINES, "drugs": DRUGS, "mean_effects": naive}
    assert response_scores(TRUTH, naive + 1e-13 * OWN, **by).normalised_pearson == 0
    assert response_scores(TRUTH, TRUTH, **by).normalised_pearson == pytest.approx(1)
    half = naive + 0.1 * OWN + RNG.normal(0, 0.1, 72)
    expected = stats.pearsonr(TRUTH - naive, half - naive).statistic
    assert response_scores(TRUTH, half, **by).normalised_pearson == pytest.approx(expected)
    assert 0.4 < expected < 0.95


def test_mean_effects_are_the_mean_and_what_line_and_drug_lie_above_it():
    naive = predict_mean_effects(
        [1.0, 2.0, 6.0], ["a", "a", "b"], ["x", "y", "x"], of_lines=["a", "b", "new"], of_drugs=["y", "x", "x"]
    )
    np.testing.assert_allclose(naive, [3 + (1.5 - 3) + (2 - 3), 3 + (6 - 3) + (3.5 - 3), 3 + 0 + 0.5])


def test_drugs_without_a_correlation_are_left_out_and_counted_and_a_constant_guess_is_not():
    truth = np.array([1.0, 2, 3, 1, 2, 5, 5, 5, 1, 2, 3])
    drugs = np.array(list("aaabbcccddd"))
    predicted = np.array([1.0, 2, 3, 1, 2, 1, 2, 3, 7, 7, 7])
    scores = response_scores(truth, predicted, lines=[f"l{i}" for i in range(11)], drugs=drugs)
    assert (scores.drugs, scores.drugs_left_out) == (2, 2)
    assert scores.pearson_per_drug == pytest.approx((1 + 0) / 2)
    assert (scores.lines, scores.lines_left_out) == (0, 11)
    assert np.isnan(scores.pearson_per_line)
    assert asdict(scores)["normalised_pearson"] is None


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([1.0, np.nan, 2.0], [1.0, 2.0, 3.0], "measured responses: 1 of 3 values"),
        ([1.0, 2.0, 3.0], [1.0, np.inf, 3.0], "predicted responses: 1 of 3 values"),
        ([1.0, 2.0], [1.0, 2.0], "2 measured and 2 predicted"),
        ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0], "4 measured and 3 predicted"),
    ],
)
def test_responses_that_cannot_be_scored_are_named(truth, predicted, message):
    with pytest.raises(InputError, match=message):
        response_scores(truth, predicted, lines=["a"] * len(truth), drugs=["x"] * len(truth))


def test_mean_effects_of_other_numbers_of_pairs_are_refused():
    with pytest.raises(InputError, match="2 drugs for 3 responses"):
        predict_mean_effects([1.0, 2, 3], ["a", "b", "c"], ["x", "y"], of_lines=["a"], of_drugs=["x"])
