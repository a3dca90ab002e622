"""``cell-lm sensitivity`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pytest
from typed import Cli

from sensitive_cells import bulk_lines, sensitive_adata, z_scored
from typed_cells import tiny_model

KEY = "cell_lm_sensitivity"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of cells, counts and z-scores, and of bulk lines."""
    place = tmp_path_factory.mktemp("sensitivity")
    adata = sensitive_adata(100)
    adata.write_h5ad(place / "cells.h5ad")
    z_scored(adata).write_h5ad(place / "scaled.h5ad")
    lines, responses = bulk_lines()
    lines.write_h5ad(place / "lines.h5ad")
    responses.to_csv(place / "responses.csv", index=False)
    return place


@pytest.fixture
def cells(folder: Path, tmp_path: Path) -> Path:
    """A copy of the cells in a folder of the test's own."""
    path = tmp_path / "cells.h5ad"
    path.write_bytes((folder / "cells.h5ad").read_bytes())
    return path


def test_fit_predict_and_evaluate(cli: Cli, cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "sens"
    said = cli("sensitivity", "fit", cells, "--label=response", "--out", out)
    assert said.code == 0, said.err
    assert "fitted on 4 resistant, 4 sensitive, and 92 cells without a label" in said.out
    assert "% sensitive (estimated); the two groups are" in said.out
    assert "higher in sensitive cells: " in said.out
    said = cli("sensitivity", "predict", cells, "--model", out, "--groupby=donor")
    assert said.code == 0, said.err
    adata = anndata.read_h5ad(tmp_path / "cells.sensitivity.h5ad")
    called = (adata.obs[f"{KEY}_call"].astype(str) == "sensitive").to_numpy()
    assert (called == (adata.obs["truth"] == "sensitive")).mean() > 0.95
    assert adata.obs[KEY].between(0, 1).all()
    assert f"{called.sum()} of 100 cells called sensitive" in said.out
    assert [line.split()[0] for line in said.out.splitlines()[1:5]] != ["d0", "d0", "d0", "d0"]
    assert adata.uns[KEY]["learned_from"] == 92
    said = cli("sensitivity", "evaluate", cells, "--model", out, "--truth=truth", "--json")
    assert said.code == 0, said.err
    scores = json.loads(said.out)
    assert (scores["cells"], scores["f1"] > 0.95) == (100, True)
    assert "F1" in cli("sensitivity", "evaluate", cells, "--model", out, "--truth=truth").out


def test_every_repeated_file_of_unlabelled_cells_is_called_on(cli: Cli, cells: Path, tmp_path: Path) -> None:
    more = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]
    for seed, path in enumerate(more):
        sensitive_adata(30, seed=seed).write_h5ad(path)
    options = [word for path in (*more, more[0]) for word in ("--unlabelled", path)]
    said = cli("sensitivity", "fit", cells, "--label=response", "--out", tmp_path / "sens", *options)
    assert "and 152 cells without a label" in said.out, said.err
    said = cli("sensitivity", "fit", cells, "--label=response", f"--out={tmp_path / 'b'}", "--unlabelled", cells)
    assert said.error.endswith("Leave it out of --unlabelled: its cells without a label are learned from anyway.")
    assert not (tmp_path / "b").exists()


def test_the_encoder_can_be_fine_tuned(cli: Cli, tmp_path: Path) -> None:
    sensitive_adata(80, labelled=16, strength=2.0).write_h5ad(tmp_path / "cells.h5ad")
    tiny_model().save_pretrained(tmp_path / "model")
    words = ["sensitivity", "fit", tmp_path / "cells.h5ad", "--label=response", "--out", tmp_path / "sens"]
    said = cli(*words, "--fine-tune=refinement")
    assert said.code == 1
    assert "fine_tune is 'refinement', but there is no model" in said.error
    assert not (tmp_path / "sens").exists()
    said = cli(*words, "--fine-tune=refinement", "--model", tmp_path / "model")
    assert said.code == 0, said.err
    assert "fine-tuned for " in said.out
    assert "of 80 cells called sensitive" in cli("sensitivity", "predict", words[2], "--model", tmp_path / "sens").out


