"""The benchmark of annotation: its questions, its file of results, its margins, and peers that break."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from cell_lm.config import EncoderConfig
from cell_lm.data import from_anndata
from cell_lm.data.demo import PANCREAS, demo_cells
from cell_lm.data.obs.malignancy import TUMOUR
from cell_lm.errors import CellLMError, InputError
from cell_lm.evaluation.folds import training_folds
from cell_lm.model import CellLM
from cell_lm.tasks import CellTypeClassifier
from toy_run import toy_cells
from typed_cells import tiny_model, typed_adata

pytest.importorskip("benchmarks", reason="benchmarks are not part of a source distribution")
from benchmarks import annotation
from benchmarks.parts import annotation_environments, annotation_ours, annotation_scbert
from benchmarks.parts.annotation_ours import Encoders, ours
from benchmarks.parts.annotation_peers import PEERS, Answer
from benchmarks.parts.annotation_results import Results, margins, scores, summary, table
from benchmarks.parts.annotation_tasks import (
    QUERIES,
    REFERENCE,
    SETTINGS,
    SHARED_TYPES,
    Case,
    LabelledSet,
    Sets,
    cases,
    labelled,
)

TYPES, DONORS = ("alpha", "beta", "delta"), ("human1", "human2", "human3")


@pytest.fixture(scope="module")
def pancreas() -> LabelledSet:
    """Some packaged cells of three types and three donors."""
    adata = demo_cells()[PANCREAS]
    adata = adata[adata.obs["cell_type"].isin(TYPES)]
    rows = adata.obs.groupby(["cell_type", "donor"], observed=True).head(28).index
    return labelled("pancreas", from_anndata(adata[rows].copy()))


@pytest.fixture
def sets(pancreas: LabelledSet) -> Sets:
    found = Sets(None)
    found._read = {"pancreas": pancreas}
    return found


@pytest.fixture
def case(sets: Sets) -> Case:
    return next(cases(sets, "pancreas", "5", 0))


def typed(name: str, types: list[str]) -> LabelledSet:
    """Two cells of each type with random counts of a few genes."""
    genes = ["CD3D", "CD4", "CD8A", "MS4A1", "NKG7", "LYZ", "GNLY", "CD79A", "CST3", "IL7R", "CD34", "FCGR3A"]
    labels = np.repeat(np.array(types, object), 2)
    X = np.random.default_rng(0).poisson(3.0, (len(labels), len(genes))).astype(np.float32) + 1
    cells = from_anndata(AnnData(sparse.csr_matrix(X), var=pd.DataFrame(index=genes)), min_overlap=1)
    return LabelledSet(name, cells, labels)


def test_every_type_of_a_query_is_one_of_the_reference_by_the_table() -> None:
    known = set(SHARED_TYPES[REFERENCE].values())
    assert known == {"B cell", "NK cell", "CD4 T cell", "CD8 T cell", "monocyte"}
    for query in QUERIES:
        assert set(SHARED_TYPES[query].values()) <= known
        assert len(set(SHARED_TYPES[query].values())) >= 4
    assert set(SHARED_TYPES) == {REFERENCE, *QUERIES}


def test_across_sets_the_types_have_shared_names_and_others_are_left_out() -> None:
    found = Sets(None)
    found._read = {
        REFERENCE: typed(REFERENCE, ["CD34+", *SHARED_TYPES[REFERENCE]]),
        "pbmc3k": typed("pbmc3k", ["Platelet", "DC", *SHARED_TYPES["pbmc3k"]]),
    }
    (one,) = cases(found, "blood.pbmc3k", "all", 0)
    assert set(one.labels) == set(one.truth) == set(SHARED_TYPES[REFERENCE].values())
    assert (len(one.labels), len(one.truth)) == (18, 14)
    assert [len(one.reference), len(one.query)] == [18, 14]
    (few,) = cases(found, "blood.pbmc3k", "1", 3)
    assert sorted(few.labels) == sorted(set(few.labels)), "one cell a shared type"
    assert not list(cases(found, "blood.pbmc3k", "all", 1)), "nothing is drawn: one case"


def test_no_case_shows_a_method_the_labels_of_the_query(sets: Sets) -> None:
    for task, setting in (("pancreas", "all"), ("pancreas.donor", "5")):
        for one in cases(sets, task, setting, 0):
            assert set(one.reference.obs) == set(one.query.obs) == {"donor"}
            assert not set(one.reference.obs.index) & set(one.query.obs.index)


def test_each_donor_is_named_once_from_the_others(sets: Sets) -> None:
    found = list(cases(sets, "pancreas.donor", "all", 0))
    assert [one.unit for one in found] == [f"donor {name}" for name in DONORS]
    for one, donor in zip(found, DONORS, strict=True):
        assert set(one.query.obs["donor"]) == {donor}
        assert set(one.reference.obs["donor"]) == set(DONORS) - {donor}
        assert one.groups is not None
        assert set(one.groups) == set(DONORS) - {donor}
    assert len({one.union for one in found}) == 1, "the cells of both sides are the same"
    few = list(cases(sets, "pancreas.donor", "1", 0))
    assert [one.groups for one in few] == [None] * 3, "one cell a type: no donor can be left out"
    assert len({one.union for one in few}) == 3


def test_the_settings_keep_the_labels_they_say(sets: Sets, pancreas: LabelledSet) -> None:
    assert len(pancreas.labels) == 252
    sizes = {setting: len(next(cases(sets, "pancreas", setting, 0)).labels) for setting in SETTINGS}
    assert sizes == {"all": 201, "10%": 25, "20": 60, "5": 15, "1": 3}
    one, other = (next(cases(sets, "pancreas", "5", seed)) for seed in (0, 1))
    assert one.union == other.union == "pancreas"
    assert list(one.reference.obs.index) != list(other.reference.obs.index)


@pytest.mark.parametrize("name", list(PEERS))
def test_a_peer_names_types_that_are_easy_to_tell(name: str, case: Case) -> None:
    (answer,) = PEERS[name](case).values()
    assert answer.probabilities is not None
    np.testing.assert_allclose(answer.probabilities.sum(axis=1), 1)
    told = annotation.record(case, name, answer)
    assert told["macro_f1"] > 0.85
    assert told["named"] == len(case.truth)


@pytest.fixture(scope="module")
def made_cases() -> list[Case]:
    """Five labels a type of made cells, two draws."""
    found = Sets(None)
    found._read = {"made": labelled("made", from_anndata(typed_adata(240)))}
    return [next(cases(found, "made", "5", seed)) for seed in (0, 1)]


@pytest.fixture(scope="module")
def encoders() -> Encoders:
    """A model that knows neither these cells nor their types."""
    return Encoders(tiny_model())


@pytest.mark.parametrize("name", ["ours", "ours_frozen", "ours_unlabelled", "ours_start", "ours_finetuned"])
def test_each_of_ours_answers_under_its_name(name: str, made_cases: list[Case], encoders: Encoders) -> None:
    case = made_cases[0]
    ((row, answer),) = ours(lambda: encoders)[name](case).items()
    assert row == name
    assert annotation.record(case, row, answer)["macro_f1"] > 0.6
    assert set(case.reference.obs) == {"donor"}, "the labels are not written into the cells of the case"


def test_only_the_fine_tuned_row_asks_for_fine_tuning(
    made_cases: list[Case], encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    class Classifier(CellTypeClassifier):
        def __init__(self, model: CellLM, **options: Any) -> None:
            asked.append(options["fine_tune"])
            super().__init__(model, **options)

    monkeypatch.setattr(annotation_ours, "CellTypeClassifier", Classifier)
    for name in ("ours", "ours_finetuned"):
        ours(lambda: encoders)[name](made_cases[0])
    assert asked == [None, "refinement"]
    assert "ours_finetuned" not in (*annotation.DEFAULT, *annotation.QUICK), "slow: only where it is named"


def test_only_the_one_that_may_see_the_query_learns_from_it(
    made_cases: list[Case], encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    fit = CellTypeClassifier.fit

    def noted(self: CellTypeClassifier, *given: object, **options: object) -> CellTypeClassifier:
        seen.append(options["unlabelled"])
        return fit(self, *given, **options)

    monkeypatch.setattr(CellTypeClassifier, "fit", noted)
    for name in ("ours", "ours_unlabelled"):
        ours(lambda: encoders)[name](made_cases[0])
    assert seen == [None, made_cases[0].query]


def test_scberts_recipe_trains_a_copy_of_the_encoder(
    make_config: Callable[..., EncoderConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"EPOCHS": 12, "FEWEST_STEPS": 12, "RATE": 1e-2}.items():
        monkeypatch.setattr(annotation_scbert, name, value)
    cells = toy_cells(80)
    cells.obs["cell_type"] = np.where(cells.malignancy == TUMOUR, "tumour", "normal")
    found = Sets(None)
    found._read = {"toy": labelled("toy", cells)}
    case = next(cases(found, "toy", "5", 0))
    model = CellLM(make_config("performer", linear_path=False), cells.vocabulary)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    (answer,) = annotation_scbert.fine_tuned(case, model).values()
    assert annotation.record(case, "scbert", answer)["macro_f1"] > 0.8
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_scberts_pretraining_is_read_again_once_it_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"width": 16, "gene_width": 16, "layers": 1, "head_width": 8, "feedforward": 16, "features": 8}
    monkeypatch.setattr(annotation_scbert, "CORPUS", ("cells",))
    monkeypatch.setattr(annotation_scbert, "ENCODER", annotation_scbert.ENCODER | small | {"max_genes": 32})
    monkeypatch.setattr(annotation_scbert, "TRAINING", annotation_scbert.TRAINING | {"steps": 2, "batch_size": 4})
    (tmp_path / "cells").mkdir()
    demo_cells()[PANCREAS][:40].copy().write_h5ad(tmp_path / "cells" / "cells.h5ad")
    model = annotation_scbert.pretrained(tmp_path, tmp_path / "run")
    monkeypatch.delattr(annotation_scbert, "pretrain")
    again = annotation_scbert.pretrained(tmp_path, tmp_path / "run")
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


def constant(case: Case) -> Mapping[str, Answer]:
    classes = np.unique(case.labels.astype(str)).astype(object)
    return {"made": Answer.of(np.full((len(case.query), len(classes)), 1 / len(classes)), classes, 1.0, 2.0)}


ORDER = [(seed, "5", "pancreas") for seed in range(3)]


def every(sets: Sets) -> Callable[[str, str, int], object]:
    return lambda task, setting, seed: cases(sets, task, setting, seed)


def test_an_interrupted_run_goes_on_where_it_stopped(sets: Sets, tmp_path: Path) -> None:
    out, calls = tmp_path / "deep" / "results.jsonl", list[int]()

    def stops(case: Case) -> Mapping[str, Answer]:
        if case.seed == 2 and len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(case.seed)
        return constant(case)

    with pytest.raises(KeyboardInterrupt):
        annotation.measure(Results(out), every(sets), {"made": stops}, ORDER)
    assert len(out.read_text().splitlines()) == 2
    with out.open("a") as file:
        file.write('{"task": "pancreas", "sett')  # cut off as it was written
    annotation.measure(
        Results(out), every(sets), {"made": lambda case: (calls.append(case.seed), constant(case))[1]}, ORDER
    )
    assert calls == [0, 1, 2], "each case is answered once"
    assert len(Results(out).records) == 3


def test_a_damaged_line_in_the_middle_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    out.write_text('not json\n{"task": "a", "setting": "all", "part": "seed 0", "method": "x", "macro_f1": 1}\n')
    with pytest.raises(InputError, match=r"results\.jsonl: line 1: this is not a result"):
        Results(out)


def test_a_broken_peer_is_said_and_the_others_go_on(
    sets: Sets, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(case: Case) -> Mapping[str, Answer]:
        raise CellLMError("no such package", where="celltypist", fix="Install it")

    out = tmp_path / "results.jsonl"
    annotation.measure(Results(out), every(sets), {"celltypist": broken, "made": constant}, ORDER[:1])
    assert "pancreas.5.seed 0.celltypist FAILED: celltypist: no such package. Install it." in capsys.readouterr().out
    told = summary(Results(out).records.values())
    failed = told["failed"]
    assert isinstance(failed, dict)
    assert set(failed) == {"celltypist", "celltypist_vote"}
    assert "pancreas.5.made" in told
    assert "pancreas.5.celltypist" not in told
    assert not Results(out).done(("pancreas", "5", "seed 0", "celltypist")), "a later run tries it again"


def test_results_of_a_method_can_be_forgotten(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    results = Results(out)
    results.add(made("a", "all", "seed 0", "ours", 0.5))
    results.forget({"ours"})
    assert not results.done(("a", "all", "seed 0", "ours"))
    results.add(made("a", "all", "seed 0", "ours", 0.7))
    assert [record["macro_f1"] for record in Results(out).records.values()] == [0.7]


def made(task: str, setting: str, part: str, method: str, score: float) -> dict[str, object]:
    figures = {"macro_f1": score, "accuracy": score, "ece": 0.1, "fit_s": 1.0, "predict_s": 1.0}
    return {"task": task, "setting": setting, "part": part, "method": method, "unit": part, **figures}


def test_margins_are_paired_points_averaged_over_tasks() -> None:
    records = [
        made("a", "all", "seed 0", "ours", 0.80), made("a", "all", "seed 1", "ours", 0.90),
        made("a", "all", "seed 0", "svm", 0.78), made("a", "all", "seed 1", "svm", 0.90),
        made("a", "all", "seed 0", "genes_lr", 0.70), made("a", "all", "seed 1", "genes_lr", 0.80),
        made("a", "all", "seed 0", "ours_frozen", 0.99), made("a", "all", "seed 1", "ours_frozen", 0.99),
        made("a", "all", "seed 0", "scanvi", 0.99),  # has not answered both: no pair
        made("b", "all", "seed 0", "ours", 0.50), made("b", "all", "seed 0", "genes_lr", 0.53),
        made("b", "5", "seed 0", "ours", 0.40), made("b", "5", "seed 0", "genes_lr", 0.30),
        made("b", "all", "seed 0", "scbert", 0.20), made("b", "5", "seed 0", "scbert", 0.15),
    ]  # fmt: skip
    found = margins(table(records))
    assert found == {
        "margin_best_peer": pytest.approx((1 - 3) / 2),
        "margin_best_peer_fewshot": pytest.approx(10),
        "margin_lr": pytest.approx((10 - 3) / 2),
        "margin_lr_fewshot": pytest.approx(10),
        "margin_scbert": pytest.approx(30),  # of all labels alone
    }
    told = summary(records)
    assert told["worst"] == {"b.all": -3.0}
    assert told["by_setting"]["ours"]["all"] == {
        "best_peer": -1.0,
        "best_peer_without_query": -1.0,
        "svm": 1.0,
        "genes_lr": 3.5,
        "scanvi": None,
        "scbert": 30.0,
    }
    assert told["by_setting"]["ours"]["5"]["scbert"] == 25.0
    assert told["a.all.ours"]["interval"] == [pytest.approx(0.85 - 0.6353, abs=1e-3), pytest.approx(1.4853, abs=1e-3)]
    transductive = [made("b", "5", "seed 0", "pca_all_lr", 0.45)]
    few = summary([*records, *transductive])["by_setting"]["ours"]["5"]
    assert (few["best_peer"], few["best_peer_without_query"]) == (-5.0, 10.0)
    assert margins(table(records), "ours_frozen")["margin_best_peer"] == pytest.approx(15)
    assert margins(table(records), "ours_start")["margin_lr"] is None


def test_a_peer_that_lacks_cases_is_named_and_counts_in_no_margin() -> None:
    records = [made("a", "5", f"seed {seed}", "ours", 0.7) for seed in (0, 1)]
    records += [made("a", "5", f"seed {seed}", "svm", 0.6) for seed in (0, 1)]
    records += [made("a", "5", "seed 0", "xgboost", 0.9), made("b", "5", "seed 0", "svm", 0.5)]
    told = summary(records)
    assert told["not_in_margins"] == {"a.5": ["xgboost"]}
    assert told["margin_best_peer_fewshot"] == pytest.approx(10)


def test_intervals_over_donors_are_of_the_means_over_draws() -> None:
    parts = {}
    for donor, values in {"donor x": (0.6, 0.8), "donor y": (0.9, 0.9)}.items():
        for seed, score in enumerate(values):
            parts[f"{donor}, seed {seed}"] = made("a", "5", f"{donor}, seed {seed}", "svm", score) | {"unit": donor}
    told = scores(parts)
    assert (told["macro_f1"], told["over"], told["cases"]) == (0.8, "2 donors", 4)


FAKE = """
from case_files import Case

