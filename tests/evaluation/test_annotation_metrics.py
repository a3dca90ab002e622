"""Annotation scores against tables done by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from cell_lm.errors import InputError
from cell_lm.evaluation import annotation_metrics as metrics

TRUTH = ["T", "T", "T", "T", "B", "B", "NK", "rare"]
GUESS = ["T", "T", "T", "B", "B", "mast", "B", "T"]


def test_scores_match_a_table_done_by_hand() -> None:
    scores = metrics.annotation_scores(TRUTH, GUESS)
    assert scores.classes == ("B", "NK", "T", "mast", "rare")
    assert scores.cells == 8
    assert scores.accuracy == pytest.approx(4 / 8)
    np.testing.assert_array_equal(
        scores.confusion, [[1, 0, 0, 1, 0], [1, 0, 0, 0, 0], [1, 0, 3, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]]
    )
    table = scores.per_class
    assert table["support"].tolist() == [2, 1, 4, 0, 1]
    assert table["precision"].tolist() == pytest.approx([1 / 3, 0, 3 / 4, 0, 0])
    np.testing.assert_allclose(table["recall"], [1 / 2, 0, 3 / 4, np.nan, 0])
    np.testing.assert_allclose(table["f1"], [2 / 5, 0, 3 / 4, np.nan, 0])


def test_macro_f1_counts_classes_of_the_truth_only_and_never_predicted_ones_as_zero() -> None:
    scores = metrics.annotation_scores(TRUTH, GUESS)
    assert scores.macro_f1 == pytest.approx((2 / 5 + 0 + 3 / 4 + 0) / 4)
    present = sorted(set(TRUTH))
    expected = f1_score(TRUTH, GUESS, labels=present, average="macro", zero_division=0.0)
    assert scores.macro_f1 == pytest.approx(expected)
    assert metrics.macro_f1(TRUTH, GUESS) == pytest.approx(scores.macro_f1)


def test_a_single_class_that_is_always_right_scores_one() -> None:
    scores = metrics.annotation_scores(["a", "a"], ["a", "a"])
    assert (scores.accuracy, scores.macro_f1, scores.confusion.tolist()) == (1.0, 1.0, [[2]])


def test_nothing_right_scores_zero() -> None:
    scores = metrics.annotation_scores(["a", "a"], ["b", "c"])
    assert (scores.accuracy, scores.macro_f1) == (0.0, 0.0)


def test_scores_take_categoricals_and_numbers_alike() -> None:
    truth = pd.Series([1, 2, 2], dtype="category")
    assert metrics.annotation_scores(truth, ["1", "2", "1"]).accuracy == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("truth", "guess", "message"),
    [
        (["a", None, float("nan")], ["a", "a", "a"], "true labels: 2 of 3 labels are missing"),
        (["a", "b"], pd.Series(["a", None], dtype="category"), "predicted labels: 1 of 2 labels are missing"),
        (["a", "b"], ["a"], "2 true labels but 1 predicted"),
        ([], [], "expected one label a cell"),
        ([["a"], ["b"]], ["a", "b"], "expected one label a cell"),
    ],
)
def test_labels_that_cannot_be_scored_are_named(truth: list[object], guess: list[object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        metrics.annotation_scores(truth, guess)
