"""Deletion curves and the table of genes: what they start and end with, and that a good order beats a random one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from cell_lm.data import CellData, from_anndata
from cell_lm.errors import InputError
from cell_lm.model import CellLM
from cell_lm.tasks import CellTypeClassifier
from cell_lm.tasks.attribution import Attributions, attribute, choose_cells, deletion_curves, gene_table
from cell_lm.tasks.attribution.curves import EQUAL, RANDOM, DeletionCurves, _presences
from cell_lm.tasks.attribution.explained import Explained
from typed_cells import GENES, typed_adata


@pytest.fixture(scope="module")
def fitted(model: CellLM, reference_cells: CellData) -> CellTypeClassifier:
    """Without trees, which attribution leaves out."""
    views = ("genes", "components", "model")
    return CellTypeClassifier(model, views=views, seed=3).fit(reference_cells, "cell_type", groups="donor")


@pytest.fixture(scope="module")
def cells(query_cells: CellData) -> CellData:
    return query_cells[:12]


@pytest.fixture(scope="module")
def found(fitted: CellTypeClassifier, cells: CellData) -> Attributions:
    return attribute(fitted, cells, np.asarray(fitted.predict_proba(cells)).argmax(axis=1))


@pytest.fixture(scope="module")
def curves(fitted: CellTypeClassifier, cells: CellData, found: Attributions) -> DeletionCurves:
    return deletion_curves(fitted, cells, {"ours": found.values, "reversed": -found.values})


def test_deleting_by_attribution_beats_random_genes_even_equally_expressed_ones(curves):
    assert list(curves.probability) == ["ours", "reversed", RANDOM, EQUAL]
    assert curves.area("ours") < 0.7 * curves.area(EQUAL)
    assert curves.area("ours") < 0.7 * curves.area(RANDOM) < curves.area("reversed")


def test_curves_of_cells_that_lack_genes_begin_with_what_is_predicted_for_them(fitted):
    lacking = from_anndata(typed_adata(12, seed=5)[:, np.arange(GENES) % 4 > 0])
    assert fitted.pool_.centre[np.setdiff1d(np.arange(len(fitted.pool_.centre)), lacking.audit.found)].sum() > 1
    predicted = np.log(fitted.predict_proba(lacking).to_numpy())
    attributions = attribute(fitted, lacking, predicted.argmax(axis=1))
    curves = deletion_curves(fitted, lacking, {"ours": attributions.values})
    np.testing.assert_allclose(curves.probability["ours"][:, 0], np.exp(predicted.max(axis=1)), atol=1e-4)
    of_cells, of_all = Explained.of(fitted, lacking.audit.found), Explained.of(fitted)
    _, batch = next(iter(of_cells.blocks(lacking)))
    logs = [np.log(each.probabilities(batch, torch.ones(1, batch.tokens))[0]) for each in (of_cells, of_all)]
    np.testing.assert_allclose(logs[0], predicted, atol=0.01)
    assert np.abs(logs[1] - predicted).max() > 0.1, "the genes that are lacking make no difference: a weak test"


def test_curves_begin_with_the_whole_cell_and_end_without_genes(curves, fitted, cells):
    whole = np.asarray(fitted.predict_proba(cells)).max(axis=1)
    ends = {name: probability[:, -1] for name, probability in curves.probability.items()}
    for name, probability in curves.probability.items():
        np.testing.assert_allclose(probability[:, 0], whole, atol=1e-4)
        np.testing.assert_allclose(ends[name], ends["ours"], atol=1e-5)


def test_a_curve_is_the_same_whatever_the_company_and_the_budget(curves, fitted, cells, found):
    backwards = deletion_curves(fitted, cells[::-1], {"ours": found.values[::-1]}, token_budget=5000)
    for name in ("ours", RANDOM):
        np.testing.assert_allclose(backwards.probability[name][::-1], curves.probability[name], atol=1e-4)


def test_other_seeds_draw_other_genes(curves, fitted, cells, found):
    other = deletion_curves(fitted, cells, {"ours": found.values}, seed=1)
    assert np.abs(other.probability[RANDOM] - curves.probability[RANDOM]).max() > 1e-3
    np.testing.assert_allclose(other.probability["ours"], curves.probability["ours"], atol=1e-6)


def test_equally_expressed_means_as_many_genes_of_each_bin(fitted, cells, found):
    _, batch = next(iter(Explained.of(fitted).blocks(cells[:1])))
    left = _presences(batch, {"ours": found.values[:1]}, np.array([0.0, 0.3, 1.0]), 2, 0)
    ours, equal = left[:3], left[-3:]
    bins = batch.bins.numpy()
    assert not (ours[1] == equal[1]).all()
    for mine, other in zip(ours, equal, strict=True):
        np.testing.assert_array_equal(np.bincount(bins[mine], minlength=6), np.bincount(bins[other], minlength=6))
    assert (
        left.reshape(-1, 3, len(bins)).sum(axis=2).tolist() == [[len(bins), len(bins) - round(0.3 * len(bins)), 0]] * 5
    )


def test_the_area_is_the_mean_height_of_the_curve():
    curves = DeletionCurves(np.array([0.0, 0.5, 1.0]), {"a": np.array([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]])}, np.zeros(2))
    np.testing.assert_allclose(curves.areas("a"), [0.5, 1.0])
    assert curves.area("a") == 0.75
    np.testing.assert_allclose(curves.areas("a", 0.5), [0.75, 1.0])
    table = curves.table()
    assert table.to_dict("list") == {"order": ["a"] * 3, "deleted": [0, 0.5, 1], "probability": [1, 0.75, 0.5]}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"orders": {}}, "no order of genes"),
        ({"orders": {RANDOM: None}}, "an order is called 'random'"),
        ({"orders": {"mine": sparse.csr_matrix((2, 3))}}, "the order 'mine' is 2 x 3 for 12 x"),
        ({"shares": [0.0, 0.5, 0.4]}, "Give rising shares"),
        ({"seeds": 0}, "0 seeds"),
    ],
)
def test_what_makes_no_curve_is_refused(fitted, cells, found, change, says):
    words = {"orders": {"ours": found.values}} | change
    with pytest.raises(InputError, match=says):
        deletion_curves(fitted, cells, words.pop("orders"), **words)


def test_the_table_averages_over_the_cells_of_a_label():
    values = sparse.csr_matrix(np.array([[1.0, 0, -2, 0], [3.0, 0, 0, 0], [0, 5.0, 0, 0]], np.float32))
    X = sparse.csr_matrix(np.array([[4.0, 0, 1, 0], [1.0, 0, 0, 0], [2, 5.0, 0, 0]], np.float32))
    table = gene_table(values, X, np.array(["b", "b", "a"], object), ["G0", "G1", "G2", "G3"])
    expected = pd.DataFrame(
        {
            "label": pd.Categorical(["a", "a", "b", "b"]),
            "gene": ["G1", "G0", "G0", "G2"],
            "attribution": [5.0, 0.0, 2.0, -1.0],
            "expressed": [1.0, 1.0, 1.0, 0.5],
            "cells": [1, 1, 2, 2],
        }
    )
    pd.testing.assert_frame_equal(table, expected, check_categorical=False)


def test_cells_are_chosen_by_label():
    labels = np.array(["a"] * 50 + ["b"] * 3 + [""] * 5, object)
    chosen = choose_cells(labels, 10, seed=1)
    assert (np.diff(chosen) > 0).all()
    assert np.unique(labels[chosen], return_counts=True)[1].tolist() == [10, 3]
    assert choose_cells(labels, None).tolist() == list(range(53))
    assert choose_cells(labels, 10, seed=2).tolist() != chosen.tolist()
    assert choose_cells(np.array([""], object), 1).tolist() == []
