from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from typed import Cli

MakeFile = Callable[..., Path]


def rename(adata: AnnData) -> None:
    """Give an old symbol to a gene with few counts and one to a gene with many; one gene a name that nobody knows."""
    names = np.array(adata.var_names, object)
    names[:4] = "H3F3B", "GNB2L1", "NOSUCHGENE1", "MALAT1"
    adata.X = adata.X.toarray()
    adata.X[:, :4] = 90, 1, 2, 500
    adata.var_names = pd.Index(names)


def test_it_tells_what_would_be_read(cli: Cli, make_file: MakeFile) -> None:
    path = make_file(change=rename)
    said = cli("check", path, "--label=cell_type", "--malignancy-column=malignant", "--tumour=putative")
    assert (said.code, said.err) == (0, "")
    told = {line[2:18].strip(): line[19:] for line in said.out.splitlines() if line.startswith("  ")}
    assert told["cells"] == "60"
    assert told["matrix"] == "X, 1,200 genes"
    assert told["scale"].startswith("counts: ")
    assert told["labels"] == "cell_type: type 0 20, type 1 20, type 2 20; 0 cells without"
    assert told["malignancy"] == "malignant: tumour 20, normal 40, unknown 0"
    assert told["columns of obs"] == "cell_type, donor, malignant"
    assert "1,198 of 1,200 genes used" in told["genes"]
    assert said.out.splitlines()[-1] == "it can be used"


def test_genes_that_carry_most_counts_come_first(cli: Cli, make_file: MakeFile) -> None:
    path = make_file(change=rename)
    said = cli("check", path)
    told = {line[2:18].strip(): line[19:] for line in said.out.splitlines() if line.startswith("  ")}
    assert told["renamed"] == "H3F3B -> H3-3B, GNB2L1 -> RACK1"
    assert told["unknown"] == "NOSUCHGENE1"
    assert told["non-coding"] == "MALAT1"
    share = float(told["counts left out"].partition("%")[0])
    assert 15 < share < 25  # 502 of some 2,600 counts a cell


def test_json_holds_all_of_it_and_nothing_else_is_printed(cli: Cli, make_file: MakeFile) -> None:
    path = make_file(change=rename)
    said = cli("check", path, "--json", "--label=cell_type", "--malignancy-column=malignant", "--tumour=putative")
    found = json.loads(said.out)
    assert said.err == ""
    assert found["ok"] is True
    assert found["problems"] == []
    assert (found["cells"], found["genes"], found["empty_cells"]) == (60, 1200, 0)
    assert found["labels"] == {"type 0": 20, "type 1": 20, "type 2": 20}
    assert found["malignancy"] == {"tumour": 20, "normal": 40, "unknown": 0}
    assert found["audit"]["counts"]["renamed"] == 2
    assert found["scale"]["stated"] == "counts"
    assert list(found["genes_per_cell"].values()) == sorted(found["genes_per_cell"].values())


def test_every_problem_is_told_not_only_the_first(cli: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    path = make_file(change=lambda adata: setattr(adata, "X", adata.X * 0.37))
    said = cli("check", path, "--label=celltype", "--malignancy-column=donor")
    assert said.code == 1
    problems = [line for line in said.out.splitlines() if line.startswith("  problem")]
    assert len(problems) == 3
    for told in ("cells.h5ad, X: ", "Did you mean 'cell_type'", "'donor0' (15 cells)"):
        assert sum(told in problem for problem in problems) == 1, told
    assert said.error == f"{path}: it cannot be used as it is (3 problems)"
    found = json.loads(cli("check", path, "--json").out)
    assert found["ok"] is False
    assert found["scale"] is None
    assert found["audit"]["found"] == 1200


def test_a_file_that_cannot_be_read_at_all_is_a_problem_too(cli: Cli, tmp_path: Path) -> None:
    said = cli("check", tmp_path / "absent.h5ad")
    assert said.code == 1
    assert "there is no such file" in said.out
    assert "(1 problem)" in said.error
    assert json.loads(cli("check", tmp_path / "absent.h5ad", "--json").out)["cells"] is None


def test_the_gene_table_has_a_line_for_every_gene(cli: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    path, table = make_file(change=rename), tmp_path / "genes.csv"
    assert cli("check", path, "--genes-table", table).code == 0
    genes = pd.read_csv(table, keep_default_na=False)
    assert len(genes) == 1200
    assert genes.loc[1, ["gene", "symbol", "status"]].tolist() == ["GNB2L1", "RACK1", "renamed"]
    before = table.read_bytes()
    table.write_text("mine")
    assert "already exists" in cli("check", path, "--genes-table", table).error
    assert table.read_text() == "mine"
    assert cli("check", path, "--genes-table", table, "--force").code == 0
    assert table.read_bytes() == before


def test_a_layer_can_be_checked_and_the_others_are_named(cli: Cli, make_file: MakeFile) -> None:
    def put_counts_aside(adata: AnnData) -> None:
        adata.layers["counts"] = adata.X.copy()
        adata.X = adata.X.log1p()

    path = make_file(change=put_counts_aside)
    said = cli("check", path)
    assert said.code == 1
    assert "there is also counts" in said.out
    assert "--layer counts" in said.out or "layer" in said.out
    assert cli("check", path, "--layer", "counts").code == 0


@pytest.mark.parametrize("name", ["cells\n\x1b[31m.h5ad", "[red]cells.h5ad"])
def test_odd_names_do_not_reach_the_terminal_as_they_are(cli: Cli, make_file: MakeFile, name: str) -> None:
    said = cli("check", make_file(name))
    assert said.code == 0
    assert "\x1b" not in said.out
    assert said.out.count("\n") == cli("check", make_file("plain.h5ad")).out.count("\n")


def empty(adata: AnnData) -> None:
    """Leave two genes in most of the cells, as in droplets without a cell."""
    X = adata.X.toarray()
    X[6:] = 0
    X[6:, 3:5] = 1
    adata.X = X


def test_it_warns_of_what_may_not_be_meant(cli: Cli, make_file: MakeFile) -> None:
    path = make_file(change=empty)
    said = cli("check", path)
    told = [line[19:] for line in said.out.splitlines() if line.startswith("  warning")]
    assert said.code == 0
    assert "half of the cells express 2 genes or fewer" in told[0]
    assert told[1].startswith("only 1,200 genes (")
    assert "would leave out 54 of 60 cells, which express fewer than 200 genes" in told[2]
    assert len(json.loads(cli("check", path, "--json").out)["warnings"]) == 3
    followed = cli("check", path, "--min-genes=200")
    assert "empty droplets" not in followed.out
    assert followed.code == 0


def test_it_warns_of_repeated_names_of_cells(cli: Cli, make_file: MakeFile) -> None:
    path = make_file(change=lambda adata: setattr(adata, "obs_names", ["a"] * 2 + list(adata.obs_names[2:])))
    said = cli("check", path)
    assert said.code == 0
    assert "warning          2 cells share their name with another one (the first: 'a')" in said.out
