"""The linear head as scikit-learn uses it: its checks, pipelines, and the same numbers as the function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from cell_lm.errors import InputError
from cell_lm.evaluation import LinearHeadClassifier, fit_head


@parametrize_with_checks([LinearHeadClassifier()])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_the_checks_of_scikit_learn(estimator: LinearHeadClassifier, check: Callable[[Any], None]) -> None:
    check(estimator)


def cells(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes, donors = rng.integers(0, 3, 180), rng.integers(0, 4, 180)
    centres = np.random.default_rng(1).normal(0, 1, (3, 6))
    features = centres[codes] + rng.normal(0, 1, (180, 6)) + 0.2 * donors[:, None]
    return features, np.array(["b", "a", "c"], object)[codes], np.array([f"d{d}" for d in donors], object)


@pytest.mark.parametrize("by_donor", [False, True])
def test_it_gives_what_the_function_gives(by_donor: bool) -> None:
    x, labels, donors = cells()
    groups = donors if by_donor else None
    head, fitted = fit_head(x, labels, groups=groups, seed=3), LinearHeadClassifier(seed=3).fit(x, labels, groups)
    assert fitted.classes_.tolist() == list(head.classes)
    assert fitted.selection_ == head.selection
    other = cells(5)[0]
    np.testing.assert_array_equal(fitted.predict_proba(other), head.probabilities(other))
    logits = other @ fitted.coef_.T + fitted.intercept_
    np.testing.assert_allclose(logits, fitted.decision_function(other), atol=1e-9)


def test_it_works_in_a_pipeline_and_in_model_selection() -> None:
    x, labels, _ = cells()
    scores = cross_val_score(make_pipeline(StandardScaler(), LinearHeadClassifier(whitening=0.0)), x, labels, cv=3)
    assert scores.mean() > 0.6  # chance: 0.33


def test_donors_of_another_number_of_cells_and_a_single_class_are_refused() -> None:
    x, labels, donors = cells()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        LinearHeadClassifier().fit(x, labels, donors[:-1])
    with pytest.raises(InputError, match="all 180 cells have the same label"):
        LinearHeadClassifier().fit(x, np.full(180, "a"))