def test_labels_may_be_a_table(cli: Cli, cells: Path, tmp_path: Path) -> None:
    adata = anndata.read_h5ad(cells)
    known = adata.obs["response"].dropna()
    table = tmp_path / "labels.csv"
    known.to_csv(table)
    said = cli("sensitivity", "fit", cells, "--labels", table, "--prior=0.5", "--out", tmp_path / "sens")
    assert said.code == 0, said.err
    assert "fitted on 4 resistant, 4 sensitive" in said.out
    assert "50.0% sensitive (as stated)" in said.out


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("cell1,sensitive\nnobody,resistant\n", "1 of its 2 cells are not in the file of cells: 'nobody'"),
        ("cell1,sensitive\ncell1,resistant\n", "cell 'cell1' has more than one row"),
        ("cell1,sensitive\ncell2,sensitive\n", "holds one label only, 'sensitive'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(cli: Cli, cells: Path, tmp_path: Path, rows: str, says: str) -> None:
    (tmp_path / "labels.csv").write_text("cell,label\n" + rows)
    said = cli("sensitivity", "fit", cells, "--labels", tmp_path / "labels.csv", "--out", tmp_path / "sens")
    assert said.code == 1
    assert says in said.error
    assert not (tmp_path / "sens").exists()


@pytest.mark.parametrize("words", [[], ["--label=response", "--labels=x.csv"]], ids=["neither", "both"])
def test_labels_come_from_one_place(cli: Cli, cells: Path, tmp_path: Path, words: list[str]) -> None:
    said = cli("sensitivity", "fit", cells, *words, "--out", tmp_path / "sens")
    assert said.code == 1
    assert "--label" in said.error


def test_z_scores_called_counts_are_refused_and_read_when_said_so(
    cli: Cli, folder: Path, cells: Path, tmp_path: Path
) -> None:
    words = ["sensitivity", "fit", folder / "scaled.h5ad", "--label=response", "--out", tmp_path / "sens"]
    said = cli(*words)
    assert said.code == 1
    assert "--scale scaled" in said.error
    assert not (tmp_path / "sens").exists()
    assert cli(*words, "--scale=scaled").code == 0
    said = cli("sensitivity", "predict", cells, "--model", tmp_path / "sens")
    assert said.code == 1
    assert "read as expression, but the classifier learned z-scores" in said.error
    assert not (tmp_path / "cells.sensitivity.h5ad").exists()


def test_transfer_scores_cells_and_tells_what_the_tests_say(
    cli: Cli, folder: Path, cells: Path, tmp_path: Path
) -> None:
    words = ["sensitivity", "transfer", cells, "--lines", folder / "lines.h5ad", "--lines-scale=log2"]
    words += ["--response", folder / "responses.csv"]
    said = cli(*words, "--drug=drug A", "--tissue=skin", "--genes", tmp_path / "genes.csv", "--groupby=donor")
    assert said.code == 0, said.err
    assert "NOT TO BE TRUSTED" not in said.out
    adata = anndata.read_h5ad(tmp_path / "cells.sensitivity.h5ad")
    called = (adata.obs[f"{KEY}_call"].astype(str) == "sensitive").to_numpy()
    assert (called == (adata.obs["truth"] == "sensitive")).mean() > 0.95
    assert (tmp_path / "genes.csv").read_text().startswith("gene,bulk,cells")
    assert np.isfinite(list(adata.uns[KEY]["tests"].values())).all()
    again = cli(*words, "--drug=drug B")
    assert "already exists" in again.error
    said = cli(*words, "--drug=drug B", "--force")
    assert said.code == 0, said.err
    assert "NOT TO BE TRUSTED: it hardly predicts lines it has not seen" in said.out
    said = cli(*words, "--drug=drugA", "--out", tmp_path / "new.h5ad")
    assert "Did you mean 'drug A'" in said.error
    assert not (tmp_path / "new.h5ad").exists()
