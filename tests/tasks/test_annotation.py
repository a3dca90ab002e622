from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData

from cell_lm.data import CellData, from_anndata
from cell_lm.errors import GeneError, InputError, ModelError
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.tasks import CellTypeClassifier, CoverageWarning


def test_cells_of_an_unseen_donor_are_annotated(fitted, query_cells):
    scores = fitted.evaluate(query_cells, "cell_type")
    assert scores.cells == len(query_cells)
    assert scores.macro_f1 > 0.9


def test_predictions_are_categorical_over_all_labels_and_indexed_like_the_cells(fitted, query):
    few = query[query.obs["cell_type"] == "beta"].copy()
    labels = fitted.predict(few)
    assert labels.index.equals(few.obs_names)
    assert labels.name == "cell_type"
    assert labels.cat.categories.tolist() == ["alpha", "beta", "delta", "gamma"]
    assert (labels == "beta").mean() > 0.9


def test_the_predicted_label_is_the_most_probable_one(fitted, query_cells):
    proba = fitted.predict_proba(query_cells)
    assert proba.columns.tolist() == list(fitted.classes_)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert (proba.idxmax(axis=1).to_numpy() == fitted.predict(query_cells).astype(str).to_numpy()).all()


def test_an_anndata_and_cells_read_from_it_give_the_same(fitted, query, query_cells):
    pd.testing.assert_frame_equal(fitted.predict_proba(query), fitted.predict_proba(query_cells))


def test_a_cell_is_annotated_the_same_in_any_company(fitted, query_cells):
    all_of_them = fitted.predict_proba(query_cells)
    some = np.array([40, 3, 17])
    np.testing.assert_allclose(fitted.predict_proba(query_cells[some]), all_of_them.iloc[some], atol=1e-4)


def test_the_anndata_is_only_read(model, reference, query):
    def bytes_of(adata: AnnData) -> tuple[bytes, ...]:
        return adata.X.data.tobytes(), adata.X.indices.tobytes(), adata.obs.to_csv().encode(), str(adata).encode()

    before = bytes_of(reference), bytes_of(query)
    CellTypeClassifier(model).fit(reference, "cell_type").predict(query)
    assert (bytes_of(reference), bytes_of(query)) == before


def test_the_encoder_stays_as_it_is(model, reference_cells):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    CellTypeClassifier(model).fit(reference_cells, "cell_type")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_unlabelled_cells_are_left_out_and_counted(model, reference):
    kept = reference[::2].copy()
    reference.obs["some"] = reference.obs["cell_type"].astype(object)
    reference.obs.iloc[1::4, reference.obs.columns.get_loc("some")] = np.nan
    reference.obs.iloc[3::4, reference.obs.columns.get_loc("some")] = ""
    views = ("genes", "model")  # those that learn from labelled cells alone
    classifier = CellTypeClassifier(model, views=views).fit(reference, "some")
    alone = CellTypeClassifier(model, views=views).fit(kept, "cell_type")
    assert classifier.unlabelled_ == len(reference) - len(kept)
    assert classifier.cells_per_class_ == alone.cells_per_class_ == kept.obs["cell_type"].value_counts().to_dict()
    for name, linear in alone.pool_.linear.items():
        np.testing.assert_allclose(classifier.pool_.linear[name].coefficients, linear.coefficients, rtol=1e-5)


@pytest.mark.parametrize("kind", ["int", "float", "bool", "category"])
def test_labels_that_are_no_text_come_back_as_text(model, reference, query, kind):
    codes = {"alpha": 1, "beta": 2, "gamma": 3, "delta": 10}
    values = reference.obs["cell_type"].map(codes).astype(int)
    reference.obs["x"] = {
        "int": values,
        "float": values.astype(float),
        "bool": values > 2,
        "category": pd.Categorical(values),
    }[kind]
    classifier = CellTypeClassifier(model).fit(reference, "x")
    expected = ["False", "True"] if kind == "bool" else ["1", "10", "2", "3"]
    assert classifier.classes_.tolist() == expected
    truth = query.obs["cell_type"].map(codes)
    query.obs["x"] = truth > 2 if kind == "bool" else truth
    assert classifier.evaluate(query, "x").accuracy > 0.85


def test_score_leaves_out_cells_without_label_and_counts_unknown_labels_as_wrong(fitted, query):
    full = fitted.evaluate(query, "cell_type")
    truth = query.obs["cell_type"].astype(object)
    truth[truth == "alpha"] = np.nan
    truth[truth == "beta"] = "B cell"
    query.obs["truth"] = truth
    scores = fitted.evaluate(query, "truth")
    assert scores.cells == full.cells - full.per_class.loc["alpha", "support"]
    assert scores.per_class.loc["B cell", "f1"] == 0
    assert scores.accuracy < full.accuracy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda obs: obs.rename(columns={"cell_type": "celltype"}), "no column 'cell_type'. Did you mean 'celltype'"),
        (lambda obs: obs.assign(cell_type="alpha"), "one label only, 'alpha'"),
        (lambda obs: obs.assign(cell_type=np.nan), "missing"),
        (lambda obs: obs.assign(donor="d1"), "one group only"),
        (lambda obs: obs.drop(columns="donor"), "no column 'donor'"),
    ],
)
def test_columns_that_cannot_be_used_are_refused_before_cells_are_read(model, reference, change, message):
    reference.obs = change(reference.obs)
    reference.X = reference.X * 0.5  # would be refused, but only after a scan
    with pytest.raises(InputError, match=message):
        CellTypeClassifier(model).fit(reference, "cell_type", groups="donor")


