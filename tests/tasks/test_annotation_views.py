"""Views of a cell, their weights, the graph of labels, and what a fit knows of its own errors."""

from __future__ import annotations

import numpy as np
import pytest

from cell_lm.errors import ConfigError
from cell_lm.evaluation.baselines import GRID
from cell_lm.evaluation.folds import training_folds
from cell_lm.evaluation.linear_head import LeftOut, fit_head, fit_head_and_left_out
from cell_lm.evaluation.span import leading_components
from cell_lm.evaluation.stacking import fit_weights, left_out_of_pool, pool
from cell_lm.tasks import CellTypeClassifier
from cell_lm.tasks.annotation.propagation import spread_labels
from cell_lm.tasks.annotation.views import TrainingCells, fit_pool


@pytest.fixture(scope="module")
def clouds() -> tuple[np.ndarray, np.ndarray]:
    """Two paths in ten dimensions, from one axis over a second to a third, and which each point is on; ends first."""
    rng = np.random.default_rng(0)
    codes, place = np.repeat([0, 1], 150), np.tile(np.linspace(0, 2, 150), 2)
    axes = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(3)))
    x = np.zeros((300, 10))
    for code in (0, 1):
        x[codes == code, 3 * code : 3 * code + 3] = axes[codes == code]
    return (x * 5 + 0.05 * rng.normal(size=x.shape)).astype(np.float32), codes


def view(truth: np.ndarray, right: float, seed: int) -> LeftOut:
    """Predictions of three classes that name the right one so often, and are as sure of it as that."""
    rng = np.random.default_rng(seed)
    named = np.where(rng.random(len(truth)) < right, truth, (truth + rng.integers(1, 3, len(truth))) % 3)
    p = np.full((len(truth), 3), (1 - right) / 2)
    p[np.arange(len(truth)), named] = right
    return LeftOut(np.arange(len(truth)), np.arange(len(truth)) % 5, np.log(p))


def test_weights_follow_what_each_view_adds():
    truth = np.random.default_rng(0).integers(0, 3, 3000)
    good, poor, chance = view(truth, 0.9, 1), view(truth, 0.6, 2), view(truth, 1 / 3, 3)
    weights = fit_weights([good, poor, chance], truth)
    assert weights[0] == pytest.approx(1, abs=0.15)  # independent and calibrated: each counts once
    assert weights[1] == pytest.approx(1, abs=0.3)
    twice = fit_weights([good, good], truth)
    assert twice.sum() == pytest.approx(1, abs=0.15)  # the same twice is not more evidence
    pooled = pool(np.stack([good.log_probabilities, poor.log_probabilities]), weights[:2])
    assert (pooled.argmax(1) == truth).mean() >= (good.log_probabilities.argmax(1) == truth).mean()


def test_few_cells_leave_the_weights_near_each_other():
    truth = np.tile([0, 1, 2], 4)
    weights = fit_weights([view(truth, 0.9, 1), view(truth, 0.4, 2)], truth)
    assert np.abs(weights - 0.5).max() < 0.4


def test_the_pool_of_a_fold_does_not_use_its_own_labels():
    truth = np.random.default_rng(0).integers(0, 3, 300)
    views = [view(truth, 0.8, 1), view(truth, 0.6, 2)]
    before = left_out_of_pool(views, truth)
    here = before.folds == 2
    changed = np.where(here, (truth + 1) % 3, truth)
    after = left_out_of_pool(views, changed)
    np.testing.assert_array_equal(before.log_probabilities[here], after.log_probabilities[here])
    assert not np.allclose(before.log_probabilities[~here], after.log_probabilities[~here])


def test_left_out_predictions_are_those_of_a_fit_without_the_fold(clouds):
    x, codes = clouds
    labels = np.array(["a", "b"], object)[codes]
    donors = np.array(["d1", "d2", "d3"], object)[np.arange(len(x)) % 3]
    head, left_out = fit_head_and_left_out(x, labels, groups=donors, whitening=0.0)
    assert sorted(left_out.cells.tolist()) == list(range(len(x)))
    for fold in range(3):
        here = left_out.cells[left_out.folds == fold]
        assert len(set(donors[here])) == 1
        rest = np.setdiff1d(np.arange(len(x)), here)
        alone = fit_head(x[rest], labels[rest], whitening=0.0, grid=(head.selection.C,))
        ours = left_out.log_probabilities[left_out.folds == fold]
        theirs = alone.probabilities(x[here])
        np.testing.assert_array_equal(ours.argmax(1), theirs.argmax(1))


