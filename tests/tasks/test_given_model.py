"""Estimators take the name or path of a model wherever they take a model."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from sklearn.base import clone

from cell_lm.errors import ModelError
from cell_lm.model import CellLM
from cell_lm.tasks import CellTypeClassifier, DrugResponseRegressor, DrugSensitivityClassifier, MalignancyClassifier

EVERY = (CellTypeClassifier, MalignancyClassifier, DrugSensitivityClassifier, DrugResponseRegressor)


@pytest.fixture(scope="module")
def path(model: CellLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("given") / "model"
    model.save_pretrained(path)
    return path


@pytest.mark.parametrize("make", EVERY)
def test_a_path_stays_a_parameter_and_is_read_once(make, path, model, monkeypatch):
    estimator = make(str(path))
    assert estimator.vocabulary.hash == model.vocabulary.hash
    monkeypatch.setattr(CellLM, "from_pretrained", None)  # it must not be read again
    for each in (estimator, clone(estimator), pickle.loads(pickle.dumps(estimator))):
        assert each.get_params()["model"] == each.model == str(path)
        assert each.resolved_model.config == model.config
    assert clone(estimator).resolved_model is estimator.resolved_model


@pytest.mark.parametrize("make", EVERY)
def test_another_model_replaces_the_one_that_was_read(make, path, model):
    estimator = make(path)
    assert estimator.resolved_model is not model
    assert estimator.set_params(model=model).resolved_model is model


def test_nothing_is_read_before_it_is_needed(tmp_path):
    assert "model='nowhere'" in repr(CellTypeClassifier("nowhere"))
    assert CellTypeClassifier(tmp_path / "later").get_params()["model"] == tmp_path / "later"


@pytest.mark.parametrize("make", EVERY)
def test_a_wrong_name_is_refused_in_one_line(make, reference):
    with pytest.raises(ModelError, match=r"^smal: does not exist\. Name .* a model of the package: small\.$"):
        _ = make("smal").vocabulary
    with pytest.raises(ModelError, match=r"a model was asked for by a int\. Pass a CellLM, the name of a model"):
        _ = make(3).vocabulary


def test_a_classifier_without_a_model_is_refused_in_one_line(reference):
    with pytest.raises(ModelError, match=r'^CellTypeClassifier: model is None\. Pass a CellLM, the name .*"small"'):
        CellTypeClassifier(None).fit(reference, "cell_type")


def test_a_fit_by_path_is_that_by_the_model_and_can_be_saved(path, model, reference: AnnData, query: AnnData, tmp_path):
    views = ("genes", "model")
    expected = CellTypeClassifier(model, views=views).fit(reference, "cell_type").predict_proba(query)
    fitted = CellTypeClassifier(str(path), views=views).fit(reference, "cell_type")
    np.testing.assert_array_equal(fitted.predict_proba(query), expected)
    fitted.save(tmp_path / "ann")
    loaded = CellTypeClassifier.load(tmp_path / "ann")
    assert isinstance(loaded.model, CellLM)
    np.testing.assert_array_equal(loaded.predict_proba(query), expected)


def test_sensitivity_by_the_name_of_a_model_uses_its_embedding(path, model, reference: AnnData):
    reference.obs["response"] = np.where(reference.obs["cell_type"] == reference.obs["cell_type"].iloc[0], "s", "r")
    how = {"sensitive": "s", "parts": "encoder", "self_training": False}
    expected = DrugSensitivityClassifier(model, **how).fit(reference, "response").predict_proba(reference)
    found = DrugSensitivityClassifier(path, **how).fit(reference, "response").predict_proba(reference)
    np.testing.assert_array_equal(found, expected)
