from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from cell_lm.errors import InputError
from cell_lm.evaluation import linear_head
from cell_lm.evaluation.calibration import best_temperature
from cell_lm.evaluation.folds import FOLDS, training_folds
from cell_lm.evaluation.linear_head import LinearHead, fit_head


def blobs(cells: int = 300, classes: int = 3, width: int = 8, seed: int = 0, spread: float = 1.0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(0, 2, (classes, width))
    codes = rng.integers(0, classes, cells)
    return centres[codes] + rng.normal(0, spread, (cells, width)), np.array([f"type {c}" for c in codes], object)


def predicted(head: LinearHead, features: NDArray) -> NDArray:
    return np.array(head.classes, object)[head.probabilities(features).argmax(axis=1)]


def test_it_tells_classes_apart_that_can_be_told_apart():
    head = fit_head(*blobs())
    features, labels = blobs(seed=7)
    assert np.mean(predicted(head, features) == labels) > 0.95
    np.testing.assert_allclose(head.probabilities(features).sum(axis=1), 1)


@pytest.mark.parametrize("classes", [2, 4])
def test_its_probabilities_are_those_of_scikit_learn_before_the_temperature(monkeypatch, classes):
    monkeypatch.setattr(linear_head, "GRID", (0.3,))
    features, labels = blobs(classes=classes, spread=3.0)
    head = fit_head(features, labels, whitening=0.0)
    centred = features - features.mean(axis=0)
    scaled = centred / np.sqrt((centred**2).mean())
    peer = LogisticRegression(C=0.3, class_weight="balanced", max_iter=1000).fit(scaled, labels)
    log = np.log(head.probabilities(features)) * head.selection.temperature
    ours = np.exp(log) / np.exp(log).sum(axis=1, keepdims=True)
    assert list(peer.classes_) == list(head.classes)
    np.testing.assert_allclose(ours, peer.predict_proba(scaled), atol=2e-3)


def test_shift_and_scale_of_the_features_do_not_matter():
    features, labels = blobs(spread=2.0)
    moved = features * 64.0 + 3.0
    np.testing.assert_allclose(
        fit_head(moved, labels).probabilities(moved), fit_head(features, labels).probabilities(features), atol=1e-4
    )


def test_a_signal_that_hardly_varies_is_found_among_loud_directions():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, 400)
    loud = rng.normal(0, 30, (400, 20))
    quiet = (codes * 0.2 + rng.normal(0, 0.03, 400))[:, None]
    features, labels = np.hstack([loud, quiet]), np.array(["a", "b"], object)[codes]
    most, none = (fit_head(features[:300], labels[:300], whitening=degree) for degree in (linear_head.WHITENING, 0.0))
    assert np.mean(predicted(most, features[300:]) == labels[300:]) > 0.95
    assert np.mean(predicted(none, features[300:]) == labels[300:]) < 0.8


def test_a_rare_class_weighs_as_much_as_a_common_one():
    rng = np.random.default_rng(0)
    common, rare = rng.normal(0, 1, (2000, 3)), rng.normal(1.2, 1, (40, 3))
    labels = np.array(["common"] * 2000 + ["rare"] * 40, object)
    head = fit_head(np.concatenate([common, rare]), labels)
    fresh = rng.normal(1.2, 1, (500, 3))
    assert np.mean(predicted(head, fresh) == "rare") > 0.7


def test_whole_groups_are_left_out_and_every_cell_once():
    codes = np.tile([0, 1], 50)
    groups = np.repeat([f"donor {i}" for i in range(10)], 10).astype(object)
    folds = list(training_folds(codes, groups, seed=0))
    assert len(folds) == FOLDS
    for rest, judged in folds:
        assert not set(groups[rest]) & set(groups[judged])
    assert sorted(np.concatenate([judged for _, judged in folds])) == list(range(100))


def test_without_groups_every_class_is_spread_over_the_folds():
    codes = np.repeat([0, 1, 2], [100, 10, 5])
    for rest, judged in training_folds(codes, None, seed=3):
        assert np.bincount(codes[judged]).tolist() == [20, 2, 1]
        assert not set(rest) & set(judged)