def test_labels_spread_along_the_paths(clouds):
    x, codes = clouds
    order = np.concatenate([[0, 1, 150, 151], np.setdiff1d(np.arange(300), [0, 1, 150, 151])])
    few = codes[order[:4]]
    folds = [(np.array([0, 2]), np.array([1, 3])), (np.array([1, 3]), np.array([0, 2]))]
    graph, left_out = spread_labels(x[order], few, 2, folds)
    found = graph.log_shares(x[order][4:]).argmax(axis=1)
    linear = fit_head(x[order[:4]], np.array(["a", "b"], object)[few])
    by_head = linear.probabilities(x[order][4:]).argmax(axis=1)
    truth = codes[order][4:]
    assert (found == truth).mean() > 0.95
    assert (found == truth).mean() > (by_head == truth).mean() + 0.05
    assert left_out.cells.tolist() == [1, 3, 0, 2]
    np.testing.assert_allclose(np.exp(left_out.log_probabilities).sum(axis=1), 1)


def test_a_cell_gets_the_same_label_from_the_graph_whatever_its_company(clouds):
    x, codes = clouds
    graph, _ = spread_labels(x, codes[:40], 2, [])
    whole = graph.log_shares(x[:50])
    np.testing.assert_allclose(np.concatenate([graph.log_shares(x[i : i + 1]) for i in range(50)]), whole, atol=1e-5)


def test_a_view_that_knows_the_labels_outweighs_noise():
    rng = np.random.default_rng(0)
    codes = np.arange(200) % 4
    features = {
        "model": rng.normal(size=(200, 12)).astype(np.float32),
        "adapted": (np.eye(12)[codes] * 4 + rng.normal(size=(200, 12))).astype(np.float32),
    }
    cells = TrainingCells(features, codes, None, 0)
    found, alone = fit_pool(cells, ("model", "adapted")), fit_pool(cells, ("model",))
    assert (alone.left_out.log_probabilities.argmax(axis=1) == codes[alone.left_out.cells]).mean() < 0.4
    assert (found.left_out.log_probabilities.argmax(axis=1) == codes[found.left_out.cells]).mean() > 0.95


def test_components_of_left_out_cells_are_learned_without_them():
    rng = np.random.default_rng(0)
    codes = np.arange(90) % 3
    x = rng.normal(size=(90, 40)) + 2.0 * np.eye(40)[codes]
    donors = np.array(["d1", "d2", "d3"], object)[rng.integers(0, 3, 90)]
    left_out = fit_pool(TrainingCells({"genes": x}, codes, donors, 0), ("components",)).left_out
    names = np.array(["a", "b", "c"], object)[codes]
    scales = []
    for fold, (rest, out) in enumerate(training_folds(codes, donors, 0)):
        here = left_out.folds == fold
        assert left_out.cells[here].tolist() == out.tolist()
        pca = leading_components(x[rest], 60, 0)
        p = [fit_head(pca(x[rest]), names[rest], whitening=0.0, grid=(C,)).probabilities(pca(x[out])) for C in GRID]
        mine, theirs = (centred(each) for each in (left_out.log_probabilities[here], np.log(np.stack(p))))
        scale = (mine * theirs).sum((1, 2), keepdims=True) / (theirs**2).sum((1, 2), keepdims=True)
        scales.append(np.abs(mine - scale * theirs).max(axis=(1, 2)))
    assert np.stack(scales).max(axis=0).min() < 1e-4, "one C of the grid gives all of them, but for a temperature"


def centred(logs: np.ndarray) -> np.ndarray:
    return logs - logs.mean(axis=-1, keepdims=True)


def test_an_adapted_view_weighs_what_it_is_worth_to_cells_it_was_not_adapted_to():
    rng = np.random.default_rng(0)
    codes = np.arange(200) % 4
    noise = rng.normal(size=(2, 200, 12)).astype(np.float32)
    seen = (np.eye(12)[codes] * 4 + noise[0]).astype(np.float32)
    features = {"model": (np.eye(12)[codes] * 2 + noise[1]).astype(np.float32), "adapted": seen}
    views = ("model", "adapted")
    trusted = fit_pool(TrainingCells(features, codes, None, 0), views).linear
    doubted = fit_pool(TrainingCells(features, codes, None, 0, [noise[0]] * 5), views).linear
    slopes = {
        name: np.abs(doubted[name].coefficients).mean() / np.abs(trusted[name].coefficients).mean() for name in views
    }
    assert slopes["adapted"] < 0.1
    assert slopes["model"] > 1


