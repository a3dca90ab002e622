"""Tumour or normal: a classifier of the user's labels, and the head of a pretrained model."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

import cell_lm
from cell_lm.data import from_anndata
from cell_lm.data.view import CellView
from cell_lm.errors import ConfigError, InputError, ModelError
from cell_lm.model import CellLM
from cell_lm.model_folder import Discriminated
from cell_lm.tasks import CellTypeClassifier, DissimilarCellsWarning, Estimator, MalignancyClassifier
from cell_lm.tasks.malignancy import likeness, pretrained_table
from cell_lm.tasks.malignancy.likeness import learn_likeness
from typed_cells import tiny_model, typed_adata

KEY = "cell_lm_malignancy"
VALUES = {"alpha": "tumour", "beta": "normal", "gamma": "normal", "delta": "unknown"}


@pytest.fixture(scope="module")
def adata() -> AnnData:
    return typed_adata(300)


@pytest.fixture(scope="module")
def encoder() -> CellLM:
    return tiny_model()


@pytest.fixture(scope="module")
def fitted(adata: AnnData, encoder: CellLM) -> MalignancyClassifier:
    """Fitted on two donors."""
    reference = from_anndata(adata[adata.obs["donor"] != "d3"].copy())
    return MalignancyClassifier(encoder, values=VALUES).fit(reference, "cell_type", groups="donor")


@pytest.fixture
def other(adata: AnnData) -> AnnData:
    """The third donor."""
    return adata[adata.obs["donor"] == "d3"].copy()


def test_cells_of_a_new_donor_are_called(fitted: MalignancyClassifier, other: AnnData) -> None:
    assert list(fitted.classes_) == ["normal", "tumour"]
    assert fitted.unlabelled_ > 0  # delta cells are of unknown kind
    table = fitted.table(other)
    known = (other.obs["cell_type"] != "delta").to_numpy()
    truth = (other.obs["cell_type"] == "alpha").to_numpy()
    assert ((table["call"] == "tumour").to_numpy() == truth)[known].mean() > 0.9
    assert ((table["probability"] > 0.5) == (table["call"] == "tumour")).all()
    np.testing.assert_allclose(table["probability"], fitted.predict_proba(other)["tumour"])
    confident = np.maximum(table["probability"], 1 - table["probability"]) >= 0.9
    assert (table["uncertain"] == (~confident | table["unlike"])).all()
    assert fitted.malignancy_scores(other, "cell_type").auroc > 0.95


def test_it_is_the_annotator_of_two_kinds(
    fitted: MalignancyClassifier, adata: AnnData, encoder: CellLM, other: AnnData
) -> None:
    """Head and calibration on left-out donors are those of the classifier of cell types."""
    reference = adata[(adata.obs["donor"] != "d3") & (adata.obs["cell_type"] != "delta")].copy()
    reference.obs["kind"] = reference.obs["cell_type"].map(VALUES)
    same = CellTypeClassifier(encoder).fit(reference, "kind", groups="donor")
    np.testing.assert_allclose(fitted.predict_proba(other), same.predict_proba(other), atol=1e-5)


def test_it_comes_back_from_its_folder(fitted: MalignancyClassifier, other: AnnData, tmp_path: Path) -> None:
    fitted.save(tmp_path / "mal")
    again = Estimator.load(tmp_path / "mal")
    assert isinstance(again, MalignancyClassifier)
    assert again.table(other).equals(fitted.table(other))
    assert again.values == VALUES


def test_unlike_cells_are_marked_and_said(fitted: MalignancyClassifier, other: AnnData) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fitted.table(other)["unlike"].mean() < 0.2
    strange = other.copy()
    strange.X = strange.X[:, np.random.default_rng(0).permutation(strange.n_vars)]
    with pytest.warns(DissimilarCellsWarning, match=r"\d+% of the cells are unlike those of the fit"):
        table = fitted.table(strange)
    assert table["unlike"].mean() > 0.9
    assert table.loc[table["unlike"], "uncertain"].all()


def test_the_stated_fraction_of_left_out_cells_is_unlike() -> None:
    rng = np.random.default_rng(0)
    donors = np.repeat([f"d{i}" for i in range(6)], 200).astype(object)
    points = rng.normal(size=(1_200, 12)) + 3
    learned = learn_likeness(points[:1_000], np.arange(1_000) % 2, donors[:1_000], rate=0.1, seed=0)
    assert learned.unit == "donor"
    assert 0.05 < (learned.distances(points[1_000:]) > learned.threshold).mean() < 0.15
    assert (learned.distances(-points[1_000:]) > learned.threshold).all()


def test_distance_ignores_depth() -> None:
    points = np.random.default_rng(0).normal(size=(50, 8))
    learned = learn_likeness(points, np.arange(50) % 2, None, rate=0.1, seed=0)
    assert learned.unit == "cell"
    np.testing.assert_allclose(learned.distances(points), learned.distances(7 * points))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"alpha": "tumour", "beta": "tumour", "gamma": "unknown", "delta": "unknown"}, "and 0 normal cells"),
        ({"alpha": "tumour"}, "holds values that mean neither tumour nor normal here: "),
    ],
)
def test_labels_of_one_kind_or_of_no_meaning_are_refused(
    adata: AnnData, encoder: CellLM, values: dict[str, str], found: str
) -> None:
    with pytest.raises(InputError, match=found):
        MalignancyClassifier(encoder, values=values).fit(adata, "cell_type")


@pytest.mark.parametrize("wrong", [{"certainty": 0.2}, {"unlike_rate": 0.0}])
def test_fractions_that_are_none_are_refused(adata: AnnData, encoder: CellLM, wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="Give a fraction"):
        MalignancyClassifier(encoder, values=VALUES, **wrong).fit(adata, "cell_type")


def test_the_tool_writes_columns_and_a_record(fitted: MalignancyClassifier, other: AnnData, tmp_path: Path) -> None:
    fitted.save(tmp_path / "mal")
    before = other.X.copy()
    assert cell_lm.tl.malignancy(other, tmp_path / "mal") is None
    table, about = fitted.table(other), other.uns[KEY]
    np.testing.assert_array_equal(other.obs[KEY], table["probability"])
    assert (other.obs[f"{KEY}_call"].astype(str).to_numpy() == table["call"].astype(str).to_numpy()).all()
    assert other.obs[f"{KEY}_uncertain"].dtype == other.obs[f"{KEY}_unlike"].dtype == bool
    assert (about["source"], about["calibrated"]) == ("classifier", "left-out donors")
    assert about["tumour_cells"] == fitted.cells_per_class_["tumour"]
    assert about["unlike"] == table["unlike"].mean()
    assert (before != other.X).nnz == 0
    other.write_h5ad(tmp_path / "written.h5ad")


def test_an_untrained_head_is_refused(other: AnnData, encoder: CellLM) -> None:
    for model in (encoder, "small"):
        with pytest.raises(ModelError, match="head was not trained on tumour and normal cells"):
            cell_lm.tl.malignancy(other, model)
    assert KEY not in other.obs


def test_a_trained_head_gives_its_probability(other: AnnData, tmp_path: Path) -> None:
    trained = tiny_model(1)
    trained.discriminated = Discriminated(tumour=30, normal=40)
    trained.save_pretrained(tmp_path / "model")
    model = CellLM.from_pretrained(tmp_path / "model")
    assert model.discriminated == trained.discriminated
    cells = from_anndata(other)
    cls = model.encode(cells).astype(np.float64)
    head = model.malignancy_head.logit
    logits = cls @ head.weight.detach().numpy()[0].astype(float) + head.bias.detach().numpy()[0]
    made = cell_lm.tl.malignancy(other, tmp_path / "model", copy=True)
    assert made is not None
    np.testing.assert_allclose(made.obs[KEY], 1 / (1 + np.exp(-logits)), atol=1e-5)
    assert f"{KEY}_unlike" not in made.obs
    assert (made.uns[KEY]["calibrated"], made.uns[KEY]["tumour_cells"]) == ("no", 30)
    sure = pretrained_table(model, CellView.of(cells), certainty=0.5)
    assert not sure["uncertain"].any()


def test_likeness_does_not_depend_on_the_encoder_that_classifies(
    fitted: MalignancyClassifier, adata: AnnData, other: AnnData
) -> None:
    """An encoder adapted to the cells of the fit would find other tissues near."""
    reference = from_anndata(adata[adata.obs["donor"] != "d3"].copy())
    second = MalignancyClassifier(tiny_model(5), values=VALUES).fit(reference, "cell_type", groups="donor")
    assert second.likeness_.threshold == pytest.approx(fitted.likeness_.threshold, rel=1e-4)
    np.testing.assert_allclose(second.table(other)["distance"], fitted.table(other)["distance"], atol=1e-4)


def test_a_comparison_by_another_packaged_model_is_refused(
    fitted: MalignancyClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted.save(tmp_path / "mal")
    packaged, _ = likeness._packaged()
    monkeypatch.setattr(likeness, "_packaged", lambda: (packaged, "0" * 64))
    with pytest.raises(ModelError, match="compared by the packaged model of another version"):
        MalignancyClassifier.load(tmp_path / "mal")