def main(folder):
    case = Case(folder)
    assert case.counts.shape[0] > case.known == len(case.labels)
    assert "secret" not in (case.folder / "case.json").read_text()
    cells = case.counts.shape[0] - case.known
    classes = sorted(set(case.labels))
    case.write("fake", [classes[0]] * cells, [[0.5, 0.3, 0.2]] * cells, classes)
    case.note(fit_s=1.0, predict_s={"fake": 2.0}, folds=[[len(rest), len(out)] for rest, out in case.folds])
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[annotation_environments.Environment]:
    """An environment whose interpreter is this one, with a peer that is written by a test."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name in ("case_files.py", "serve.py"):
        (scripts / name).write_text((annotation_environments.SCRIPTS / name).read_text())
    (scripts / "run_fake.py").write_text(FAKE)
    (scripts / "fake.txt").write_text("# nothing\n")
    monkeypatch.setattr(annotation_environments, "SCRIPTS", scripts)
    monkeypatch.setitem(annotation_environments.ANSWERS, "fake", ("fake",))  # type: ignore[arg-type]
    monkeypatch.setattr(annotation_environments.Environment, "python", Path(sys.executable))
    with closing(annotation_environments.Environment("fake", tmp_path / "environments")) as made:
        yield made


def test_a_peer_in_an_environment_gets_files_and_answers_by_a_table(
    environment: annotation_environments.Environment, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "ready", lambda: None)
    answer = environment.answer(replace(case, truth=np.full(len(case.truth), "secret", object)))["fake"]
    assert set(answer.predicted) == {"alpha"}
    assert len(answer.predicted) == len(case.query)
    assert list(answer.classes) == list(TYPES)
    assert (answer.fit_s, answer.predict_s) == (1.0, 2.0)
    codes = np.unique(case.labels.astype(str), return_inverse=True)[1]
    folds = [[len(rest), len(out)] for rest, out in training_folds(codes, case.groups, case.seed)]
    assert answer.notes["folds"] == folds, "it chooses on the cells that all methods choose on"


def test_the_error_of_a_peer_is_said_and_the_next_case_is_answered(
    environment: annotation_environments.Environment, case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environment, "ready", lambda: None)
    once = FAKE.replace(
        "def main(folder):", "tries = []\ndef main(folder):\n    print('trains')\n    tries.append(folder)"
    )
    refuses = "    if len(tries) == 1:\n        raise ValueError('labels too few')\n    case = Case(folder)"
    (tmp_path / "scripts" / "run_fake.py").write_text(once.replace("    case = Case(folder)", refuses, 1))
    with pytest.raises(CellLMError, match=r"fake: ValueError: labels too few\. See .*log"):
        environment.answer(case)
    assert "Traceback" in (tmp_path / "environments" / "fake.run.log").read_text()
    assert set(environment.answer(case)["fake"].predicted) == {"alpha"}, "one process answers all cases"


def test_a_peer_whose_process_ends_is_started_again(
    environment: annotation_environments.Environment, case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environment, "ready", lambda: None)
    killed = "import os, sys\ndef main(folder):\n    print('no memory', file=sys.stderr, flush=True)\n    os._exit(9)\n"
    (tmp_path / "scripts" / "run_fake.py").write_text(killed)
    with pytest.raises(CellLMError, match=r"fake: its process ended with exit code 9: no memory\. See .*log"):
        environment.answer(case)
    (tmp_path / "scripts" / "run_fake.py").write_text(FAKE)
    assert set(environment.answer(case)["fake"].predicted) == {"alpha"}


def test_an_environment_that_cannot_be_made_is_said_once_with_the_reason(
    environment: annotation_environments.Environment, case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counter = tmp_path / "tries"
    broken = tmp_path / "python"
    broken.write_text(f"#!/bin/sh\necho try >> {counter}\necho no network\nexit 1\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(broken))
    for _ in range(2):
        with pytest.raises(CellLMError, match=r"fake: its packages cannot be installed: no network\. See .*fake\.log"):
            environment.answer(case)
    assert counter.read_text().split() == ["try"], "it is not tried for every case"


def test_scvi_gets_counts_and_donors_in_the_order_of_the_cells(
    environment: annotation_environments.Environment, case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(annotation_environments.Environment, "ready", lambda _: None)
    fake = """
