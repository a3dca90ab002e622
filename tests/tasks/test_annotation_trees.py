"""Trees as a view of a cell: walked as grown, saved, left out by fold, at their share; and genes not measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.ensemble import ExtraTreesClassifier

from cell_lm.data import CellData, from_anndata
from cell_lm.data.loading.expression import log_expression
from cell_lm.errors import CellLMError
from cell_lm.evaluation.linear_head import LeftOut
from cell_lm.evaluation.stacking import Fixed, fit_weights, pool
from cell_lm.model import CellLM
from cell_lm.tasks import CellTypeClassifier
from cell_lm.tasks.annotation import trees as module
from cell_lm.tasks.annotation.saved import pool_arrays, read_pool
from cell_lm.tasks.annotation.trees import Trees, _pack, fit_trees
from cell_lm.tasks.annotation.views import TrainingCells, fit_pool
from typed_cells import typed_adata


def expressed(
    cells: int = 300, genes: int = 40, classes: int = 3, seed: int = 0
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Log expression with many zeros; each class has five genes of its own."""
    rng = np.random.default_rng(seed)
    codes = np.arange(cells) % classes
    rate = np.full((cells, genes), 0.3)
    for code in range(classes):
        rate[codes == code, 5 * code : 5 * code + 5] = 3.0
    return sparse.csr_matrix(np.log1p(rng.poisson(rate)).astype(np.float32)), codes


def test_a_packed_forest_is_walked_as_scikit_learn_does() -> None:
    x, codes = expressed()
    forest = ExtraTreesClassifier(30, min_samples_leaf=2, random_state=0).fit(x.toarray(), codes)
    packed = _pack(forest, np.arange(x.shape[1]))
    new, _ = expressed(200, seed=1)
    np.testing.assert_allclose(packed.shares(new), forest.predict_proba(new.toarray()), atol=1e-3)
    at_threshold = np.full((1, x.shape[1]), packed.threshold[packed.feature == packed.feature[0]][0], np.float32)
    np.testing.assert_allclose(packed.shares(at_threshold), forest.predict_proba(at_threshold), atol=1e-3)


def test_only_the_genes_that_vary_most_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GENES", 15)
    x, codes = expressed()
    trees, _ = fit_trees(x, codes, [], 0)
    assert trees.genes.tolist() == list(range(15)), "the genes of the classes vary most"
    other = x.tolil()
    other[:, 15:] = 7.0
    np.testing.assert_array_equal(trees.shares(other.tocsr()), trees.shares(x))


def test_a_fold_is_predicted_by_trees_that_never_saw_it() -> None:
    x, codes = expressed(120)
    folds = [(np.arange(40, 120), np.arange(40)), (np.arange(80), np.arange(80, 120))]
    trees, left_out = fit_trees(x, codes, folds, 0)
    assert left_out is not None
    np.testing.assert_array_equal(left_out.cells, np.r_[:40, 80:120])
    assert (left_out.log_probabilities.argmax(1) == codes[left_out.cells]).mean() > 0.9
    changed = codes.copy()
    changed[:40] = (codes[:40] + 1) % 3
    _, other = fit_trees(x, changed, folds[:1], 0)
    assert other is not None
    np.testing.assert_array_equal(other.log_probabilities, left_out.log_probabilities[:40])
    assert (trees.shares(x).argmax(1) == codes).mean() > 0.95


def test_of_many_cells_of_a_type_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_A_TYPE", 20)
    codes = np.repeat([0, 1, 2], [200, 30, 5])
    kept = module._at_most(codes, np.arange(10, 235), 0)
    assert np.bincount(codes[kept]).tolist() == [20, 20, 5]
    assert kept.min() >= 10
    assert len(set(kept.tolist())) == len(kept)


def test_the_share_of_a_fixed_method_does_not_depend_on_how_good_it_is() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 600)

    def view(right: float, seed: int) -> np.ndarray:
        named = np.where(np.random.default_rng(seed).random(600) < right, truth, (truth + 1) % 3)
        p = np.full((600, 3), (1 - right) / 2)
        p[np.arange(600), named] = right
        return np.log(p)

    def left_out(log: np.ndarray) -> LeftOut:
        return LeftOut(np.arange(600), np.arange(600) % 5, log)

    for right in (0.5, 0.95):
        logs = np.stack([view(0.9, 1), view(0.8, 2), view(right, 3)])
        weights = fit_weights([left_out(each) for each in logs], truth, fixed=Fixed(2, 0.25))
        others = fit_weights([left_out(each) for each in logs[:2]], truth)
        alone = fit_weights([left_out(logs[2])], truth)
        assert weights[2] / alone[0] / (weights[0] / others[0]) == pytest.approx(0.25 / 0.75)
        assert weights[0] / weights[1] == pytest.approx(others[0] / others[1])
        pooled = pool(logs, weights)
        assert fit_weights([left_out(pooled)], truth)[0] == pytest.approx(1, abs=0.15), "the mixture is calibrated"


