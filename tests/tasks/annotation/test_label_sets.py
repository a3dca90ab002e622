from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from cell_lm.errors import ConfigError, InputError
from cell_lm.tasks.annotation.label_sets import COVERAGES, LabelSets, calibrate_label_sets

CLASSES = ("B", "NK", "T")


def made(cells: int, seed: int, noise: float = 1.5) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities of three classes that are right four times of five, and the true classes."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, cells)
    logits = rng.normal(0, noise, (cells, 3))
    logits[np.arange(cells), codes] += 2.5
    p = np.exp(logits)
    return p / p.sum(axis=1, keepdims=True), codes


@pytest.mark.parametrize("coverage", COVERAGES)
def test_the_true_label_is_in_the_set_as_often_as_stated(coverage: float) -> None:
    p, codes = made(4000, 1)
    inside = calibrate_label_sets(*made(4000, 0)).contains(p, coverage)
    found = inside[np.arange(len(p)), codes].mean()
    assert abs(found - coverage) < 3.5 * np.sqrt(2 * coverage * (1 - coverage) / 4000)


def test_the_sets_are_those_of_mapie() -> None:
    mapie = pytest.importorskip("mapie.classification")
    from sklearn.base import BaseEstimator, ClassifierMixin

    class AsGiven(ClassifierMixin, BaseEstimator):
        """Returns the probabilities that it gets."""

        classes_ = np.arange(3)
        n_features_in_ = 3

        def fit(self, X: NDArray[np.float64], y: NDArray[np.int64]) -> AsGiven:
            return self

        def predict(self, X: NDArray[np.float64]) -> NDArray[np.int64]:
            return X.argmax(axis=1)

        def predict_proba(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
            return X

        def __sklearn_is_fitted__(self) -> bool:
            return True

    (p, codes), (query, _) = made(237, 0), made(300, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = mapie.SplitConformalClassifier(AsGiven(), confidence_level=[0.8, 0.9, 0.95], conformity_score="lac")
        theirs = peer.conformalize(p, codes).predict_set(query)[1]
    ours = calibrate_label_sets(p, codes)
    for number, coverage in enumerate((0.8, 0.9, 0.95)):
        np.testing.assert_array_equal(ours.contains(query, coverage), theirs[:, :, number])


def test_sets_are_text_with_the_most_probable_label_first() -> None:
    sets = LabelSets(least=(0.5, 0.3, 0.2, 0.0), cells=99)
    p = np.array([[0.2, 0.42, 0.38], [0.05, 0.9, 0.05], [0.25, 0.45, 0.3]])
    text, size = sets.text(p, CLASSES, 0.9)
    assert text.tolist() == ["NK|T", "NK", "NK|T"]
    assert size.tolist() == [2, 1, 2]
    text, size = sets.text(p, CLASSES, 0.8)
    assert text.tolist() == ["", "NK", ""]
    assert size.tolist() == [0, 1, 0]
    assert sets.text(p, CLASSES, 0.8, empty=False)[0].tolist() == ["NK", "NK", "NK"]
    assert sets.text(p, CLASSES, 0.99)[1].tolist() == [3, 3, 3]


def test_with_too_few_cells_for_the_coverage_every_label_is_in_the_set() -> None:
    p, codes = made(8, 0)
    sets = calibrate_label_sets(p, codes)
    assert sets.contains(p, 0.9).all()
    assert not sets.contains(p, 0.8).all()


def test_cells_that_were_not_left_out_do_not_count() -> None:
    p, codes = made(200, 0)
    more, others = np.vstack([p, np.full((50, 3), np.nan)]), np.append(codes, np.zeros(50, np.int64))
    assert calibrate_label_sets(more, others) == calibrate_label_sets(p, codes)
    with pytest.raises(InputError, match="no cell was left out"):
        calibrate_label_sets(np.full((50, 3), np.nan), np.zeros(50, np.int64))
    with pytest.raises(InputError, match=r"shape \(200, 3\) for labels of shape \(199,\)"):
        calibrate_label_sets(p, codes[:-1])


def test_a_coverage_that_is_not_calibrated_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"0\.85 is not calibrated\. Choose one of 0\.8, 0\.9, 0\.95, 0\.99"):
        calibrate_label_sets(*made(50, 0)).contains(np.ones((1, 3)) / 3, 0.85)


def test_they_are_saved_as_plain_values_and_damaged_ones_are_refused() -> None:
    sets = calibrate_label_sets(*made(200, 0))
    assert LabelSets.from_json(sets.to_json()) == sets
    with pytest.raises(ValueError, match="no probabilities"):
        LabelSets.from_json(sets.to_json() | {"least": [0.1, 0.1, 0.1, 7.0]})
    with pytest.raises(ValueError, match="other coverages"):
        LabelSets.from_json(sets.to_json() | {"coverages": [0.5]})
