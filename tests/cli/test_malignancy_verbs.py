"""``cell-lm malignancy`` as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest
from typed import Cli

KEY = "cell_lm_malignancy"
FIT = ("malignancy", "fit")


@pytest.fixture
def cells(make_file: Callable[..., Path]) -> Path:
    return make_file(cells=120)


def test_fit_and_predict(cli: Cli, cells: Path, make_file: Callable[..., Path], tmp_path: Path, model: Path) -> None:
    out = tmp_path / "mal"
    options = ("--malignancy-column=malignant", "--tumour=putative", "--groups=donor", "--model", model, "--out", out)
    said = cli(*FIT, cells, *options)
    assert said.code == 0, said.err
    assert "fitted on 40 tumour and 80 normal cells" in said.out
    assert "calibrated on left-out donors; 5% of their cells count as unlike the fit" in said.out
    assert "no --groups" not in said.err
    new = make_file("new.h5ad", seed=4)
    said = cli("malignancy", "predict", new, "--model", out, "--truth=malignant", "--tumour=putative")
    assert said.code == 0, said.err
    adata = anndata.read_h5ad(tmp_path / "new.malignancy.h5ad")
    tumour = (adata.obs[f"{KEY}_call"] == "tumour").to_numpy()
    assert (tumour == (adata.obs["malignant"] == "putative").to_numpy()).mean() > 0.9
    assert f"{tumour.sum()} of 60 cells called tumour, " in said.out
    assert "of the cells are unlike those of the fit (5% expected)" in said.out
    assert "AUROC" in said.out
    assert "on 60 cells of known kind, 20 of them tumour cells" in said.out
    assert f"(obs {KEY}, {KEY}_call, {KEY}_uncertain, {KEY}_unlike)" in said.out
    again = cli("malignancy", "predict", new, "--model", out)
    assert again.code == 1
    assert "it already exists" in again.error


def test_without_donors_it_says_that_confidence_is_too_high(cli: Cli, cells: Path, tmp_path: Path, model: Path) -> None:
    options = ("--malignancy-column=malignant", "--tumour=putative", "--model", model, "--out", tmp_path / "mal")
    said = cli(*FIT, cells, *options)
    assert said.code == 0, said.err
    assert "warning: no --groups" in said.err


def test_a_run_that_was_pretrained_with_labels_calls_cells(cli: Cli, cells: Path, tmp_path: Path, model: Path) -> None:
    said = cli("malignancy", "predict", cells, "--model", model, "--out", tmp_path / "called.h5ad")
    assert said.code == 0, said.err
    assert "by the pretrained head: not calibrated" in said.out
    adata = anndata.read_h5ad(tmp_path / "called.h5ad")
    about = adata.uns[KEY]
    assert (about["tumour_cells"], about["normal_cells"]) == (20, 40)
    assert np.isfinite(adata.obs[KEY]).all()
    assert "Its discrimination head saw 20 tumour and 40 normal cells." in (model / "model/README.md").read_text()


def test_the_packaged_model_is_refused(cli: Cli, cells: Path, tmp_path: Path) -> None:
    said = cli("malignancy", "predict", cells, "--model=small")
    assert said.code == 1
    assert "head was not trained on tumour and normal cells. Fit a classifier on your labels" in said.error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--malignancy-column=malignant"], "'putative' (40 cells)"),
        (["--malignancy-column=malignant", "--unknown=putative"], "names 0 tumour and 80 normal cells"),
        (["--malignancy-column=malign", "--tumour=putative"], "Did you mean 'malignant'?"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(
    cli: Cli, cells: Path, tmp_path: Path, model: Path, options: list[str], says: str
) -> None:
    said = cli(*FIT, cells, *options, "--model", model, "--out", tmp_path / "mal")
    assert said.code == 1
    assert says in said.error
    assert not (tmp_path / "mal").exists()
