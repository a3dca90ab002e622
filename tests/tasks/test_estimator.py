from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.utils.validation import check_is_fitted

from cell_lm.data import ReadOptions, Store, from_anndata, opening, read_cells
from cell_lm.data.backed import BackedCells, open_backed
from cell_lm.data.opening import Data, Opened
from cell_lm.data.view import CellView
from cell_lm.errors import ConfigError, InputError, ModelError
from cell_lm.prepare import PrepareSettings, prepare, read_columns
from cell_lm.tasks import (
    CellTypeClassifier,
    Classifier,
    ColumnEstimator,
    Estimator,
    GeneLogisticBaseline,
    NotFittedError,
    PCALogisticBaseline,
)
from cell_lm.tasks.annotation.views import VIEWS
from cell_lm.tasks.column_estimator import Target
from cell_lm.tasks.estimator import Fitted, Progress, checked


@pytest.fixture(scope="module")
def places(everything: AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cells as a file and a store, both in the order of the store."""
    folder = tmp_path_factory.mktemp("places")
    everything.copy().write_h5ad(folder / "raw.h5ad")
    (folder / "columns.toml").write_text('cell_type = {column = "cell_type"}\ndonor = {column = "donor"}\n')
    settings = PrepareSettings(min_genes=1, max_mito=1.0, keep_duplicates=True, shard_cells=128)
    columns = read_columns(folder / "columns.toml")
    prepare([folder / "raw.h5ad"], folder / "store", settings=settings, columns=columns)
    rows = Store.open(folder / "store").cells(["row"])["row"].to_numpy(np.int64)
    everything[rows].copy().write_h5ad(folder / "cells.h5ad")
    return folder


def data_of(kind: str, places: Path) -> object:
    path = places / "cells.h5ad"
    match kind:
        case "anndata":
            import anndata

            return anndata.read_h5ad(path)
        case "cells":
            return read_cells(path)
        case "backed":
            return open_backed(path)
        case "path":
            return path
        case "store":
            return Store.open(places / "store")
        case _:
            return str(places / "store")


@pytest.fixture(scope="module")
def of_the_store(model, places):
    """Return what fits an estimator on the store, once for all other places."""
    return cache(lambda kind: new(kind, model).fit(data_of("store", places), "cell_type", groups="donor"))


def new(kind, model):
    return kind(model, cache=False) if kind is CellTypeClassifier else kind()


@pytest.mark.parametrize("kind", ["anndata", "cells", "backed", "path", "path of a store"])
@pytest.mark.parametrize("make", [CellTypeClassifier, PCALogisticBaseline])
def test_the_same_cells_give_the_same_result_wherever_they_are(kind, make, model, places, of_the_store):
    data, store = data_of(kind, places), data_of("store", places)
    expected, found = of_the_store(make), new(make, model).fit(data, "cell_type", groups="donor")
    assert found.cells_per_class_ == expected.cells_per_class_
    np.testing.assert_array_equal(found.predict_proba(data).to_numpy(), expected.predict_proba(store).to_numpy())
    assert found.predict(data).index.tolist() == expected.predict(store).index.tolist()
    assert found.score(data, "cell_type") == expected.score(store, "cell_type")


def test_a_large_file_stays_on_disk(places, monkeypatch):
    monkeypatch.setattr(opening.stays_on_disk, "__defaults__", (0.0,))
    opened = Opened(places / "cells.h5ad", ReadOptions())
    assert {"cell_type", "donor"} <= set(opened.obs(["cell_type"]))
    assert isinstance(opened.cells().dataset, BackedCells)


@pytest.mark.parametrize("label", ["celltype", "nothing"])
@pytest.mark.parametrize("kind", ["anndata", "path", "store"])
def test_a_missing_column_is_answered_with_those_there_are(kind, label, places):
    with pytest.raises(InputError, match=rf"obs has no column '{label}'.*cell_type"):
        GeneLogisticBaseline().fit(data_of(kind, places), label)


def test_options_of_reading_are_keywords_or_one_object(fitted, query):
    expected = fitted.predict_proba(query)
    query.layers["counts"], query.X = query.X.copy(), query.X * 0.5
    for how in ({"layer": "counts"}, {"read": ReadOptions(layer="counts")}):
        pd.testing.assert_frame_equal(fitted.predict_proba(query, **how), expected)
    with pytest.raises(ConfigError, match=r"unknown keyword: layers. Did you mean layer"):
        fitted.predict_proba(query, layers="counts")


@pytest.mark.parametrize("kind", ["cells", "store", "path of a store"])
def test_cells_that_are_read_already_take_no_options(kind, places, fitted):
    with pytest.raises(InputError, match="layer given for cells that have been read already"):
        fitted.predict(data_of(kind, places), layer="counts")


def test_a_model_folder_is_not_taken_for_cells(fitted, tmp_path):
    fitted.save(tmp_path / "ann")
    fitted.model.save_pretrained(tmp_path / "run" / "model")
    for path in ("ann", "run", "run/model"):
        with pytest.raises(InputError, match=rf"{path}: it holds a model \(.*\), not cells"):
            fitted.predict(tmp_path / path)


def test_cells_with_too_few_genes_are_left_out(fitted, query_cells, query):
    least = int(np.median(query_cells.genes_per_cell))
    labels = fitted.predict(query, min_genes=least)
    assert labels.index.tolist() == query_cells.obs.index[query_cells.genes_per_cell >= least].tolist()


def test_parameters_are_those_of_the_constructor(model):
    classifier = CellTypeClassifier(model, seed=3, precision="bfloat16")
    params = {"model": model, "views": VIEWS, "unknown": 0.05, "fine_tune": None, "seed": 3}
    params |= {"device": None, "precision": "bfloat16", "cache": True}
    assert classifier.get_params() == params
    assert classifier.set_params(seed=5).seed == 5
    assert is_classifier(classifier)


def test_a_clone_is_unfitted_and_shares_the_model(fitted):
    again = clone(fitted)
    assert again.get_params() == fitted.get_params()
    assert again.model is fitted.model
    check_is_fitted(fitted)
    with pytest.raises(SklearnNotFittedError):
        check_is_fitted(again)


def test_it_prints_without_addresses(model):
    text = repr(CellTypeClassifier(model, seed=3))
    assert "seed=3" in text
    assert "model=<latent model, 2 layers of width 48>" in text
    assert "0x" not in text
    assert "\n" not in text
    assert repr(PCALogisticBaseline(components=7)) == "PCALogisticBaseline(components=7, seed=0)"


def test_what_only_a_fit_gives_is_refused_before_it(model):
    classifier = CellTypeClassifier(model)
    for name in ("classes_", "reference_", "pool_", "weights_", "cells_per_class_", "unlabelled_"):
        with pytest.raises(NotFittedError, match=r"CellTypeClassifier: it has not been fitted. Call fit"):
            getattr(classifier, name)
        assert not hasattr(classifier, name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = classifier.nonsense
    assert issubclass(NotFittedError, ModelError)


def test_classes_are_an_array(fitted):
    assert isinstance(fitted.classes_, np.ndarray)
    assert fitted.classes_.tolist() == ["alpha", "beta", "delta", "gamma"]


def test_score_is_the_macro_f1_of_evaluate(fitted, query_cells):
    scores = fitted.evaluate(query_cells, "cell_type")
    assert fitted.score(query_cells, "cell_type") == scores.macro_f1
    assert scores.cells == len(query_cells)


def test_precision_is_used_saved_and_loaded(model, reference_cells, query_cells, tmp_path):
    exact = CellTypeClassifier(model, views=["model"]).fit(reference_cells, "cell_type")
    rough = CellTypeClassifier(model, views=["model"], precision="bfloat16").fit(reference_cells, "cell_type")
    assert not np.array_equal(exact.pool_.linear["model"].coefficients, rough.pool_.linear["model"].coefficients)
    rough.save(tmp_path / "ann")
    loaded = CellTypeClassifier.load(tmp_path / "ann")
    assert loaded.precision == "bfloat16"
    pd.testing.assert_frame_equal(loaded.predict_proba(query_cells), rough.predict_proba(query_cells))
    assert "device" not in json.loads((tmp_path / "ann" / "estimator.json").read_text())["params"]


class MeanRegressor(ColumnEstimator):
    """Learns a number a cell, and predicts its mean: what a task of another kind has to write."""

    mean_: float

    def __init__(self, *, shift: float = 0.0) -> None:
        self.shift = shift

    def _read_target(self, obs: pd.DataFrame, label: str, *, where: str, training: bool) -> Target:
        values = obs[label].to_numpy(np.float64)
        return Target(values, np.isfinite(values))

    def _learn(self, cells: CellView, values: np.ndarray, groups: np.ndarray | None, run: Progress) -> None:
        assert len(cells) == len(values)
        self.mean_ = float(values.mean()) + self.shift

    def _fitted(self) -> Fitted:
        return Fitted({}, {"mean": np.array([self.mean_])})

    def _restore(self, fitted: Fitted) -> None:
        self.mean_ = float(checked(fitted.arrays, "mean", (1,))[0])

    def predict(self, data: Data, **how: object) -> pd.Series:
        cells = self._open(data, how)
        return pd.Series(self.mean_, index=cells.index)


def test_a_task_of_another_kind_inherits_reading_and_saving(reference, query, places, tmp_path):
    reference.obs["dose"] = np.where(np.arange(len(reference)) % 2, np.nan, 3.0)
    regressor = MeanRegressor(shift=1.0).fit(reference, "dose", groups="donor", min_genes=1)
    assert regressor.reference_.cells == regressor.reference_.unlabelled == len(reference) / 2
    regressor.save(tmp_path / "mean")
    loaded = Estimator.load(tmp_path / "mean")
    assert isinstance(loaded, MeanRegressor)
    assert (loaded.shift, loaded.mean_) == (1.0, 4.0)
    assert loaded.predict(query).tolist() == [4.0] * len(query)
    assert len(loaded.predict(places / "store")) == 300
    with pytest.raises(ModelError, match="it holds a MeanRegressor, not a Classifier"):
        Classifier.load(tmp_path / "mean")


def test_coverage_takes_whatever_holds_cells(fitted, query):
    panel = query[:, :350].copy()
    assert fitted.coverage(panel, min_overlap=10) == fitted.coverage(from_anndata(panel, min_overlap=10))


@pytest.mark.parametrize("kind", ["adata", "file", "store"])
def test_a_column_that_is_given_as_its_values_is_named(kind, model, places, everything):
    data: Data = {"adata": everything, "file": places / "cells.h5ad", "store": places / "store"}[kind]
    column = everything.obs["cell_type"]
    with pytest.raises(InputError, match=r"asked for by a Series\. Give its name, 'cell_type'"):
        CellTypeClassifier(model).fit(data, column)
    with pytest.raises(InputError, match=r"asked for by a Series\. Give its name, 'donor'"):
        CellTypeClassifier(model).fit(data, "cell_type", groups=everything.obs["donor"])
    with pytest.raises(InputError, match=r"asked for by a ndarray\. Give its name as a text"):
        CellTypeClassifier(model).fit(data, column.to_numpy())


def test_values_to_evaluate_by_are_refused_as_a_column(fitted, query):
    with pytest.raises(InputError, match="Give its name, 'cell_type'"):
        fitted.evaluate(query, query.obs["cell_type"])


@pytest.mark.parametrize("progress", ["yes", True, 1])
def test_a_progress_that_cannot_be_called_is_refused_before_any_work(progress, fitted, model, query):
    for work in (
        lambda: CellTypeClassifier(model).fit(query, "cell_type", progress=progress),
        lambda: fitted.predict(query, progress=progress),
        lambda: fitted.evaluate(query, "cell_type", progress=progress),
        lambda: model.encode(from_anndata(query), progress=progress),
    ):
        with pytest.raises(ConfigError, match=r"progress is .*Give a function"):
            work()
