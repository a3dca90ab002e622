from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from cell_lm import tl
from cell_lm._version import __version__
from cell_lm.data import Store, from_anndata
from cell_lm.errors import ConfigError, CountsError, GeneError, InputError, ModelError
from cell_lm.model import CellLM
from cell_lm.prepare import PrepareSettings, prepare
from cell_lm.tasks import CellTypeClassifier, CentroidBaseline, CoverageWarning
from typed_cells import tiny_model, typed_adata


@pytest.fixture(scope="module")
def model() -> CellLM:
    return tiny_model()


@pytest.fixture(scope="module")
def classifier(model: CellLM) -> CellTypeClassifier:
    return CellTypeClassifier(model).fit(typed_adata(200), "cell_type", groups="donor")


@pytest.fixture
def adata() -> AnnData:
    return typed_adata(50, seed=1)


def content(adata: AnnData) -> tuple[object, ...]:
    """All of it, to the byte where it matters."""
    X = adata.X
    raw = X.tobytes() if isinstance(X, np.ndarray) else (X.data.tobytes(), X.indices.tobytes(), X.indptr.tobytes())
    return raw, str(adata), adata.obs.to_csv(), sorted(adata.obsm), repr(adata.uns)


def test_the_embedding_of_the_model_goes_into_obsm(model, adata):
    assert tl.embed(adata, model) is None
    embedding = adata.obsm["X_cell_lm"]
    assert embedding.dtype == np.float32
    np.testing.assert_array_equal(embedding, model.encode(from_anndata(adata)))


def test_what_is_known_of_the_embedding_goes_into_uns(model, adata, tmp_path):
    adata.var_names = ["NOT A GENE", *adata.var_names[1:]]
    model.save_pretrained(tmp_path / "model")
    tl.embed(adata, tmp_path / "model", layer="X")
    about = adata.uns["cell_lm"]
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert about["weights_sha256"] == config["weights_sha256"]
    assert about["vocabulary"] == model.vocabulary.hash
    assert about["model_path"] == str(tmp_path / "model")
    assert about["model"] == "latent attention, 2 layers of width 48"
    assert (about["genes_given"], about["genes_used"], about["genes_found"]) == (1400, 1399, 1399)
    assert about["genes"]["unknown"] == 1
    assert about["coverage"] == pytest.approx(1399 / len(model.vocabulary))
    assert about["cell_lm_version"] == __version__
    assert about["key"] == "X_cell_lm"
    assert about["scale"] == "counts"
    assert about["params"] == {"layer": "X", "scale": "counts"}


