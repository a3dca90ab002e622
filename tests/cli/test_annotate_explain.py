from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typed import Cli

MakeFile = Callable[..., Path]


@pytest.fixture
def fitted(cli: Cli, make_file: MakeFile, model: Path) -> Path:
    """A classifier of three types."""
    path = make_file("ref.h5ad", cells=90, seed=1)
    out = path.with_name("ann")
    said = cli("annotate", "fit", path, "--label=cell_type", "--model", model, "--out", out)
    assert said.code == 0, said.err
    return out


def test_the_table_is_written_and_its_first_genes_are_told(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    path = make_file("new.h5ad", cells=12, seed=2)
    out = path.with_name("why.csv")
    said = cli("annotate", "explain", path, "--model", fitted, "--out", out, "--cells=3")
    assert said.code == 0, said.err
    table = pd.read_csv(out)
    assert list(table.columns) == ["label", "gene", "attribution", "expressed", "cells"]
    assert set(table["label"]) <= {"type 0", "type 1", "type 2"}
    assert table["cells"].max() == 3
    for name, rows in table.groupby("label"):
        line = next(line for line in said.out.splitlines() if line.startswith(str(name)))
        assert ", ".join(rows["gene"].head(8)) in line
    assert "miss the difference of the scores by" in said.out
    assert f"written: {out} ({len(table):,} rows)" in said.out


def test_one_type_is_explained_in_all_cells_by_another_method(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    path = make_file("new.h5ad", cells=9, seed=2)
    words = ["annotate", "explain", path, "--model", fitted, "--method=gradient", "--groupby=donor"]
    means = {}
    for label in ("type 0", "type 1", "type 2"):
        out = path.with_name(f"{label}.csv")
        said = cli(*words, "--out", out, "--label", label)
        assert said.code == 0, said.err
        assert "miss the difference" not in said.out
        means[label] = pd.read_csv(out).set_index(["label", "gene"])["attribution"].sort_index()
    total = sum(means.values())
    assert np.abs(total).max() < 1e-4 * max(np.abs(mean).max() for mean in means.values())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--label=type 9"], "--label: 'type 9' is none of the 3 types of the classifier. Did you mean 'type "),
        (["--label=TYPE 1"], "Did you mean 'type 1'"),
        (["--label=cell_type"], "--label: 'cell_type' is none of the 3 types of the classifier"),
        (["--label=donor"], "They are type 0, type 1, type 2"),
        (["--groupby=donr"], "Did you mean 'donor'"),
    ],
)
def test_what_cannot_be_explained_is_one_line_and_no_file(
    cli: Cli, make_file: MakeFile, fitted: Path, words: list[str], says: str
) -> None:
    path = make_file("new.h5ad", cells=9)
    out = path.with_name("why.csv")
    said = cli("annotate", "explain", path, "--model", fitted, "--out", out, *words)
    assert said.code == 1
    assert says in said.error
    assert str(path) in said.error or "--label" in said.error
    assert not out.exists()


def test_a_table_that_is_there_is_replaced_only_by_force(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    path = make_file("new.h5ad", cells=6)
    out = path.with_name("why.csv")
    out.write_text("precious")
    words = ["annotate", "explain", path, "--model", fitted, "--out", out, "--method=gradient"]
    assert "already exists" in cli(*words).error
    assert out.read_text() == "precious"
    assert cli(*words, "--force").code == 0
    assert out.read_text().startswith("label,gene")
