"""annotate: unlabelled cells, unknown types and votes on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from anndata import AnnData
from typed import Cli

from cell_lm.evaluation.linear_head import fit_head
from cell_lm.model import CellLM
from cell_lm.tasks import embed_cells
from cell_lm.tasks.finetuning import FineTuned
from cell_lm.tasks.finetuning.tuning import Look

MakeFile = Callable[..., Path]


@pytest.fixture
def fitted(cli: Cli, make_file: MakeFile, model: Path) -> Path:
    """A classifier of three types, two donors left out in turn."""
    path = make_file("ref.h5ad", cells=60, seed=1, change=two_donors)
    out = path.with_name("ann")
    said = cli("annotate", "fit", path, "--label=cell_type", "--groups=donor", "--model", model, "--out", out)
    assert said.code == 0, said.err
    return out


def two_donors(adata: AnnData) -> None:
    adata.obs["donor"] = ["d1", "d2"] * (adata.n_obs // 2)


def test_a_fit_says_what_it_saw_and_how_it_scores(cli: Cli, make_file: MakeFile, model: Path, tmp_path: Path) -> None:
    few, mine = make_file("few.h5ad", cells=40, change=two_donors), make_file("mine.h5ad", cells=60, seed=2)
    words = ["annotate", "fit", few, "--label=cell_type", "--groups=donor", "--model", model, "--out", tmp_path / "ann"]
    said = cli(*words, "--unlabelled-cells", mine)
    assert said.code == 0, said.err
    assert "learned from 40 labelled cells of few.h5ad, 60 unlabelled of mine.h5ad" in said.err
    assert "graph of model" in said.err
    assert "left out  cells  macro-F1  accuracy" in said.out
    assert "cells of donors that were left out in turn" in said.out


def test_unlabelled_cells_that_are_not_there_are_refused_before_any_work(
    cli: Cli, make_file: MakeFile, model: Path, tmp_path: Path
) -> None:
    words = ["annotate", "fit", make_file(cells=20), "--label=cell_type", "--model", model, "--out", tmp_path / "ann"]
    said = cli(*words, "--unlabelled-cells", tmp_path / "none.h5ad")
    assert said.code == 1
    assert "none.h5ad" in said.error
    assert not (tmp_path / "ann").exists()


def test_the_reference_is_not_learned_from_twice(cli: Cli, make_file: MakeFile, model: Path, tmp_path: Path) -> None:
    path = make_file(cells=20)
    words = ["annotate", "fit", path, "--label=cell_type", "--model", model, "--out", tmp_path / "ann"]
    said = cli(*words, "--unlabelled-cells", path)
    assert said.code == 1
    assert "it is the reference itself" in said.error
    assert cli(*words).code == 0


@pytest.mark.parametrize("step", [0, 10])
def test_what_fine_tuning_did_is_told(
    cli: Cli, make_file: MakeFile, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    def tuned(given: CellLM, cells: Any, labels: Any, groups: Any, config: Any, **how: Any) -> FineTuned:
        found = CellLM.from_pretrained(model) if step else given
        head = fit_head(embed_cells(found, cells), labels)
        looks = (Look(0, 1.0, 0.5), Look(10, 0.5, 0.9))
        return FineTuned(found, head, step, looks, np.ones(len(labels), bool), "cell")

    monkeypatch.setattr("cell_lm.tasks.finetuning.tunable.fine_tune", tuned)
    words = ["annotate", "fit", make_file(cells=40), "--label=cell_type", "--model", model, "--out", tmp_path / "ann"]
    said = cli(*words, "--fine-tune=refinement")
    assert said.code == 0, said.err
    assert ("fine-tuned for 10 steps" in said.out) == (step > 0)
    assert ("those of the frozen encoder; there is no novelty" in said.out) == (step > 0)
    assert ("not fine-tuned: no step" in said.out) == (step == 0)


def test_part_of_the_encoder_to_train_is_checked(cli: Cli, make_file: MakeFile, model: Path, tmp_path: Path) -> None:
    words = ["annotate", "fit", make_file(cells=20), "--label=cell_type", "--model", model, "--out", tmp_path / "ann"]
    said = cli(*words, "--fine-tune", "head")
    assert said.code == 2
    assert "'--fine-tune'" in said.error
    assert "refinement" in said.error


def test_clusters_vote_beside_the_cells(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    path = make_file("new.h5ad", cells=60, seed=2)
    said = cli("annotate", "predict", path, "--model", fitted, "--majority-voting", "--unknown-rate=0")
    assert said.code == 0, said.err
    assert "cell_lm_majority_label" in said.out
    found = anndata.read_h5ad(path.with_name("new.annotated.h5ad")).obs
    assert not (found["cell_lm_label"] == "unknown").any()
    for _, cluster in found.groupby("cell_lm_over_clustering", observed=True):
        assert cluster["cell_lm_majority_label"].nunique() == 1
    assert (found["cell_lm_majority_label"].astype(str) == found["cell_type"].astype(str)).mean() > 0.8


def test_clusters_of_a_column_vote(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    path = make_file("new.h5ad", cells=60, seed=2, change=two_donors)
    said = cli("annotate", "predict", path, "--model", fitted, "--over-clustering=donor", "--unknown-rate=0")
    assert said.code == 0, said.err
    found = anndata.read_h5ad(path.with_name("new.annotated.h5ad")).obs
    share = found.groupby("donor", observed=True)["cell_lm_majority_share"].first()
    for name, mine in found.groupby("donor", observed=True):
        assert share[name] == pytest.approx(mine["cell_lm_label"].value_counts(normalize=True).max(), abs=1e-6)
    said = cli("annotate", "predict", path, "--model", fitted, "--over-clustering=clusters", "--force")
    assert said.code == 1
    assert "clusters" in said.error


def test_the_unknown_rate_is_that_of_the_columns(
    cli: Cli, make_file: MakeFile, fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cell_lm.cli.annotate.MANY", 0.0)
    path = make_file("new.h5ad", cells=60, seed=2)
    said = cli("annotate", "predict", path, "--model", fitted, "--unknown-rate=0.3")
    assert said.code == 0, said.err
    found = anndata.read_h5ad(path.with_name("new.annotated.h5ad"))
    unknown = (found.obs["cell_lm_label"] == "unknown").to_numpy()
    np.testing.assert_array_equal(unknown, found.obs["cell_lm_novelty"].to_numpy() > 0.7)
    assert found.uns["cell_lm_annotation"]["unknown_rate"] == 0.3
    assert 0 < unknown.sum() < 60
    assert f"note: {unknown.sum()} of 60 cells are called unknown" in said.err
