from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest
from anndata import AnnData
from typed import Cli, draw

from cell_lm.data import read_h5ad

MakeFile = Callable[..., Path]


def empty_two(adata: AnnData) -> None:
    """Two cells without a count, and names that are not unique."""
    adata.X = adata.X.toarray()
    adata.X[[1, 4]] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata.obs_names = ["cell"] * adata.n_obs


def test_the_copy_has_the_embedding_and_all_that_was_there(cli: Cli, make_file: MakeFile, model: Path) -> None:
    path = make_file("my.data.h5ad", cells=20)
    before = path.read_bytes()
    said = cli("embed", path, "--model", model)
    assert said.code == 0, said.err
    copy = path.with_name("my.data.cell_lm.h5ad")
    assert f"written: {copy}" in said.out
    assert "1,200 of 1,200 genes used" in said.out
    assert path.read_bytes() == before
    adata, given = anndata.read_h5ad(copy), draw(20)
    assert adata.obsm["X_cell_lm"].shape == (20, 32)
    assert adata.uns["cell_lm"]["genes_found"] == 1200
    assert (adata.X != given.X).nnz == 0
    assert adata.obs.equals(anndata.read_h5ad(path).obs)


def test_the_embedding_of_a_cell_is_that_of_the_library(cli: Cli, make_file: MakeFile, model: Path) -> None:
    from cell_lm import tl

    path = make_file(cells=20)
    cli("embed", path, "--model", model, "--out", path.with_name("x.h5ad"), "--key", "X_mine")
    adata = draw(20)
    tl.embed(adata, model)
    assert anndata.read_h5ad(path.with_name("x.h5ad")).obsm["X_mine"] == pytest.approx(
        adata.obsm["X_cell_lm"], rel=1e-5, abs=1e-6
    )


def test_cells_with_few_genes_are_left_out_only_when_asked(cli: Cli, make_file: MakeFile, model: Path) -> None:
    path = make_file(cells=12, change=empty_two)
    said = cli("embed", path, "--model", model)
    assert said.code == 1
    assert said.error.startswith(f"{path}, X: 2 of 12 cells")
    assert "--min-genes 1" in said.error
    said = cli("embed", path, "--model", model, "--min-genes", "1", "--out", path.with_name("kept.h5ad"))
    assert said.code == 0, said.err
    assert "embedded 10 cells" in said.out
    kept = read_h5ad(path.with_name("kept.h5ad"))
    assert (kept.X != draw(12)[np.setdiff1d(np.arange(12), [1, 4])].X).sum() == 0
    assert list(kept.obs.columns) == list(draw(12).obs.columns)


def test_a_file_that_is_there_is_replaced_only_by_force(cli: Cli, make_file: MakeFile, model: Path) -> None:
    path = make_file(cells=12)
    out = path.with_name("out.h5ad")
    out.write_text("mine")
    said = cli("embed", path, "--model", model, "--out", out)
    assert said.code == 1
    assert "out.h5ad: it already exists" in said.error
    assert out.read_text() == "mine"
    assert cli("embed", path, "--model", model, "--out", out, "--force").code == 0
    assert "X_cell_lm" in anndata.read_h5ad(out).obsm


def test_the_input_is_never_replaced(cli: Cli, make_file: MakeFile, model: Path) -> None:
    path = make_file(cells=12)
    before = path.read_bytes()
    said = cli("embed", path, "--model", model, "--out", path.parent / "." / path.name, "--force")
    assert said.code == 1
    assert "it is the input itself" in said.error
    assert path.read_bytes() == before


def test_a_panel_is_embedded_where_the_overlap_is_lowered(cli: Cli, make_file: MakeFile, model: Path) -> None:
    path = make_file(cells=10, change=lambda adata: adata[:, :300].copy())
    said = cli("embed", path, "--model", model)
    assert "lower min_overlap (--min-overlap)" in said.error
    said = cli("embed", path, "--model", model, "--min-overlap", 200)
    assert said.code == 0, said.err
    assert anndata.read_h5ad(path.with_name("cells.cell_lm.h5ad")).uns["cell_lm"]["params"]["min_overlap"] == 200


def test_a_store_is_embedded_without_its_counts(cli: Cli, make_file: MakeFile, model: Path, tmp_path: Path) -> None:
    assert cli("prepare", make_file(cells=30), "--out", tmp_path / "store").code == 0
    said = cli("embed", tmp_path / "store", "--model", model)
    assert said.code == 0, said.err
    assert f"written: {tmp_path / 'store.cell_lm.h5ad'}" in said.out
    adata = anndata.read_h5ad(tmp_path / "store.cell_lm.h5ad")
    assert adata.X is None
    assert adata.obsm["X_cell_lm"].shape == (30, 32)
    assert {"row", "malignancy"} <= set(adata.obs)


def test_a_damaged_store_is_used_only_where_it_is_asked_for(
    cli: Cli, make_file: MakeFile, model: Path, tmp_path: Path
) -> None:
    columns = tmp_path / "columns.toml"
    columns.write_text('cell_type = {column = "cell_type"}\n')
    assert cli("prepare", make_file(cells=60), "--columns", columns, "--out", tmp_path / "store").code == 0
    counts = next((tmp_path / "store").rglob("counts.npy"))
    counts.write_bytes(counts.read_bytes()[:-1] + b"\x05")
    fit = ["annotate", "fit", tmp_path / "store", "--label=cell_type", "--out", tmp_path / "ann", "--model", model]
    predict = ["annotate", "predict", tmp_path / "store", "--model", tmp_path / "ann"]
    for words in (["embed", tmp_path / "store", "--model", model], fit, predict):
        assert "it is damaged: its SHA-256" in cli(*words).error
        said = cli(*words, "--no-verify")
        assert said.code == 0, said.err


def test_device_and_precision_are_options(cli: Cli, make_file: MakeFile, model: Path) -> None:
    path = make_file(cells=10)
    said = cli("embed", path, "--model", model, "--device=cuda:77")
    assert said.error.startswith("device: 'cuda:77' is requested")
    said = cli("embed", path, "--model", model, "--device=cpu", "--precision=bfloat16")
    assert said.code == 0, said.err
    about = anndata.read_h5ad(path.with_name("cells.cell_lm.h5ad")).uns["cell_lm"]
    assert (about["device"], about["precision"]) == ("cpu", "bfloat16")


@pytest.mark.parametrize("spelling", ["--scale", "--input"])
def test_the_scale_has_two_spellings(cli: Cli, make_file: MakeFile, model: Path, spelling: str) -> None:
    said = cli("embed", make_file(cells=10), "--model", model, spelling, "log1p")
    assert 'said to be log1p (scale="log1p")' in said.error


def test_selected_genes_are_warned_of_once(cli: Cli, make_file: MakeFile, model: Path) -> None:
    said = cli("embed", make_file(cells=12), "--model", model)
    assert said.code == 0
    warnings = [line for line in said.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: only 1,200 genes (")
    assert "warning" not in cli("embed", make_file(cells=12), "--model", model, "--force", "--quiet").err