def test_a_gene_that_is_not_measured_counts_as_its_mean() -> None:
    x, codes = expressed()
    found = fit_pool(TrainingCells({"genes": x}, codes, None, 0), ("genes", "components"))
    measured = np.setdiff1d(np.arange(40), [0, 6, 30])
    cut, filled = x.toarray(), x.toarray()
    cut[:, [0, 6, 30]], filled[:, [0, 6, 30]] = 0.0, x.toarray().mean(axis=0)[[0, 6, 30]]
    mine = found.measuring(measured).log_probabilities({"genes": sparse.csr_matrix(cut)})
    np.testing.assert_allclose(mine, found.log_probabilities({"genes": filled}), atol=1e-5)
    np.testing.assert_array_equal(
        found.measuring(np.arange(40)).log_probabilities({"genes": x}), found.log_probabilities({"genes": x})
    )


def test_the_classifier_allows_for_genes_that_the_cells_lack(reference_cells: CellData, model: CellLM) -> None:
    classifier = CellTypeClassifier(model, views=("genes",)).fit(reference_cells, "cell_type")
    cut = from_anndata(typed_adata(60, seed=5)[:, np.arange(1400) % 4 > 0])
    x = log_expression(cut).toarray()
    absent = np.setdiff1d(np.arange(x.shape[1]), cut.audit.found)
    assert classifier.pool_.centre is not None
    assert classifier.pool_.centre[absent].sum() > 1
    x[:, absent] = classifier.pool_.centre[absent]
    expected = classifier.pool_.log_probabilities({"genes": x})
    np.testing.assert_allclose(np.log(classifier.predict_proba(cut).to_numpy()), expected, atol=1e-4)


def test_trees_take_part_and_are_saved(
    reference_cells: CellData, query_cells: CellData, model: CellLM, tmp_path: Path
) -> None:
    classifier = CellTypeClassifier(model, views=("genes", "trees")).fit(reference_cells, "cell_type", groups="donor")
    without = CellTypeClassifier(model, views=("genes",)).fit(reference_cells, "cell_type", groups="donor")
    assert classifier.weights_["trees"] > 0
    assert classifier.score(query_cells, "cell_type") > 0.9
    logs = [np.log(each.predict_proba(query_cells).to_numpy()) for each in (classifier, without)]
    assert np.abs(logs[0] - logs[1]).max() > 1
    classifier.save(tmp_path / "ann")
    loaded = CellTypeClassifier.load(tmp_path / "ann")
    np.testing.assert_allclose(loaded.predict_proba(query_cells), classifier.predict_proba(query_cells), atol=1e-6)
    one_by_one = [classifier.predict_proba(query_cells[np.array([i])]).to_numpy() for i in range(5)]
    np.testing.assert_allclose(np.vstack(one_by_one), classifier.predict_proba(query_cells).to_numpy()[:5], atol=1e-6)


def _endless(trees: Trees) -> Trees:
    right = trees.right.copy()
    right[0] = 0
    return replace(trees, right=right)


def _outside(trees: Trees) -> Trees:
    return replace(trees, right=np.where(trees.feature < 0, len(trees.leaves), trees.right).astype(np.int32))


def _other_gene(trees: Trees) -> Trees:
    return replace(trees, feature=np.where(trees.feature >= 0, len(trees.genes), -1).astype(np.int16))


def _cut(trees: Trees) -> Trees:
    last = len(trees.feature) - 1
    return replace(trees, feature=np.r_[trees.feature[:last], np.int16(0)].astype(np.int16))


@pytest.mark.parametrize("damage", [_endless, _outside, _other_gene, _cut])
def test_damaged_trees_are_refused_and_not_walked(damage: Callable[[Trees], Trees]) -> None:
    x, codes = expressed()
    found = fit_pool(TrainingCells({"genes": x}, codes, None, 0), ("genes", "trees"))
    assert found.trees is not None
    read_pool(found.weights, pool_arrays(found), 3, 8, 40)
    with pytest.raises(ValueError, match="trees"):
        read_pool(found.weights, pool_arrays(replace(found, trees=damage(found.trees))), 3, 8, 40)
    names = {f"trees.{field.name}" for field in fields(Trees)}
    without = {name: array for name, array in pool_arrays(found).items() if name not in names}
    with pytest.raises(ValueError, match="trees"):
        read_pool(found.weights, without, 3, 8, 40)


def test_with_one_label_a_type_there_are_no_trees(reference_cells: CellData, model: CellLM) -> None:
    first = [int(np.flatnonzero(reference_cells.obs["cell_type"] == name)[0]) for name in ("alpha", "beta", "gamma")]
    classifier = CellTypeClassifier(model, views=("genes", "trees"))
    classifier.fit(reference_cells[np.array(first)], "cell_type", min_cells=1)
    assert set(classifier.weights_) == {"genes"}
    with pytest.raises(CellLMError):
        CellTypeClassifier(model, views=("forest",)).fit(reference_cells, "cell_type")
