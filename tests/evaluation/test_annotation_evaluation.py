from __future__ import annotations

import json

import numpy as np
import pytest

from cell_lm.errors import InputError
from cell_lm.evaluation.annotation_evaluation import evaluate_annotation

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


def test_donors_of_other_cells_are_refused(drawn):
    p, truth = drawn
    with pytest.raises(InputError, match="2 donors for 4,000 cells"):
        evaluate_annotation(truth, p, CLASSES, groups=["d1", "d2"])
