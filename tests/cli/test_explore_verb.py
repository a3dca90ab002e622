"""``cell-lm explore``: a page from a file, and refusals in one line."""

from __future__ import annotations

import pytest

from cell_lm.cli import main
from tests.mapped_cells import mapped_cells


@pytest.fixture
def cells(tmp_path):
    path = tmp_path / "my.h5ad"
    mapped_cells().write_h5ad(path)
    return path


def test_explore_writes_a_page_beside_the_file_and_says_what_it_holds(cells, capsys):
    before = cells.read_bytes()
    assert main(["explore", str(cells), "--max-cells", "100"]) == 0
    told = capsys.readouterr()
    page = cells.with_suffix(".explore.html")
    assert f"explorer: {page}" in told.out
    assert "100 of 180 cells, drawn at random; 4 columns, 44 genes; UMAP of X_umap" in told.out
    assert "barcode (100 different labels)" in told.err
    assert "<title>my.h5ad</title>" in page.read_text("utf-8")
    assert cells.read_bytes() == before


def test_genes_columns_and_colour_are_chosen_by_name(cells, tmp_path, capsys):
    out = tmp_path / "e.html"
    words = ["--genes", "CD20, CD3D", "--columns", "cluster", "--color", "depth", "--title", "Mine", "--out", str(out)]
    assert main(["explore", str(cells), *words]) == 0
    assert "2 columns, 2 genes" in capsys.readouterr().out
    assert main(["explore", str(cells), "--genes", "none", "--out", str(out), "--force"]) == 0
    assert "0 genes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--color", "depht"], "obs has no column 'depht', and no gene is called so. Did you mean 'depth'?"),
        (["--genes", "CD3E"], "my.h5ad, X: no gene 'CD3E' among its 44. Close names: CD3D"),
        (["--basis", "X_pca"], "obsm has no 'X_pca'; it has: X_umap"),
        (["--scale", "log1p"], "my.h5ad, X: "),
        (["--out", "page.txt"], "a html file is written"),
    ],
)
def test_a_refusal_is_one_line_and_leaves_nothing(cells, capsys, words, line):
    assert main(["explore", str(cells), "-q", *words]) == 1
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1
    assert [item.name for item in cells.parent.iterdir()] == ["my.h5ad"]


def test_an_existing_page_is_replaced_only_with_force(cells, capsys):
    page = cells.with_suffix(".explore.html")
    page.write_text("mine")
    assert main(["explore", str(cells), "-q"]) == 1
    assert "it already exists" in capsys.readouterr().err
    assert page.read_text() == "mine"
    assert main(["explore", str(cells), "-q", "--force"]) == 0
    assert page.read_text("utf-8").startswith("<!doctype html>")