def test_a_missing_column_of_true_labels_is_refused_before_cells_are_read(fitted, query):
    query.X = query.X * 0.5
    with pytest.raises(InputError, match="no column 'truth'"):
        fitted.evaluate(query, "truth")


def test_a_fit_that_fails_leaves_the_one_before(model, reference, query_cells):
    classifier = CellTypeClassifier(model).fit(reference, "cell_type")
    before = classifier.predict_proba(query_cells)
    reference.obs["own"] = reference.obs["cell_type"].astype(str) + " of nobody"
    with pytest.raises(InputError, match="groups shares two labels"):
        classifier.fit(reference, "own", groups="own")
    pd.testing.assert_frame_equal(classifier.predict_proba(query_cells), before)


def test_what_holds_no_cells_is_refused(fitted, model):
    with pytest.raises(InputError, match="expected cells, found DataFrame"):
        CellTypeClassifier(model).fit(pd.DataFrame(), "cell_type")
    with pytest.raises(InputError, match=r"cells.h5ad: there is no such file"):
        fitted.predict("cells.h5ad")


def test_how_to_read_cells_that_are_read_already_is_refused(fitted, query_cells):
    with pytest.raises(InputError, match="layer given for cells that have been read"):
        fitted.predict(query_cells, layer="counts")


def test_layer_input_and_gene_column_are_passed_on(fitted, query):
    expected = fitted.predict_proba(query)
    query.layers["logged"] = query.X.copy()
    query.layers["logged"].data = np.log1p(query.layers["logged"].data)
    query.var["symbol"] = query.var_names
    query.var_names = [f"row {i}" for i in range(query.n_vars)]
    query.X = query.X * 0.3
    found = fitted.predict_proba(query, layer="logged", scale="log1p", gene_column="symbol")
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_before_the_fit_nothing_is_predicted_or_saved(model, query_cells, tmp_path):
    classifier = CellTypeClassifier(model)
    for action in (
        lambda: classifier.predict(query_cells),
        lambda: classifier.score(query_cells, "cell_type"),
        lambda: classifier.save(tmp_path / "ann"),
        lambda: classifier.classes_,
    ):
        with pytest.raises(ModelError, match="CellTypeClassifier: it has not been fitted"):
            action()
    assert not list(tmp_path.iterdir())


def test_cells_of_another_vocabulary_are_refused(fitted, query):
    human = Vocabulary.human()
    other = Vocabulary(human.symbols[:1500], human.ensembl[:1500])
    with pytest.raises(GeneError, match="vocabulary"):
        fitted.predict(from_anndata(query, vocabulary=other))


def test_a_query_that_lacks_most_genes_of_the_reference_is_warned_of(fitted, query):
    def cut(genes: int) -> CellData:
        return from_anndata(query[:, :genes].copy(), min_overlap=10)

    coverage = fitted.coverage(cut(350))
    assert (coverage.reference, coverage.shared, coverage.share) == (1400, 350, 0.25)
    with pytest.warns(CoverageWarning, match=r"350 of 1,400 genes of the reference \(25 %\)"):
        fitted.predict(cut(350))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.predict(cut(1100))


def test_genes_that_the_reference_never_had_count_for_nothing(model, reference, query):
    fewer = CellTypeClassifier(model).fit(reference[:, 300:].copy(), "cell_type")
    coverage = fewer.coverage(from_anndata(query[:, :1100].copy()))
    assert (coverage.reference, coverage.shared) == (1100, 800)


def test_progress_counts_every_cell(model, reference_cells, query_cells):
    told: list[int] = []
    classifier = CellTypeClassifier(model).fit(reference_cells, "cell_type", progress=told.append)
    assert sum(told) == len(reference_cells)
    classifier.predict(query_cells, progress=told.append)
    assert sum(told) == len(reference_cells) + len(query_cells)


def test_a_model_of_nan_is_refused(reference_cells, model):
    broken = CellLM(model.config, model.vocabulary)
    with torch.no_grad():
        broken.encoder.norm.bias[0] = float("nan")
    with pytest.raises(ModelError, match=rf"{len(reference_cells)} of {len(reference_cells)} cells .* not finite"):
        CellTypeClassifier(broken).fit(reference_cells, "cell_type")


def test_cells_of_the_fit_are_known_again_in_any_order_and_after_saving(model, reference_cells, query_cells, tmp_path):
    fitted_on, new = reference_cells[::2], reference_cells[1::2]
    classifier = CellTypeClassifier(model, views=("genes",)).fit(fitted_on, "cell_type", unlabelled=query_cells)
    classifier.save(tmp_path / "ann")
    for each in (classifier, CellTypeClassifier.load(tmp_path / "ann")):
        assert each.was_fitted_on(fitted_on[20:10:-1]).all()
        assert each.was_fitted_on(reference_cells).tolist() == [True, False] * len(new)
        assert not each.was_fitted_on(query_cells).any(), "the fit has not seen their labels"
        deeper = replace(fitted_on, X=fitted_on.X * 2)
        assert not each.was_fitted_on(deeper).any()
