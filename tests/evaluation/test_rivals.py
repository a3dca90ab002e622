"""The rivals on real cells, and against scikit-learn on the same features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from cell_lm.data import from_anndata
from cell_lm.data.demo import OVARIAN_CANCER, PANCREAS, demo_cells
from cell_lm.data.loading.expression import log_expression
from cell_lm.errors import InputError, ModelError
from cell_lm.evaluation import baselines, linear_head, span
from cell_lm.evaluation.annotation_metrics import macro_f1
from cell_lm.evaluation.baselines import (
    BASELINES,
    GeneLogisticRegression,
    MajorityClass,
    NearestCentroid,
    NearestNeighbours,
    PCALogisticRegression,
)
from cell_lm.evaluation.span import Span
from cell_lm.evaluation.splits import few_shot

LEARNING = [name for name in BASELINES if name != "majority"]


class Labelled(NamedTuple):
    X: sparse.csr_matrix
    labels: NDArray[np.object_]
    donors: NDArray[np.object_]


class Shot(NamedTuple):
    own: float
    macro_f1: float


@pytest.fixture(scope="module")
def packaged() -> dict[str, Labelled]:
    found = {}
    for name, adata in demo_cells().items():
        obs = adata.obs.astype(str).astype(object)
        X = log_expression(from_anndata(adata))
        found[name] = Labelled(X, obs["cell_type"].to_numpy(object), obs["donor"].to_numpy(object))
    return found


@pytest.fixture(scope="module")
def one_shot(packaged) -> dict[tuple[str, str], list[Shot]]:
    """Data set and rival to scores from one label a type, one for each of five seeds."""
    found: dict[tuple[str, str], list[Shot]] = {}
    for name, (X, labels, _) in packaged.items():
        for split in few_shot(labels, 1, range(5)):
            assert len(split.train) == len(set(labels))
            for rival, make in BASELINES.items():
                fitted = make(split.seed).fit(X[split.train], labels[split.train])
                own = np.mean(fitted.predict(X[split.train]) == labels[split.train])
                score = macro_f1(labels[split.test], fitted.predict(X[split.test]))
                found.setdefault((name, rival), []).append(Shot(float(own), score))
    return found


@pytest.mark.parametrize("rival", LEARNING)
@pytest.mark.parametrize("name", [PANCREAS, OVARIAN_CANCER])
def test_from_one_cell_a_type_a_rival_names_its_own_training_cells_right(one_shot, name, rival):
    assert [shot.own for shot in one_shot[name, rival]] == [1.0] * 5


@pytest.mark.parametrize("name", [PANCREAS, OVARIAN_CANCER])
def test_from_one_cell_a_type_components_are_worth_as_much_as_genes(one_shot, name):
    genes, pca = (np.mean([shot.macro_f1 for shot in one_shot[name, rival]]) for rival in ("genes_lr", "pca_lr"))
    assert abs(genes - pca) < 0.05
    assert min(genes, pca) > 0.6


@pytest.mark.parametrize(("name", "least"), [(PANCREAS, 0.6), (OVARIAN_CANCER, 0.55)])
def test_from_one_cell_a_type_rivals_are_strong(one_shot, name, least):
    """The uncentred components gave .15 to .25 and .17 to .33 here."""
    means = {rival: float(np.mean([shot.macro_f1 for shot in one_shot[name, rival]])) for rival in BASELINES}
    assert means["majority"] < 0.1
    assert min(means[rival] for rival in LEARNING) > least


@pytest.mark.parametrize("kind", [GeneLogisticRegression, PCALogisticRegression])
def test_an_unseen_donor_is_annotated(packaged, kind):
    X, labels, donors = packaged[PANCREAS]
    unseen = donors == "human3"
    rival = kind().fit(X[~unseen], labels[~unseen], donors[~unseen])
    assert macro_f1(labels[unseen], rival.predict(X[unseen])) > 0.9
    assert rival.head_.selection.folds == 2
    genes = rival.coef_ @ X[unseen].T.toarray() + rival.intercept_[:, None]
    np.testing.assert_array_equal(rival.classes_[genes.argmax(axis=0)], rival.predict(X[unseen]))


def test_the_regression_on_genes_is_that_of_scikit_learn_on_all_of_them(monkeypatch, packaged):
    """Solved in the span of 100 cells or over 15,000 genes: the same probabilities, also of other cells."""
    monkeypatch.setattr(baselines, "GRID", (0.1,))
    X, labels, _ = packaged[OVARIAN_CANCER]
    rows = np.random.default_rng(0).choice(len(labels), 200, replace=False)
    train, other = rows[:100], rows[100:]
    ours = GeneLogisticRegression().fit(X[train], labels[train])
    centred = X.toarray().astype(np.float64) - X[train].toarray().mean(axis=0)
    scale = np.sqrt((centred[train] ** 2).sum() / 100 / 99)
    peer = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000, tol=1e-6)
    peer.fit(centred[train] / scale, labels[train])
    logits = (centred @ peer.coef_.T / scale + peer.intercept_) / ours.head_.selection.temperature
    expected = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    assert ours.head_.selection.C == 0.1
    assert expected[other].max(axis=1).mean() < 0.999
    np.testing.assert_allclose(ours.predict_proba(X[other]), expected[other], atol=0.01)


def test_the_components_are_those_of_the_centred_genes(monkeypatch, packaged):
    X, labels, _ = packaged[PANCREAS]
    train = np.random.default_rng(0).choice(len(labels), 120, replace=False)
    full = PCA(60, svd_solver="full").fit(X[train].toarray().astype(np.float64))
    for components, few in ((5, 2000), (5, 50), (60, 2000)):  # exactly, by iterations, exactly
        monkeypatch.setattr(span, "_FEW_CELLS", few)
        rival = PCALogisticRegression(components=components).fit(X[train], labels[train])
        leading = full.components_[:components]
        inside = rival.coef_ @ leading.T @ leading
        np.testing.assert_allclose(inside, rival.coef_, atol=1e-3 * abs(rival.coef_).max())
        assert np.linalg.matrix_rank(rival.coef_) == min(components, len(rival.classes_) - 1)


def test_coordinates_in_the_span_have_the_products_of_the_centred_cells(packaged):
    X = packaged[PANCREAS].X[:50]
    space = Span(X)
    centred = X.toarray().astype(np.float64) - X.toarray().mean(axis=0)
    products = centred @ centred.T
    np.testing.assert_allclose(space.coordinates @ space.coordinates.T, products, atol=2e-6 * np.trace(products))
    assert space.coordinates.shape == (50, 50)


def test_of_more_cells_than_genes_the_coordinates_are_the_centred_genes():
    X, _ = noisy(0, 50)
    space = Span(sparse.csr_matrix(X))
    np.testing.assert_allclose(space.coordinates, X - X.mean(axis=0), atol=1e-12)
    np.testing.assert_array_equal(space.coefficients(np.eye(30)), np.eye(30))


def noisy(seed: int, cells: int = 400) -> tuple[NDArray, NDArray]:
    """Return 30 genes of cells of three types; a fifth of the labels are wrong."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, cells)
    X = rng.poisson(1.0, (cells, 30)).astype(np.float64)
    X[np.arange(cells)[:, None], codes[:, None] * 5 + np.arange(5)] += rng.poisson(4.0, (cells, 5))
    wrong = rng.random(cells) < 0.2
    return np.log1p(X), np.array(list("abc"), object)[np.where(wrong, rng.permutation(codes), codes)]


