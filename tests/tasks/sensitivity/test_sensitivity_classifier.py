"""The classifier on made counts and z-scores: calls, unlabelled cells, refusals, saving."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from cell_lm.data import from_anndata
from cell_lm.errors import ConfigError, CountsError, GeneError, InputError
from cell_lm.tasks import CellTypeClassifier, DrugSensitivityClassifier, Estimator, GeneLogisticBaseline
from cell_lm.tasks.sensitivity import SeparationWarning
from sensitive_cells import PROGRAMME, sensitive_adata, z_scored
from typed_cells import tiny_model


@pytest.fixture(scope="module")
def adata() -> AnnData:
    return sensitive_adata(prevalence=0.25)


@pytest.fixture(scope="module")
def fitted(adata: AnnData) -> DrugSensitivityClassifier:
    return DrugSensitivityClassifier().fit(adata, "response")


def accuracy(classifier: DrugSensitivityClassifier, adata: AnnData, **how: object) -> float:
    return float((classifier.predict(adata, **how).astype(str) == adata.obs["truth"]).mean())


def test_a_few_labels_are_enough_with_cells_that_have_none(adata: AnnData, fitted: DrugSensitivityClassifier) -> None:
    assert fitted.reference_.cells == 8
    assert fitted.learned_from_ == 152
    assert accuracy(fitted, adata) > 0.97
    assert fitted.prevalence_ == pytest.approx(0.25, abs=0.04)
    alone = DrugSensitivityClassifier(self_training=False).fit(adata, "response")
    assert alone.learned_from_ == 0
    assert accuracy(alone, adata) < accuracy(fitted, adata)


def test_the_table_holds_score_probability_call_and_doubt(adata: AnnData, fitted: DrugSensitivityClassifier) -> None:
    table = fitted.table(adata)
    assert table.index.equals(adata.obs_names)
    np.testing.assert_allclose(1 / (1 + np.exp(-table["score"])), table["probability"], atol=1e-12)
    assert ((table["call"] == "sensitive") == (table["probability"] >= 0.5)).all()
    assert (table["uncertain"] == np.maximum(table["probability"], 1 - table["probability"]).lt(0.9)).all()
    strict = DrugSensitivityClassifier(certainty=1.0).fit(adata, "response").table(adata)
    assert strict["uncertain"].sum() > table["uncertain"].sum()


def test_cells_never_seen_are_called_too(fitted: DrugSensitivityClassifier) -> None:
    new = sensitive_adata(60, seed=9)
    assert accuracy(fitted, new) > 0.95
    whole = fitted.table(new)["score"].to_numpy()
    np.testing.assert_allclose(fitted.table(new[:7].copy())["score"], whole[:7], rtol=1e-5)


def test_further_unlabelled_cells_are_learned_from(adata: AnnData) -> None:
    labelled = adata[adata.obs["response"].notna()].copy()
    rest = adata[adata.obs["response"].isna()].copy()
    together = DrugSensitivityClassifier().fit(labelled, "response", unlabelled=rest)
    assert together.learned_from_ == 152
    assert accuracy(together, adata) > 0.97
    in_two = DrugSensitivityClassifier().fit(labelled, "response", unlabelled=[rest[:100].copy(), rest[100:].copy()])
    assert in_two.learned_from_ == 152
    assert accuracy(in_two, adata) > 0.97
    counts, scaled = from_anndata(labelled), from_anndata(z_scored(rest), scale="scaled")
    with pytest.raises(CountsError, match="unlabelled cells are on another kind of scale"):
        DrugSensitivityClassifier().fit(counts, "response", unlabelled=scaled)


def test_z_scores_are_read_where_the_user_says_so(adata: AnnData, fitted: DrugSensitivityClassifier) -> None:
    scaled = z_scored(adata)
    classifier = DrugSensitivityClassifier().fit(scaled, "response", scale="scaled")
    assert accuracy(classifier, scaled, scale="scaled") > 0.97
    with pytest.raises(CountsError, match=r'z-scored.*with scale="scaled"'):
        DrugSensitivityClassifier().fit(scaled, "response")
    with pytest.raises(CountsError, match="read as z-scores, but the classifier learned expression"):
        fitted.predict(scaled, scale="scaled")
    with pytest.raises(CountsError, match="no entry is negative"):
        DrugSensitivityClassifier().fit(adata, "response", scale="scaled")


@pytest.mark.parametrize("make", [lambda: GeneLogisticBaseline(), lambda: CellTypeClassifier(tiny_model())])
def test_other_tasks_refuse_z_scores(make, adata: AnnData) -> None:
    with pytest.raises(CountsError, match="z-scores are read by drug sensitivity alone"):
        make().fit(z_scored(adata), "truth", scale="scaled")


def test_the_genes_of_the_programme_weigh_most(fitted: DrugSensitivityClassifier, adata: AnnData) -> None:
    table = fitted.gene_weights()
    order = {name: place for place, name in enumerate(adata.var_names)}
    top = table.head(30)
    places = top["gene"].map(order)
    assert (places < PROGRAMME).mean() > 0.8
    up = places < PROGRAMME // 2
    assert (np.sign(top["weight"][places < PROGRAMME]) == np.where(up[places < PROGRAMME], 1, -1)).all()


def test_an_encoder_can_stand_beside_the_genes_or_alone(adata: AnnData, tmp_path: Path) -> None:
    model, adata = tiny_model(), adata[:50].copy()
    both = DrugSensitivityClassifier(model).fit(adata, "response")
    assert len(both.fit_.line.coefficients) == 20
    both.save(tmp_path / "both")
    loaded = DrugSensitivityClassifier.load(tmp_path / "both")
    np.testing.assert_array_equal(loaded.table(adata)["score"], both.table(adata)["score"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeparationWarning)  # the encoder was never trained
        alone = DrugSensitivityClassifier(model, parts="encoder").fit(z_scored(adata), "response", scale="scaled")
    assert alone.genes_ is None
    with pytest.raises(ConfigError, match="the encoder alone has no weights of genes"):
        alone.gene_weights()
    with pytest.raises(ConfigError, match="there is no model"):
        DrugSensitivityClassifier(parts="encoder").fit(adata, "response")


def test_it_is_saved_and_loaded_as_every_estimator(
    adata: AnnData, fitted: DrugSensitivityClassifier, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "sens")
    loaded = Estimator.load(tmp_path / "sens")
    assert isinstance(loaded, DrugSensitivityClassifier)
    pd.testing.assert_frame_equal(loaded.table(adata), fitted.table(adata))
    pd.testing.assert_frame_equal(loaded.gene_weights(), fitted.gene_weights())
    assert (loaded.prevalence_, loaded.separation_) == (fitted.prevalence_, fitted.separation_)
    assert json.loads((tmp_path / "sens" / "estimator.json").read_text())["estimator"] == "DrugSensitivityClassifier"


def test_scores_are_those_of_the_probabilities(adata: AnnData, fitted: DrugSensitivityClassifier) -> None:
    scores = fitted.sensitivity_scores(adata, "truth")
    assert (scores.cells, scores.sensitive) == (160, 40)
    assert scores.f1 > 0.95
    assert scores.ece < 0.06
    renamed = adata.copy()
    renamed.obs["other"] = renamed.obs["truth"].replace("resistant", "tolerant")
    with pytest.raises(InputError, match="'tolerant', which is no label of the fit"):
        fitted.sensitivity_scores(renamed, "other")


def relabelled(adata: AnnData, labels: list[object]) -> AnnData:
    changed = adata.copy()
    changed.obs["response"] = [*labels, *([None] * (adata.n_obs - len(labels)))]
    return changed


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["sensitive"] * 5, "holds one label only, 'sensitive'"),
        (["sensitive", "resistant", "resistant"], r"labels too few cells: 'resistant' \(2\), 'sensitive' \(1\)"),
        (["sensitive", "resistant", "unsure"] * 2, "holds 3 labels"),
        (["yes", "no"] * 3, r"none of the labels of obs column 'response' is 'sensitive'.*sensitive="),
    ],
)
def test_labels_that_teach_nothing_are_refused(adata: AnnData, labels: list[object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        DrugSensitivityClassifier().fit(relabelled(adata, labels), "response")


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"prior": 1.0}, "prior is 1.0"),
        ({"certainty": 0.2}, "certainty is 0.2"),
        ({"components": 0}, "components is 0"),
    ],
)
def test_parameters_out_of_range_are_refused(adata: AnnData, params: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        DrugSensitivityClassifier(**params).fit(adata, "response")


def test_unlabelled_cells_of_other_genes_are_refused(adata: AnnData) -> None:
    panel = adata[:, 700:].copy()
    with pytest.raises(GeneError, match=r"only .* of the .* genes of the labelled cells were measured"):
        DrugSensitivityClassifier().fit(adata, "response", unlabelled=panel, min_overlap=100)


def test_groups_that_do_not_separate_are_a_warning() -> None:
    same = sensitive_adata(80, strength=1.0)
    with pytest.warns(SeparationWarning, match="do not form two groups"):
        DrugSensitivityClassifier().fit(same, "response")
