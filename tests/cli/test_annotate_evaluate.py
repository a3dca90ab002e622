from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from typed import Cli

from cell_lm.tasks import CellTypeClassifier, CentroidBaseline

MakeFile = Callable[..., Path]


@pytest.fixture
def fitted(make_file: MakeFile, tmp_path: Path) -> Path:
    """A classifier of three types, of which one is called otherwise in some of the cells to score."""
    CentroidBaseline().fit(make_file("ref.h5ad", cells=90, seed=1), "cell_type").save(tmp_path / "centroids")
    return tmp_path / "centroids"


def rename_some(adata: AnnData) -> None:
    values = adata.obs["cell_type"].astype(str).to_numpy(object)
    values[:3], values[3:6] = "Unknown", "type 9"
    adata.obs["cell_type"] = values


def test_scores_are_told_by_type_group_and_confidence(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    path = make_file("new.h5ad", cells=60, seed=2, change=rename_some)
    words = ["annotate", "evaluate", path, "--model", fitted, "--truth=cell_type", "--groups=donor"]
    said = cli(*words, "--unlabelled=unknown")
    assert said.code == 0, said.err
    assert "macro-F1 0." in said.out
    assert "on 57 labelled cells" in said.out
    assert "accuracy 0.947" in said.out  # 54 of 57: the three of an unknown type count as wrong
    assert "unknown to the classifier, so counted as wrong: type 9" in said.out
    lines = [line.split() for line in said.out.splitlines() if line]
    donors = [line for line in lines if line[0].startswith("donor")]
    assert [line[:2] for line in donors] == [["donor0", "14"], ["donor1", "14"], ["donor2", "14"], ["donor3", "15"]]
    right = [float(line[4]) * float(line[1]) for line in donors]
    assert sum(right) == pytest.approx(54, abs=0.05)
    assert sum(line[:2] == ["type", "9"] for line in lines) == 4  # its score, and its cells taken for three types


def test_json_holds_every_score(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    path = make_file("new.h5ad", cells=129, seed=2)
    words = ["annotate", "evaluate", path, "--model", fitted, "--truth=cell_type", "--json", "--few-shot"]
    said = cli(*words, "--groups=donor")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["cells"] == 129
    assert found["accuracy"] == found["macro_f1"] == 1
    assert found["macro_f1_interval"] == [1, 1]
    assert 0 <= found["ece"] < 1
    assert np.sum(found["confusion"]["cells"]) == 129
    assert set(found["by_group"]) == {"donor0", "donor1", "donor2", "donor3"}
    assert sum(one["cells"] for one in found["reliability"]) == 129
    assert found["risk_coverage"][-1]["error"] == 0
    assert set(found["few_shot"]) == {"1", "5", "20"}
    assert found["few_shot"]["5"]["macro_f1"] > 0.9


def test_no_curve_point_is_named_after_more_cells_than_were_drawn(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    path = make_file("new.h5ad", cells=40, seed=2)  # thirteen of a type, of which six can be labelled
    said = cli("annotate", "evaluate", path, "--model", fitted, "--truth=cell_type", "--json", "--few-shot")
    assert set(json.loads(said.out)["few_shot"]) == {"1", "5"}


def test_the_page_holds_confusion_reliability_and_few_labels(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    path = make_file("new.h5ad", cells=40, seed=2)
    page = path.with_name("scores.html")
    words = ["annotate", "evaluate", path, "--model", fitted, "--truth=cell_type", "--report", page]
    said = cli(*words, "--few-shot", "--groups=donor")
    assert said.code == 0, said.err
    text = page.read_text()
    assert "Which types are taken for which" in text
    assert "Accuracy by confidence" in text
    assert "With few labels" in text
    assert "Donor by donor" in text
    assert "already exists" in cli(*words).error
    assert "would end in .htm" in cli(*words[:-1], path.with_name("scores.htm")).error


def test_a_truth_that_cannot_be_used_is_one_line(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    path = make_file("new.h5ad", cells=8)
    assert "obs has no column 'truth'" in cli("annotate", "evaluate", path, "--model", fitted, "--truth=truth").error
    said = cli("annotate", "evaluate", path, "--model", fitted, "--truth=cell_type", "--groups=batch")
    assert "obs has no column 'batch'" in said.error


def test_cells_that_the_classifier_was_fitted_on_are_said(
    cli: Cli, make_file: MakeFile, model: Path, tmp_path: Path
) -> None:
    cells, new = make_file("ref.h5ad", cells=60, seed=1), make_file("new.h5ad", cells=60, seed=2)
    CellTypeClassifier(str(model), views=("genes",)).fit(cells, "cell_type").save(tmp_path / "ann")
    words = ["--model", tmp_path / "ann", "--truth=cell_type", "--json"]
    said = cli("annotate", "evaluate", cells, *words)
    assert "the classifier was fitted on 60 of these 60 cells, with their labels" in said.err
    assert json.loads(said.out)["fitted_on"] == 60
    said = cli("annotate", "evaluate", new, *words)
    assert "fitted on" not in said.err
    assert json.loads(said.out)["fitted_on"] == 0


@pytest.mark.filterwarnings("default::cell_lm.tasks.CoverageWarning")
def test_a_gap_of_genes_is_warned_of_once(cli: Cli, make_file: MakeFile, model: Path, tmp_path: Path) -> None:
    cells = make_file("ref.h5ad", cells=60, seed=1)
    CellTypeClassifier(str(model), views=("genes",)).fit(cells, "cell_type").save(tmp_path / "ann")
    half = make_file("half.h5ad", cells=60, seed=2, change=lambda adata: adata[:, ::2].copy())
    words = ["--model", tmp_path / "ann", "--truth=cell_type", "--min-overlap=100"]
    said = cli("annotate", "evaluate", half, *words)
    assert said.code == 0, said.err
    assert said.err.count("genes of the reference") == 1, said.err