@pytest.mark.parametrize("rival", BASELINES)
def test_sparse_and_dense_cells_give_the_same_and_are_only_read(rival):
    X, labels = noisy(0, 120)
    kept = X.copy()
    first = BASELINES[rival](1).fit(X, labels).predict_proba(X[:9])
    second = BASELINES[rival](1).fit(sparse.csr_matrix(X), labels).predict_proba(sparse.csr_matrix(X[:9]))
    np.testing.assert_allclose(first, second, atol=2e-3)
    np.testing.assert_allclose(first.sum(axis=1), 1)
    np.testing.assert_array_equal(X, kept)


@pytest.mark.parametrize("rival", BASELINES)
def test_a_cell_is_named_alike_alone_and_among_others(rival):
    X, labels = noisy(0, 150)
    fitted = BASELINES[rival](0).fit(X[:100], labels[:100])
    np.testing.assert_allclose(fitted.predict_proba(X[100:105]), fitted.predict_proba(X[100:])[:5], atol=1e-10)


@pytest.mark.parametrize("rival", BASELINES)
def test_the_same_seed_gives_the_same_rival(rival):
    X, labels = noisy(0, 150)
    first, second = (BASELINES[rival](2).fit(X, labels).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("rival", ["genes_lr", "pca_lr", "centroid"])
def test_confidence_is_that_of_left_out_cells(rival):
    X, labels = noisy(0, 800)
    fresh, truth = noisy(1, 1500)
    fitted = BASELINES[rival](0).fit(X, labels)
    right = np.mean(fitted.predict(fresh) == truth)
    assert 0.6 < right < 0.95
    assert fitted.predict_proba(fresh).max(axis=1).mean() == pytest.approx(right, abs=0.05)


@pytest.mark.parametrize("kind", [GeneLogisticRegression, PCALogisticRegression])
def test_strength_is_chosen_on_left_out_donors_where_they_are_named(kind):
    """Six genes tell the types apart in one donor each, in the next the other way round."""
    rng = np.random.default_rng(0)
    donors = np.repeat(np.arange(6), 60)
    codes = rng.integers(0, 2, 360)
    own = np.zeros((360, 6))
    own[np.arange(360), donors] = (codes - 0.5) * np.where(donors % 2, 1, -1) * 8
    X = np.column_stack([codes * 1.5 + rng.normal(0, 1, 360), own])
    labels = np.array(["a", "b"], object)[codes]
    alone = max(score for _, score in kind().fit(X, labels).head_.selection.scores)
    grouped = max(score for _, score in kind().fit(X, labels, donors.astype(str)).head_.selection.scores)
    assert alone > 0.95 > 0.85 > grouped


def test_the_majority_is_given_to_every_cell():
    labels = np.array(["a"] * 7 + ["b"] * 3, object)
    rival = MajorityClass().fit(np.eye(10), labels)
    assert rival.predict(np.eye(10)[:4]).tolist() == ["a"] * 4
    np.testing.assert_allclose(rival.predict_proba(np.eye(10)[:1]), [[0.7, 0.3]])


def test_depth_has_no_say_among_centroids_and_neighbours():
    X, labels = noisy(0, 300)
    fresh, _ = noisy(1, 50)
    for kind in (NearestCentroid, NearestNeighbours):
        rival = kind().fit(X, labels)
        np.testing.assert_array_equal(rival.predict(fresh), rival.predict(fresh * 3))


def test_there_are_no_more_neighbours_than_a_class_has_cells():
    X, labels = noisy(0, 300)
    few = np.concatenate([np.flatnonzero(labels == name)[:2] for name in "abc"])
    assert NearestNeighbours().fit(X[few], labels[few]).votes_.n_neighbors == 2
    assert NearestNeighbours().fit(X, labels).votes_.n_neighbors == 15


@pytest.mark.parametrize("rival", BASELINES)
def test_a_rival_can_be_cloned_as_scikit_learn_clones(rival):
    made = BASELINES[rival](3)
    assert clone(made).get_params() == made.get_params()


@pytest.mark.parametrize("rival", BASELINES)
def test_what_cannot_be_used_is_named(rival):
    X, labels = noisy(0, 30)
    with pytest.raises(ModelError, match="it has not been fitted"):
        BASELINES[rival](0).predict(X)
    for X_bad, y_bad, message in (
        (X, labels[:-1], "29 labels for 30 cells"),
        (X, np.array(["a"] * 30), "all 30 cells have the label 'a'"),
        (X, np.array([None, *labels[1:]], object), "1 of 30 labels are missing"),
        (np.where(X > 1, np.nan, X), labels, "expected finite numbers"),
    ):
        with pytest.raises(InputError, match=message):
            BASELINES[rival](0).fit(X_bad, y_bad)
    with pytest.raises(InputError, match="29 groups for 30 cells"):
        BASELINES[rival](0).fit(X, labels, ["d"] * 29)
    with pytest.raises(InputError, match="29 genes, but it was fitted on 30"):
        BASELINES[rival](0).fit(X, labels).predict(X[:, :-1])


def test_a_head_on_one_cell_a_class_names_these_cells_right_where_the_fixed_strength_does_not():
    """Two cells in nearly one direction, one far out: strongly regularised, the near one is given to the far one."""
    rng = np.random.default_rng(0)
    X = rng.normal(0, 1, (6, 30))
    X[0] *= 8
    X[1] = 0.5 * X[0] + X[1]
    labels = np.array(list("abcdef"), object)
    fixed = linear_head.fit_head(X, labels, whitening=0.0, grid=(0.01,), untried=0.01)
    assert fixed.probabilities(X).argmax(axis=1).tolist() != list(range(6))
    head = linear_head.fit_head(X, labels, whitening=0.0, untried=0.01)
    assert (head.selection.folds, head.selection.C > 0.01) == (0, True)
    assert head.probabilities(X).argmax(axis=1).tolist() == list(range(6))
