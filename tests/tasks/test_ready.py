"""The annotators of the package."""

from __future__ import annotations

import json

import numpy as np
import pytest
from anndata import AnnData

import cell_lm
from cell_lm.data.demo import OVARIAN_CANCER, PANCREAS, demo_cells
from cell_lm.data.obs.ontology import ontology_ids
from cell_lm.errors import ModelError
from cell_lm.tasks import CellTypeClassifier, ready
from cell_lm.tasks.ready import about, find, ready_annotators

NAMES = ["blood", "ovarian-cancer", "pancreas"]


@pytest.fixture(scope="module")
def cells() -> dict[str, AnnData]:
    """Every fortieth packaged cell of both tissues, which two of the annotators learned from."""
    demo = demo_cells()
    tissues = {"pancreas": demo[PANCREAS], "ovarian-cancer": demo[OVARIAN_CANCER], "blood": demo[OVARIAN_CANCER]}
    return {name: adata[::40].copy() for name, adata in tissues.items()}


def test_they_are_found_by_name():
    assert ready_annotators() == NAMES
    assert find("blood").name == "blood"
    assert (find("blood") / "README.md").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_each_annotates_by_its_name(name, cells):
    adata = cells[name].copy()
    cell_lm.tl.annotate(adata, name, probabilities=True)
    record = adata.uns["cell_lm_annotation"]
    assert record["classifier_path"] == name
    np.testing.assert_allclose(adata.obsm["cell_lm_proba"].sum(axis=1), 1, atol=1e-5)
    assert set(adata.obs["cell_lm_label"]) <= {*record["classes"], "unknown"}
    known = adata.obs["cell_lm_label"] != "unknown"
    assert adata.obs.loc[known, "cell_lm_ontology"].str.startswith("CL:").all()
    if name == "blood":  # of the cells of a tumour
        strange = adata.obs["cell_type"].isin(["Epithelial", "Fibroblast", "Endothelial"])
        assert known[strange].mean() < 0.35
    else:
        assert (adata.obs["cell_lm_label"].astype(str) == adata.obs["cell_type"].astype(str)).mean() > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_each_is_small_refers_to_the_packaged_encoder_and_has_a_card(name):
    place, record = find(name), about(name)
    assert sorted(path.name for path in place.iterdir()) == [
        "README.md", "annotator.json", "arrays.safetensors", "estimator.json"
    ]  # fmt: skip
    assert sum(path.stat().st_size for path in place.iterdir()) < 2_000_000
    settings = json.loads((place / "estimator.json").read_text())
    assert settings["packaged_model"]["name"] == "small"
    types = list(settings["values"]["cells_per_class"])
    assert set(ontology_ids(types)) == set(types)
    card = (place / "README.md").read_text()
    assert all(kind in card for kind in types)
    for score in record.scores:
        assert 0 < score.low <= score.macro_f1 <= score.high <= 1
        assert f"{score.macro_f1:.3f}" in card
    assert sum(one.cells for one in record.data) >= sum(settings["values"]["cells_per_class"].values()) > 1_000
    assert all(one.source and one.licence for one in record.data)
    for labels in record.harmonised.values():
        assert set(labels.values()) <= set(types)


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blood").mkdir()
    assert find("blood") == ready.Path("blood")
    with pytest.raises(ModelError, match="blood: it holds no estimator"):
        CellTypeClassifier.load("blood")


def test_an_unknown_name_is_answered_with_those_that_are_there():
    with pytest.raises(ModelError, match=r"plasma: it does not exist.*blood, ovarian-cancer, pancreas"):
        CellTypeClassifier.load("plasma")
    with pytest.raises(ModelError, match=r"^small: it is a model of the package, not a classifier\. Fit .* fit"):
        CellTypeClassifier.load("small")
