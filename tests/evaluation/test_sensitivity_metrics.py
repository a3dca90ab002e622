from __future__ import annotations

import numpy as np
import pytest

from cell_lm.errors import InputError
from cell_lm.evaluation.sensitivity_metrics import reliability, sensitivity_scores
from cell_lm.tasks.sensitivity import summarise


def test_scores_of_a_small_case_are_those_by_hand() -> None:
    scores = sensitivity_scores([True, True, False, False], [0.9, 0.4, 0.6, 0.1])
    assert scores.f1 == 0.5
    assert scores.auroc == 0.75
    assert scores.auprc == pytest.approx((1 + 2 / 3) / 2)
    assert scores.mcc == 0.0
    assert scores.ece == pytest.approx((0.1 + 0.6 + 0.6 + 0.1) / 4)
    assert (scores.cells, scores.sensitive) == (4, 2)
    assert sensitivity_scores([True, False], [1.0, 1.0], score=[9, 8]).auroc == 1.0


@pytest.mark.parametrize(
    ("truth", "p", "says"),
    [
        ([True, True], [0.5, 0.5], "all 2 cells are sensitive"),
        ([True, False], [0.5], "probabilities"),
        ([True, False], [0.5, 1.5], "no probabilities"),
    ],
)
def test_what_cannot_be_scored_is_refused(truth: list[bool], p: list[float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        sensitivity_scores(truth, p)


def test_reliability_has_a_row_per_bin_that_holds_cells() -> None:
    mean, share, cells = reliability([0, 1, 1, 1], [0.05, 0.95, 0.93, 0.04], bins=10)
    np.testing.assert_allclose(mean, [0.045, 0.94])
    np.testing.assert_allclose(share, [0.5, 1.0])
    assert cells.tolist() == [2, 2]


def test_groups_are_summarised_the_most_sensitive_first() -> None:
    table = summarise(["a", "a", "b", "b", None], [0.9, 0.8, 0.1, 0.6, 0.5], [False, True, False, True, True])
    assert table["group"].tolist() == ["a", "b"]
    assert table["sensitive"].tolist() == [2, 1]
    assert table["fraction"].tolist() == [1.0, 0.5]
    assert table["uncertain"].tolist() == [0.5, 0.5]
    assert table["low"].tolist() == pytest.approx([0.3424, 0.0945], abs=1e-3)
    with pytest.raises(InputError, match="no cell has a group"):
        summarise([None, ""], [0.1, 0.2])
    with pytest.raises(InputError, match="2 groups for 1 probabilities"):
        summarise(["a", "b"], [0.1])
