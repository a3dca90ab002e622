"""The verbs take files of every format; what comes out is h5ad."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import pandas as pd
import pytest
from anndata import AnnData
from typed import TINY, Cli, draw


def table(cells: AnnData, path: Path) -> Path:
    pd.DataFrame(cells.X.toarray().astype(int), index=cells.obs_names, columns=cells.var_names).T.to_csv(path)
    return path


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return table(draw(24), tmp_path / "S1.counts.csv.gz")


def test_check_says_what_was_decided_and_takes_a_sheet_of_samples(cli: Cli, csv: Path, tmp_path: Path) -> None:
    (tmp_path / "samples.csv").write_text("sample,type\nS1,Tumor\n")
    said = cli("check", csv, "--samples", tmp_path / "samples.csv")
    assert said.code == 0
    assert "its rows are genes" in said.out
    assert "tumour 24" in said.out
    found = json.loads(cli("check", csv, "--json").out)
    assert (found["matrix"], found["cells"], len(found["remarks"])) == ("table", 24, 1)


def test_cells_of_a_table_are_learned_from_and_embedded(cli: Cli, csv: Path, tmp_path: Path) -> None:
    assert cli("pretrain", csv, "--out", tmp_path / "run", *TINY).code == 0
    said = cli("embed", csv, "--model", tmp_path / "run")
    assert said.code == 0
    embedded = anndata.read_h5ad(tmp_path / "S1.counts.csv.cell_lm.h5ad")
    assert embedded.obsm["X_cell_lm"].shape[0] == 24
    assert (embedded.X != draw(24).X).nnz == 0
    assert embedded.obs_names.tolist() == draw(24).obs_names.tolist()
    assert "no h5ad file but one of another format (table)" in cli("report", tmp_path / "run", "--cells", csv).error