@pytest.mark.usefixtures("any_tissue")
def test_the_encoder_is_adapted_without_the_left_out_donors_unless_there_are_unlabelled_cells(
    reference_cells, query_cells, model, monkeypatch
):
    adapted_to = []

    def adapt(encoder, datasets, **_):
        adapted_to.append(sum(map(len, datasets)))
        return encoder

    monkeypatch.setattr("cell_lm.tasks.annotation.classifier.adapt", adapt)
    monkeypatch.setattr("cell_lm.tasks.annotation.classifier.LEAST_CELLS", 20)
    cells, others = len(reference_cells), len(query_cells)
    of_donor = reference_cells.obs["donor"].astype(str).value_counts()
    classifier = CellTypeClassifier(model, views=("genes", "adapted"))
    classifier.fit(reference_cells, "cell_type", groups="donor")
    assert adapted_to[0] == cells
    assert sorted(adapted_to[1:]) == sorted(cells - of_donor)
    adapted_to.clear()
    classifier.fit(reference_cells, "cell_type", groups="donor", unlabelled=query_cells)
    assert adapted_to == [cells + others]


def test_views_of_the_same_features_are_one_linear_function(reference_cells, query_cells, model):
    classifier = CellTypeClassifier(model).fit(reference_cells, "cell_type", groups="donor")
    assert set(classifier.weights_) == {"genes", "components", "trees", "model"}  # fewer than 200 cells: not adapted
    assert set(classifier.pool_.linear) == {"genes", "model"}
    proba = classifier.predict_proba(query_cells)
    np.testing.assert_allclose(proba.sum(axis=1), 1)


def test_cross_validation_is_of_whole_donors(reference_cells, model):
    classifier = CellTypeClassifier(model, views=("genes", "model")).fit(reference_cells, "cell_type", groups="donor")
    found = classifier.cross_validation_
    donors = reference_cells.obs["donor"].astype(str)
    assert sorted(found.by_donor()) == sorted(donors.unique())
    assert sum(scores.cells for scores in found.by_donor().values()) == found.scores.cells == len(reference_cells)
    assert found.macro_f1.low < found.scores.macro_f1 < found.macro_f1.high or found.scores.macro_f1 == 1
    assert 0 <= found.calibration_error < 0.5


@pytest.mark.usefixtures("any_tissue")
def test_one_cell_of_each_type_is_enough_and_has_no_cross_validation(reference_cells, query_cells, model, tmp_path):
    first = [int(np.flatnonzero(reference_cells.obs["cell_type"] == name)[0]) for name in ("alpha", "beta", "gamma")]
    classifier = CellTypeClassifier(model, views=("genes", "model")).fit(
        reference_cells[np.array(first)], "cell_type", min_cells=1
    )
    assert classifier.cross_validation_ is None
    classifier.save(tmp_path / "ann")
    assert CellTypeClassifier.load(tmp_path / "ann").cross_validation_ is None
    assert classifier.predict_proba(query_cells).to_numpy().max(axis=1).mean() > 0.4


@pytest.mark.usefixtures("any_tissue")
def test_unlabelled_cells_help_and_are_told(reference_cells, query_cells, model, tmp_path):
    names = ("alpha", "beta", "gamma", "delta")
    first = [int(np.flatnonzero(reference_cells.obs["cell_type"] == name)[0]) for name in names]
    few = reference_cells[np.array(first)]
    alone = CellTypeClassifier(model).fit(few, "cell_type", min_cells=1)
    with_query = CellTypeClassifier(model).fit(few, "cell_type", min_cells=1, unlabelled=query_cells)
    assert "graph of model" in with_query.weights_
    assert "graph of model" not in alone.weights_
    assert f"{len(query_cells):,} unlabelled" in with_query.learned_from_
    assert with_query.score(query_cells, "cell_type") >= alone.score(query_cells, "cell_type") > 0.9
    with_query.save(tmp_path / "ann")
    loaded = CellTypeClassifier.load(tmp_path / "ann")
    np.testing.assert_allclose(loaded.predict_proba(query_cells), with_query.predict_proba(query_cells), atol=1e-5)


@pytest.mark.parametrize("views", [(), ("genes", "head"), "genes"])
def test_views_that_do_not_exist_are_refused(model, reference_cells, views):
    with pytest.raises(ConfigError, match="Name some of"):
        CellTypeClassifier(model, views=views).fit(reference_cells, "cell_type")