import numpy as np
from case_files import Case
def main(folder):
    case = Case(folder)
    donor = np.unique(case.batch, return_inverse=True)[1]
    totals = np.asarray(case.counts.sum(axis=1)).ravel()
    assert len(case.genes) == case.counts.shape[1]
    np.save(folder + "/latents.npy", np.column_stack([totals, donor]).astype(np.float32))
"""
    (tmp_path / "scripts" / "train_scvi.py").write_text(fake)
    cells = case.reference
    latents = annotation_environments.scvi_latents(cells, tmp_path / "environments")
    assert latents[:, 0].tolist() == np.asarray(cells.X.sum(axis=1)).ravel().tolist()
    donors = np.unique(cells.obs["donor"].astype(str), return_inverse=True)[1]
    assert latents[:, 1].tolist() == donors.tolist()


def test_every_environment_is_pinned() -> None:
    for name in annotation_environments.ANSWERS:
        lines = (annotation_environments.SCRIPTS / f"{name}.txt").read_text().splitlines()
        assert all(line.count("==") == 1 for line in lines)
        assert (annotation_environments.SCRIPTS / f"run_{name}.py").is_file()


def test_quick_prints_the_figures_and_the_margins_as_the_last_line(
    sets: Sets, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(annotation, "QUICK_TASKS", ("pancreas",))
    monkeypatch.setattr(annotation, "Sets", lambda folder: sets)
    arguments = ["--quick", "--methods", "neighbours", "--settings", "5", "--seeds", "2"]
    monkeypatch.setattr(sys, "argv", ["annotation", *arguments])
    annotation.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["pancreas.5.neighbours"]["over"] == "2 seeds"
    assert told["margin_best_peer"] is None
    assert not list(tmp_path.iterdir()), "quick leaves no file"
