from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typed import Cli

from cell_lm.cli import run_report, shown_cells
from cell_lm.cli.shown_cells import ShownCells
from cell_lm.config import resolve_config
from cell_lm.data import MalignancyColumn, read_cells
from cell_lm.engine.distributed import Ranks
from cell_lm.errors import InputError
from cell_lm.objectives.masked import frequent_bin_accuracy
from cell_lm.pretraining.batches import Batches

MakeFile = Callable[..., Path]


@pytest.fixture
def run(model: Path, tmp_path: Path) -> Path:
    """A run of its own, whose command wrote no report."""
    return Path(shutil.copytree(model, tmp_path / "run"))


@pytest.fixture
def embedded(make_file: MakeFile) -> Path:
    """Cells with an embedding, labels (one missing) and predictions, three of them wrong."""

    def embed(adata: object) -> None:
        kind = adata.obs["cell_type"].cat.codes.to_numpy()
        rng = np.random.default_rng(0)
        adata.obsm["X_cell_lm"] = (np.eye(8)[kind] + 0.1 * rng.normal(size=(len(kind), 8))).astype(np.float32)
        predicted = adata.obs["cell_type"].astype(str).to_numpy(copy=True)
        predicted[:3] = "type 2", "type 2", "type 0"
        adata.obs["cell_lm_label"] = pd.Categorical(predicted)
        adata.obs["cell_lm_confidence"] = np.linspace(0.5, 1, len(kind))
        adata.obs.loc[adata.obs_names[-1], "cell_type"] = np.nan

    return make_file("embedded.h5ad", change=embed)


def test_a_report_is_made_from_the_run_folder_alone(cli: Cli, run: Path) -> None:
    said = cli("report", run)
    assert (said.code, said.out) == (0, f"report: {run / 'report.html'}\n")
    page = (run / "report.html").read_text().replace("<wbr>", "")
    for told in (
        "cells.h5ad",
        "<td>20</td><td>40</td><td>0</td>",
        "always the more frequent malignancy",
        "tiny: full attention",
    ):
        assert told in page, told
    assert "--tumour=putative" in page
    assert cli("report", run).code == 0  # its own page may be replaced


def test_what_guesses_reach_is_judged_on_held_out_cells(make_file: MakeFile) -> None:
    column = MalignancyColumn("malignant", {"putative": "tumour"})
    paths = [make_file(f"{seed}.h5ad", seed=seed, cells=30) for seed in (1, 2)]
    datasets = [read_cells(path, malignancy=column) for path in paths]
    found = {}
    for share in (0.0, 0.3):
        config = resolve_config("tiny", overrides={"training": {"batch_size": 8, "validation": share}})
        found[share] = run_report.guesses(datasets, config)["masked_accuracy"].value
        batches = Batches(datasets, config, Ranks())
        held_out = batches.validation_cells if share else batches.train_cells
        known, judged = map(batches.pool.tokenise, (batches.train_cells, held_out))
        assert found[share] == pytest.approx(frequent_bin_accuracy(known, judged, config.encoder.bins))
    assert found[0.3] < found[0.0]
    assert run_report.guesses(datasets, config)["discrimination_accuracy"].value == pytest.approx(40 / 60)


def test_cells_add_map_geometry_and_scores(cli: Cli, run: Path, embedded: Path, tmp_path: Path) -> None:
    words = ["--cells", embedded, "--label=cell_type", "--malignancy=malignant", "--predicted=cell_lm_label"]
    said = cli("report", run, *words, "--out", tmp_path / "page.html")
    assert said.code == 0, said.err
    page = (tmp_path / "page.html").read_text()
    for told in ("60 cells of embedded.h5ad", "59 cells of embedded.h5ad", "Effective rank", "putative"):
        assert told in page, told
    assert "Explore these cells" not in page


def test_the_explorer_beside_the_cells_is_linked(cli: Cli, run: Path, embedded: Path, tmp_path: Path) -> None:
    assert cli("explore", embedded, "--genes=none").code == 0
    out = tmp_path / "elsewhere" / "page.html"
    out.parent.mkdir()
    assert cli("report", run, "--cells", embedded, "--label=cell_type", "--out", out).code == 0
    link = re.search(r'<a href="([^"]*)">Explore these cells</a>', out.read_text())
    assert link is not None
    assert (out.parent / link[1]).resolve() == embedded.with_suffix(".explore.html").resolve()


def test_unlabelled_cells_are_shown_but_not_scored(embedded: Path) -> None:
    cells = ShownCells.read(embedded, "X_cell_lm", label="cell_type", malignancy=None, predicted="cell_lm_label")
    annotation = cells.annotation()
    assert annotation is not None
    assert annotation.scores.cells == 59
    assert annotation.scores.accuracy == pytest.approx(56 / 59)
    assert annotation.confidence is not None
    assert len(annotation.confidence) == 59
    embedding = cells.embedding()
    assert embedding.coordinates is not None
    assert len(embedding.coordinates) == 60
    assert embedding.geometry["cell-lm"].cells == 59


def test_many_cells_are_thinned_and_said_so(embedded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown_cells, "MOST_CELLS", 20)
    cells = ShownCells.read(embedded, "X_cell_lm", label=None, malignancy=None, predicted=None)
    assert len(cells.obs) == len(cells.embedded) == 20
    assert cells.notes == ["20 of 60 cells are shown, drawn at random"]


@pytest.mark.parametrize(
    ("key", "label", "says"),
    [("X_pca", None, "obsm has no 'X_pca' .*X_cell_lm"), ("X_cell_lm", "celltype", "Did you mean 'cell_type'")],
)
def test_what_the_cells_do_not_have_is_named(embedded: Path, key: str, label: str | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        ShownCells.read(embedded, key, label=label, malignancy=None, predicted=None)


def test_a_page_that_is_there_is_not_replaced_unasked(cli: Cli, run: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    said = cli("report", run, "--out", page)
    assert said.code == 1
    assert "already exists" in said.error
    assert page.read_text() == "mine"
    assert cli("report", run, "--out", page, "--force").code == 0
    assert page.read_text() != "mine"


def test_a_folder_without_a_run_is_refused(cli: Cli, tmp_path: Path) -> None:
    said = cli("report", tmp_path)
    assert said.code == 1
    assert "cannot be read as a training log" in said.error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"datasets": [{"name": "a"}]}'])
def test_damaged_notes_on_the_data_are_refused(cli: Cli, run: Path, text: str) -> None:
    (run / "data.json").write_text(text)
    said = cli("report", run)
    assert said.code == 1
    assert "data.json: it cannot be read" in said.error