def test_what_does_not_carry_over_to_other_donors_does_not_count():
    """Six features tell the labels apart in one donor each; only leaving whole donors out shows what they are worth."""
    rng = np.random.default_rng(0)
    donors = np.repeat(np.arange(6), 60)
    codes = rng.integers(0, 2, 360)
    own = np.zeros((360, 6))
    own[np.arange(360), donors] = (codes - 0.5) * np.where(donors % 2, 1, -1) * 4
    features = np.column_stack([codes * 1.5 + rng.normal(0, 1, 360), own])
    labels = np.array(["a", "b"], object)[codes]
    alone = fit_head(features, labels).selection
    grouped = fit_head(features, labels, groups=donors.astype(str).astype(object)).selection
    assert max(score for _, score in alone.scores) > 0.99
    assert max(score for _, score in grouped.scores) < 0.85


@pytest.mark.parametrize("sizes", [(40, 1), (40, 2, 1), (3, 2), (2, 2)])
def test_classes_smaller_than_the_folds_are_no_trouble(sizes):
    codes = np.repeat(np.arange(len(sizes)), sizes)
    features = np.random.default_rng(0).normal(0, 0.1, (len(codes), 4)) + codes[:, None]
    head = fit_head(features, np.array(list("abc"), object)[codes])
    assert head.classes == tuple("abc")[: len(sizes)]
    assert np.isfinite(head.probabilities(features)).all()


def test_nothing_is_tried_where_no_cell_can_be_left_out():
    head = fit_head(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array(["a", "b"], object))
    assert (head.selection.C, head.selection.folds, head.selection.scores) == (linear_head.UNTRIED, 0, ())


def test_confidence_is_right_on_average_where_labels_are_noisy():
    def noisy(seed: int) -> tuple[NDArray, NDArray]:
        features, labels = blobs(cells=1500, seed=seed)
        rng = np.random.default_rng(seed + 100)
        wrong = rng.random(len(labels)) < 0.25
        return features, np.where(wrong, rng.permutation(labels), labels)

    head = fit_head(*noisy(0))
    features, labels = noisy(1)
    confidence = head.probabilities(features).max(axis=1).mean()
    assert confidence == pytest.approx(np.mean(predicted(head, features) == labels), abs=0.03)


def test_the_temperature_undoes_the_smallness_of_strongly_penalised_logits():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 400)
    logits = 1e-3 * np.eye(5)[np.where(rng.random(400) < 0.9, truth, (truth + 1) % 5)]
    probability = np.exp(1e-3 / best_temperature(logits, truth))
    assert probability / (probability + 4) == pytest.approx(0.9, abs=0.03)


def test_the_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 1000)
    right = rng.random(1000) < 0.8
    logits = np.zeros((1000, 2))
    logits[np.arange(1000), np.where(right, truth, 1 - truth)] = 20.0
    temperature = best_temperature(logits, truth)
    assert 1 / (1 + np.exp(-20 / temperature)) == pytest.approx(0.8, abs=0.02)


def test_perfect_predictions_do_not_become_certain():
    head = fit_head(*blobs(spread=0.01))
    confidence = head.probabilities(blobs(spread=0.01, seed=5)[0]).max(axis=1)
    assert confidence.mean() > 0.95
    assert confidence.mean() < 1 - 1e-5


def test_the_same_seed_gives_the_same_head():
    features, labels = blobs(spread=4.0)
    first, second = fit_head(features, labels, seed=3), fit_head(features, labels, seed=3)
    assert np.array_equal(first.coefficients, second.coefficients)
    assert first.selection == second.selection


def test_the_global_generator_is_left_alone():
    np.random.seed(0)  # noqa: NPY002
    fit_head(*blobs())
    after = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    assert after == np.random.random()  # noqa: NPY002


def test_features_that_are_all_the_same_are_refused():
    labels = np.array(["a", "b"] * 20, object)
    features = np.full((40, 5), 0.1, np.float32)
    features[3, 2] += np.float32(1e-8)
    with pytest.raises(InputError, match="all 40 cells are the same"):
        fit_head(features, labels)


def test_groups_of_one_class_each_cannot_judge():
    features, labels = blobs(classes=3)
    with pytest.raises(InputError, match="none of the 3 groups shares two labels"):
        fit_head(features, labels, groups=labels.copy())
