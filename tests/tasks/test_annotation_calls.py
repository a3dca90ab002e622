"""Unknown cells, label sets and fine-tuning, from the fit to the table of calls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cell_lm import tl
from cell_lm.data import CellData
from cell_lm.data.obs.labels import LabelWarning
from cell_lm.errors import ConfigError, GeneError, InputError
from cell_lm.evaluation.linear_head import fit_head
from cell_lm.model import CellLM
from cell_lm.tasks import CellTypeClassifier
from cell_lm.tasks.finetuning import FineTuned, tunable
from cell_lm.tasks.finetuning.tuning import Look

VIEWS = ("genes", "model")


@pytest.fixture(scope="module")
def known(model, reference_cells) -> CellTypeClassifier:
    cells = reference_cells[(reference_cells.obs["cell_type"] != "beta").to_numpy()]
    return CellTypeClassifier(model, views=VIEWS).fit(cells, "cell_type", groups="donor")


def test_cells_of_a_type_that_was_not_in_the_fit_are_unknown(known, query_cells):
    table, truth = known.table(query_cells), query_cells.obs["cell_type"].to_numpy(str)
    assert table.columns.tolist() == ["label", "confidence", "novelty", "label_set", "set_size"]
    unknown = (table["label"] == "unknown").to_numpy()
    assert unknown[truth == "beta"].mean() > 0.9
    assert unknown[truth != "beta"].mean() < 0.25
    assert ((table["novelty"] > 0.95) == unknown).all()
    rest = ~unknown & (truth != "beta")
    assert (table["label"].astype(str).to_numpy()[rest] == truth[rest]).mean() > 0.95


def test_the_rate_is_that_of_the_call(known, query_cells):
    never, often = known.table(query_cells, unknown=0), known.table(query_cells, unknown=0.5)
    assert never["label"].cat.categories.tolist() == list(known.classes_)
    assert (never["label"].astype(str) == known.predict(query_cells).astype(str)).all()
    assert ((often["novelty"] > 0.5) == (often["label"] == "unknown")).all()
    for rate in (-0.1, 1.0):
        with pytest.raises(ConfigError, match="rate of unknown cells"):
            known.table(query_cells, unknown=rate)


def test_without_donors_no_cell_is_called_unknown_unasked(model, reference_cells, query_cells):
    classifier = CellTypeClassifier(model, views=VIEWS).fit(reference_cells, "cell_type")
    assert "unknown" not in classifier.table(query_cells)["label"].cat.categories
    assert "unknown" in classifier.table(query_cells, unknown=0.05)["label"].cat.categories


@pytest.mark.usefixtures("any_tissue")
def test_without_left_out_cells_there_is_no_novelty(model, reference_cells, query_cells):
    first = [int(np.flatnonzero(reference_cells.obs["cell_type"] == name)[0]) for name in ("alpha", "beta")]
    classifier = CellTypeClassifier(model, views=VIEWS).fit(reference_cells[np.array(first)], "cell_type", min_cells=1)
    assert classifier.table(query_cells).columns.tolist() == ["label", "confidence"]
    with pytest.raises(ConfigError, match="too few cells could be left out"):
        classifier.table(query_cells, unknown=0.05)


def test_label_sets_hold_the_label_and_nine_of_ten_truths(known, query_cells):
    table = known.table(query_cells, unknown=0)
    own = (query_cells.obs["cell_type"] != "beta").to_numpy()
    sets = [set(text.split("|")) - {""} for text in table["label_set"]]
    assert [len(each) for each in sets] == table["set_size"].tolist()
    right = [truth in each for truth, each in zip(query_cells.obs["cell_type"], sets, strict=True)]
    assert np.mean(np.array(right)[own]) > 0.8


def test_calls_are_the_same_from_the_folder_and_from_the_tool(known, query, query_cells, tmp_path):
    known.save(tmp_path / "ann")
    loaded = CellTypeClassifier.load(tmp_path / "ann")
    table = known.table(query_cells)
    again = loaded.table(query_cells)
    assert (again["label"].astype(str) == table["label"].astype(str)).all()
    np.testing.assert_allclose(again["novelty"], table["novelty"], atol=1e-6)
    tl.annotate(query, loaded)
    assert (query.obs["cell_lm_label"].astype(str).to_numpy() == table["label"].astype(str).to_numpy()).all()
    np.testing.assert_allclose(query.obs["cell_lm_novelty"], table["novelty"], atol=1e-6)
    assert query.obs["cell_lm_label_set"].tolist() == table["label_set"].tolist()
    assert query.uns["cell_lm_annotation"]["unknown_rate"] == 0.05


def test_a_cell_gets_the_same_call_whatever_its_company(known, query_cells):
    whole = known.table(query_cells)
    alone = known.table(query_cells[:7])
    assert (alone["label"].astype(str) == whole["label"][:7].astype(str)).all()
    np.testing.assert_allclose(alone["novelty"], whole["novelty"][:7], atol=1e-5)


def tuned(model, cells: CellData, labels, groups, step: int) -> FineTuned:
    """A model with CLS turned round, as if training had made it."""
    other = type(model)(model.config, model.vocabulary, model.objectives)
    other.load_state_dict(model.state_dict())
    reference = model.reference
    other.set_reference(replace(reference, components=-reference.components, centre=-reference.centre))
    other = other.eval()
    embedding = other.encode(cells)
    looks = (Look(0, 1.0, 0.5), Look(max(step, 1), 0.5, 0.9))
    left_out = np.zeros(len(labels), bool)
    return FineTuned(other if step else model, fit_head(embedding, labels), step, looks, left_out, "donor")


@pytest.mark.parametrize("step", [0, 10])
def test_a_fine_tuned_encoder_is_used_and_saved_only_where_it_helped(
    model, reference_cells, query_cells, tmp_path, monkeypatch, step
):
    monkeypatch.setattr(
        tunable,
        "fine_tune",
        lambda given, cells, labels, groups, config, **how: tuned(given, reference_cells, labels, groups, step),
    )
    classifier = CellTypeClassifier(model, views=VIEWS, fine_tune="refinement").fit(reference_cells, "cell_type")
    assert classifier.fine_tuned_.startswith("fine-tuned for 10 steps" if step else "not fine-tuned")
    assert (classifier.encoder_ is model) == (step == 0)
    assert (classifier.evidence_ is None) == (step > 0)
    assert classifier.score(query_cells, "cell_type") > 0.9
    classifier.save(tmp_path / "ann")
    loaded = CellTypeClassifier.load(tmp_path / "ann")
    np.testing.assert_allclose(loaded.predict_proba(query_cells), classifier.predict_proba(query_cells), atol=1e-5)
    assert loaded.fine_tuned_ == classifier.fine_tuned_


def test_donors_that_share_too_few_cells_are_not_left_out(model, reference_cells, query_cells):
    rows = np.arange(60)
    obs = reference_cells.obs.iloc[rows].assign(lane=["a"] * 59 + ["b"])
    few = replace(reference_cells[rows], obs=obs)
    with pytest.warns(LabelWarning, match="only 1 of 60 labelled cells have a type"):
        classifier = CellTypeClassifier(model, views=VIEWS).fit(few, "cell_type", groups="lane", min_cells=1)
    assert classifier.cross_validation_.donors is None
    assert "unknown" not in classifier.table(query_cells)["label"].cat.categories
    assert classifier.score(query_cells, "cell_type") > 0.9


@pytest.mark.usefixtures("any_tissue")
def test_columns_of_an_earlier_call_do_not_stay_beside_the_new_labels(known, model, reference_cells, query):
    tl.annotate(query, known, probabilities=True)
    first = [int(np.flatnonzero(reference_cells.obs["cell_type"] == name)[0]) for name in ("alpha", "beta")]
    one_each = CellTypeClassifier(model, views=VIEWS).fit(reference_cells[np.array(first)], "cell_type", min_cells=1)
    tl.annotate(query, one_each)
    assert "cell_lm_label" in query.obs
    assert not {"cell_lm_novelty", "cell_lm_label_set", "cell_lm_set_size"} & set(query.obs)
    assert "cell_lm_proba" not in query.obsm


def test_unlabelled_cells_of_a_panel_are_refused(model, reference, query):
    few = query[:, :30].copy()
    with pytest.raises(GeneError, match=r"30 of 1,400 genes of the reference.*--genes-of"):
        CellTypeClassifier(model, views=VIEWS).fit(reference, "cell_type", unlabelled=few, min_overlap=10, min_genes=1)


def test_attention_that_has_no_part_in_the_labels_is_refused(known, query):
    model = CellLM.from_pretrained("small")
    classifier = CellTypeClassifier(model, views=("model",)).fit(query, "cell_type")
    with pytest.raises(InputError, match="has no part in CLS"):
        tl.gene_attribution(query, classifier, method="attention")
