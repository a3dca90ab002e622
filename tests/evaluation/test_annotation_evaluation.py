from __future__ import annotations

import json

import numpy as np
import pytest

from cell_lm.errors import InputError
from cell_lm.evaluation.annotation_evaluation import evaluate_annotation
from cell_lm.evaluation.confidence import reliability, risk_coverage

CLASSES = ("a", "b", "c")


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels drawn by them: calibrated by construction."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.5] * 3, 4000)
    truth = np.array([CLASSES[rng.choice(3, p=row)] for row in p])
    return p, truth


def test_scores_are_those_of_the_parts(drawn):
    p, truth = drawn
    donors = np.where(np.arange(len(truth)) % 4 == 0, "d1", "d2")
    found = evaluate_annotation(truth, p, CLASSES, groups=donors)
    right = np.array(CLASSES)[p.argmax(axis=1)] == truth
    assert found.scores.accuracy == pytest.approx(right.mean())
    assert found.macro_f1.low < found.macro_f1.mean < found.macro_f1.high
    assert found.ece < 0.03
    assert [(one.name, one.cells, one.types) for one in found.groups] == [("d1", 1000, 3), ("d2", 3000, 3)]
    assert sum(one.accuracy * one.cells for one in found.groups) == pytest.approx(right.sum())
    assert found.unknown == ()
    assert json.loads(json.dumps(found.to_json()))["by_group"]["d1"]["cells"] == 1000


def test_confidence_that_is_too_high_is_seen(drawn):
    p, truth = drawn
    sharp = p**3 / (p**3).sum(axis=1, keepdims=True)
    assert evaluate_annotation(truth, sharp, CLASSES).ece > 0.1


def test_a_type_that_is_not_known_counts_as_wrong(drawn):
    p, truth = drawn
    truth = np.where(np.arange(len(truth)) < 400, "new", truth)
    found = evaluate_annotation(truth, p, CLASSES)
    assert found.unknown == ("new",)
    assert found.scores.per_class.loc["new", "f1"] == 0
    assert found.to_json()["by_type"]["new"]["cells"] == 400


def test_reliability_puts_each_cell_into_one_bin():
    confidence = np.array([0.05, 0.1, 0.11, 0.95, 1.0, 1.0])
    right = np.array([False, False, True, True, True, False])
    bins = reliability(confidence, right, bins=10)
    assert [one.cells for one in bins] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 3]
    assert bins[0].accuracy == 0
    assert bins[9].accuracy == pytest.approx(2 / 3)
    assert bins[9].confidence == pytest.approx(2.95 / 3)
    assert np.isnan(bins[5].accuracy)


def test_risk_is_the_error_of_the_most_confident_cells():
    confidence = np.array([0.9, 0.2, 0.8, 0.4])
    right = np.array([True, False, True, False])
    risks = risk_coverage(confidence, right, coverages=(0.25, 0.5, 0.75, 1.0))
    assert [one.error for one in risks] == [0, 0, pytest.approx(1 / 3), 0.5]
    assert [one.confidence for one in risks] == [0.9, 0.8, 0.4, 0.2]


def test_donors_of_other_cells_are_refused(drawn):
    p, truth = drawn
    with pytest.raises(InputError, match="2 donors for 4,000 cells"):
        evaluate_annotation(truth, p, CLASSES, groups=["d1", "d2"])