def test_all_of_it_survives_a_file(model, classifier, adata, tmp_path):
    tl.embed(adata, model)
    tl.annotate(adata, classifier, probabilities=True)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    back = anndata.read_h5ad(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(back.obsm["X_cell_lm"], adata.obsm["X_cell_lm"])
    np.testing.assert_array_equal(back.obsm["cell_lm_proba"], adata.obsm["cell_lm_proba"])
    columns = ["cell_lm_label", "cell_lm_confidence", "cell_lm_ontology"]
    pd.testing.assert_frame_equal(back.obs[columns], adata.obs[columns])
    assert back.uns["cell_lm"] == adata.uns["cell_lm"]
    told, kept = adata.uns["cell_lm_annotation"], back.uns["cell_lm_annotation"]
    assert list(kept["classes"]) == list(told["classes"])
    assert {k: v for k, v in kept.items() if k != "classes"} == {k: v for k, v in told.items() if k != "classes"}


@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
def test_x_is_never_touched(model, classifier, adata, kind):
    adata.X = {"csr": adata.X, "csc": adata.X.tocsc(), "dense": adata.X.toarray()}[kind]
    before = content(adata)[0]
    tl.embed(adata, model)
    tl.annotate(adata, classifier)
    assert content(adata)[0] == before


def test_labels_and_their_probability_go_into_obs(classifier, adata):
    assert tl.annotate(adata, classifier, unknown=0) is None
    proba = classifier.predict_proba(adata)
    assert adata.obs["cell_lm_label"].cat.categories.tolist() == list(classifier.classes_)
    assert (adata.obs["cell_lm_label"].astype(str) == proba.idxmax(axis=1)).all()
    assert adata.obs["cell_lm_confidence"].dtype == np.float32
    np.testing.assert_allclose(adata.obs["cell_lm_confidence"], proba.max(axis=1), rtol=1e-6)
    assert "cell_lm_proba" not in adata.obsm
    about = adata.uns["cell_lm_annotation"]
    assert about["reference"] == {"name": "adata", "label": "cell_type", "cells": 200}
    assert about["reference_coverage"] == 1.0


def test_labels_go_to_their_cells_where_names_repeat(classifier, adata):
    expected = classifier.predict(adata).astype(str).tolist()
    adata.obs_names = ["same"] * len(adata)
    tl.annotate(adata, classifier, unknown=0)
    assert adata.obs["cell_lm_label"].astype(str).tolist() == expected


def test_a_classifier_is_taken_from_its_folder(classifier, adata, tmp_path):
    classifier.save(tmp_path / "ann")
    tl.annotate(adata, str(tmp_path / "ann"), key_added="mine", probabilities=True)
    np.testing.assert_allclose(adata.obsm["mine_proba"], classifier.predict_proba(adata), atol=1e-6)
    assert list(adata.uns["mine_annotation"]["classes"]) == list(classifier.classes_)
    assert adata.uns["mine_annotation"]["classifier_path"] == str(tmp_path / "ann")
    assert {"mine_label", "mine_confidence"} <= set(adata.obs)


def test_two_embeddings_live_side_by_side(model, adata):
    tl.embed(adata, model)
    tl.embed(adata, tiny_model(seed=1), key_added="X_other")
    assert not np.allclose(adata.obsm["X_cell_lm"], adata.obsm["X_other"])
    assert adata.uns["other"]["key"] == "X_other"
    assert adata.uns["cell_lm"]["weights_sha256"] != adata.uns["other"]["weights_sha256"]


def test_an_embedding_is_replaced_by_a_new_one(model, adata):
    tl.embed(adata, tiny_model(seed=1))
    tl.embed(adata, model)
    np.testing.assert_array_equal(adata.obsm["X_cell_lm"], model.encode(from_anndata(adata)))


def test_copy_leaves_the_anndata_as_it_is(model, classifier, adata):
    before = content(adata)
    embedded, annotated = tl.embed(adata, model, copy=True), tl.annotate(adata, classifier, copy=True)
    assert content(adata) == before
    assert "X_cell_lm" in embedded.obsm
    assert "cell_lm_label" in annotated.obs


@pytest.mark.parametrize("tool", ["embed", "annotate"])
def test_a_view_becomes_an_anndata_of_its_own(model, classifier, adata, tool):
    before, view = content(adata), adata[10:30]
    tl.embed(view, model) if tool == "embed" else tl.annotate(view, classifier)  # a warning would fail the test
    assert not view.is_view
    assert view.n_obs == 20
    assert "X_cell_lm" in view.obsm if tool == "embed" else "cell_lm_label" in view.obs
    assert content(adata) == before


def test_a_backed_anndata_is_embedded(model, adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    copied = tl.embed(backed, model, copy=True)
    assert "X_cell_lm" not in backed.obsm
    tl.embed(backed, model)
    np.testing.assert_array_equal(backed.obsm["X_cell_lm"], copied.obsm["X_cell_lm"])
    backed.file.close()


def test_layer_input_and_gene_column_are_passed_on(model, classifier, adata):
    expected = tl.embed(adata, model, copy=True).obsm["X_cell_lm"]
    adata.layers["logged"] = adata.X.copy()
    adata.layers["logged"].data = np.log1p(adata.layers["logged"].data)
    adata.var["symbol"] = adata.var_names
    adata.var_names = [f"row {i}" for i in range(adata.n_vars)]
    adata.X = adata.X * 0.3
    how = {"layer": "logged", "scale": "log1p", "gene_column": "symbol"}
    tl.embed(adata, model, **how)
    tl.annotate(adata, classifier, **how)
    np.testing.assert_allclose(adata.obsm["X_cell_lm"], expected, atol=1e-4)
    assert adata.uns["cell_lm"]["params"] == adata.uns["cell_lm_annotation"]["params"] == how


def test_a_panel_is_read_where_the_user_says_so(model, classifier, adata):
    panel = adata[:, :300].copy()
    with pytest.raises(GeneError, match="min_overlap"):
        tl.embed(panel, model)
    tl.embed(panel, model, min_overlap=200)
    with pytest.warns(CoverageWarning, match=r"300 of 1,400"):
        tl.annotate(panel, classifier, min_overlap=200)
    assert panel.uns["cell_lm_annotation"]["reference_coverage"] == pytest.approx(300 / 1400)


def spoil_counts(adata: AnnData) -> None:
    adata.X = adata.X * 0.5


def spoil_genes(adata: AnnData) -> None:
    adata.var_names = [f"gene {i}" for i in range(adata.n_vars)]


@pytest.mark.parametrize("tool", ["embed", "annotate"])
@pytest.mark.parametrize(
    ("spoil", "arguments", "error"),
    [
        (spoil_counts, {}, CountsError),
        (spoil_genes, {}, GeneError),
        (lambda _: None, {"layer": "nothing"}, InputError),
        (lambda _: None, {"gene_column": "nothing"}, InputError),
        (lambda _: None, {"scale": "log3"}, ConfigError),
        (lambda _: None, {"key_added": ""}, InputError),
    ],
)
def test_after_an_error_nothing_is_written(model, classifier, adata, tool, spoil, arguments, error):
    spoil(adata)
    before = content(adata)
    with pytest.raises(error):
        tl.embed(adata, model, **arguments) if tool == "embed" else tl.annotate(adata, classifier, **arguments)
    assert content(adata) == before


@pytest.mark.parametrize("tool", ["embed", "annotate"])
def test_an_interrupted_run_writes_nothing(model, classifier, adata, tool):
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    before = content(adata)
    with pytest.raises(KeyboardInterrupt):
        tl.embed(adata, model, progress=stop) if tool == "embed" else tl.annotate(adata, classifier, progress=stop)
    assert content(adata) == before


def test_what_others_keep_in_uns_is_not_destroyed(model, classifier, adata):
    adata.uns["neighbors"] = {"params": {"n_neighbors": 15}}
    adata.uns["x_annotation"] = "mine"
    before = content(adata)
    with pytest.raises(InputError, match=r"uns\['neighbors'\].*something else"):
        tl.embed(adata, model, key_added="neighbors")
    with pytest.raises(InputError, match=r"uns\['x_annotation'\].*something else"):
        tl.annotate(adata, classifier, key_added="x")
    assert content(adata) == before


def test_a_file_or_a_store_gives_a_new_anndata_without_x(model, classifier, adata, tmp_path):
    adata.copy().write_h5ad(tmp_path / "cells.h5ad")
    settings = PrepareSettings(min_genes=1, max_mito=1.0, keep_duplicates=True, shard_cells=20)
    prepare([tmp_path / "cells.h5ad"], tmp_path / "store", settings=settings)
    store = Store.open(tmp_path / "store")
    rows = store.cells(["row"])["row"].to_numpy(np.int64)
    expected = tl.annotate(tl.embed(adata[rows].copy(), model, copy=True), classifier, copy=True)
    for data in (store, tmp_path / "store", str(tmp_path / "store"), tmp_path / "cells.h5ad"):
        embedded, annotated = tl.embed(data, model), tl.annotate(data, classifier)
        assert embedded.X is None
        assert set(embedded.obs_names) == set(adata.obs_names)
        order = adata[rows].obs_names
        np.testing.assert_allclose(embedded[order].obsm["X_cell_lm"], expected.obsm["X_cell_lm"], rtol=1e-4, atol=1e-5)
        found = annotated.obs.loc[order, "cell_lm_label"].astype(str).tolist()
        assert found == expected.obs["cell_lm_label"].astype(str).tolist()
        annotated.write_h5ad(tmp_path / "annotated.h5ad")
    about = tl.embed(store, model).uns["cell_lm"]
    assert (about["store"], about["store_sha256"]) == (str(tmp_path / "store"), store.hash)
    assert about["weights_sha256"] == expected.uns["cell_lm"]["weights_sha256"]


def test_device_and_precision_are_used_and_recorded(model, classifier, adata):
    exact = tl.embed(adata, model, device="cpu", copy=True)
    rough = tl.embed(adata, model, precision="bfloat16", copy=True)
    assert (exact.uns["cell_lm"]["device"], exact.uns["cell_lm"]["precision"]) == ("cpu", "float32")
    assert rough.uns["cell_lm"]["precision"] == "bfloat16"
    assert not np.array_equal(exact.obsm["X_cell_lm"], rough.obsm["X_cell_lm"])
    tl.annotate(adata, classifier, precision="bfloat16")
    assert adata.uns["cell_lm_annotation"]["precision"] == "bfloat16"
    assert classifier.precision == "float32"
    with pytest.raises(ConfigError, match="'cuda:77'"):
        tl.embed(adata, model, device="cuda:77")


def test_any_classifier_annotates(adata, tmp_path):
    baseline = CentroidBaseline().fit(typed_adata(200), "cell_type")
    baseline.save(tmp_path / "baseline")
    tl.annotate(adata, tmp_path / "baseline")
    assert (adata.obs["cell_lm_label"].astype(str) == adata.obs["cell_type"].astype(str)).mean() > 0.9
    about = adata.uns["cell_lm_annotation"]
    assert about["classifier"] == "CentroidBaseline"
    assert "weights_sha256" not in about


def test_cells_that_would_get_no_result_are_refused(model, classifier, adata):
    before, least = content(adata), int(np.median(from_anndata(adata).genes_per_cell))
    for tool, by in ((tl.embed, model), (tl.annotate, classifier)):
        with pytest.raises(InputError, match=r"of 50 cells have fewer than .* Leave them out of the AnnData first"):
            tool(adata, by, min_genes=least)
    assert content(adata) == before


def test_an_unknown_keyword_is_answered_with_a_close_one(model, adata):
    with pytest.raises(ConfigError, match=r"unknown keyword: gene_colum\. Did you mean gene_column\?"):
        tl.embed(adata, model, gene_colum="symbol")


def test_models_and_classifiers_that_are_not_there_are_said_to_be_missing(adata, model, tmp_path):
    before = content(adata)
    missing = tmp_path / "nothing"
    calls: list[Callable[[], object]] = [
        lambda: tl.embed(adata, missing),
        lambda: tl.annotate(adata, missing),
        lambda: tl.annotate(adata, CellTypeClassifier(model)),
    ]
    for call in calls:
        with pytest.raises(ModelError):
            call()
    assert content(adata) == before


def test_progress_is_a_bar_or_a_function_or_nothing(model, classifier, adata, capsys):
    told: list[int] = []
    tl.embed(adata, model, progress=told.append)
    assert sum(told) == len(adata)
    tl.annotate(adata, classifier, progress=told.append)
    assert sum(told) == 2 * len(adata)
    assert capsys.readouterr() == ("", "")
    tl.embed(adata, model, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "50/50" in shown.err


def test_an_embedding_does_not_depend_on_the_token_budget(model, adata):
    whole = tl.embed(adata, model, copy=True).obsm["X_cell_lm"]
    tl.embed(adata, model, token_budget=700)
    np.testing.assert_allclose(adata.obsm["X_cell_lm"], whole, rtol=1e-4, atol=1e-5)


def test_cells_do_not_depend_on_the_order_of_genes(model, adata):
    order = np.random.default_rng(0).permutation(adata.n_vars)
    shuffled = adata[:, order].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tl.embed(adata, model)
        tl.embed(shuffled, model)
    np.testing.assert_array_equal(adata.obsm["X_cell_lm"], shuffled.obsm["X_cell_lm"])


def test_the_path_of_a_run_names_its_model(model, adata, tmp_path):
    model.save_pretrained(tmp_path / "run" / "model")
    tl.embed(adata, Path(tmp_path / "run"))
    np.testing.assert_array_equal(adata.obsm["X_cell_lm"], model.encode(from_anndata(adata)))


@pytest.mark.parametrize("progress", ["yes", 1, []])
def test_a_progress_that_is_none_is_refused_before_the_cells_are_read(progress: object) -> None:
    for work in (tl.embed, tl.annotate):
        with pytest.raises(ConfigError, match=r"progress is .*Give a function .*, or True or False"):
            work("no such file.h5ad", "no such model", progress=progress)
    for explain in (tl.gene_attribution, tl.deletion_curve):
        with pytest.raises(ConfigError, match="progress is "):
            explain(AnnData(), "no such model", progress=progress)
