"""Labelled cells to fit on, cells of an unseen donor to judge by, and a classifier fitted once."""

from __future__ import annotations

import pytest
from anndata import AnnData

from cell_lm.data import CellData, from_anndata
from cell_lm.model import CellLM
from cell_lm.tasks import CellTypeClassifier
from typed_cells import tiny_model, typed_adata


@pytest.fixture(scope="session")
def model() -> CellLM:
    return tiny_model()


@pytest.fixture(scope="session")
def everything() -> AnnData:
    return typed_adata(300)


@pytest.fixture
def reference(everything: AnnData) -> AnnData:
    return everything[everything.obs["donor"] != "d3"].copy()


@pytest.fixture
def query(everything: AnnData) -> AnnData:
    return everything[everything.obs["donor"] == "d3"].copy()


@pytest.fixture(scope="session")
def reference_cells(everything: AnnData) -> CellData:
    return from_anndata(everything[everything.obs["donor"] != "d3"].copy(), name="reference.h5ad")


@pytest.fixture(scope="session")
def query_cells(everything: AnnData) -> CellData:
    return from_anndata(everything[everything.obs["donor"] == "d3"].copy(), name="query.h5ad")


@pytest.fixture(scope="session")
def fitted(model: CellLM, reference_cells: CellData) -> CellTypeClassifier:
    return CellTypeClassifier(model, seed=3).fit(reference_cells, "cell_type", groups="donor")


@pytest.fixture
def any_tissue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pool CLS with one label a type, too: the linear path of the small model of these tests covers few genes."""
    monkeypatch.setattr("cell_lm.tasks.annotation.classifier.COVERED", 0.0)
