"""The demo from end to end, with two steps of training: everything it promises is there and true."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pytest

from cell_lm.data.demo import HELD_OUT, demo_cells
from cell_lm.demo import DemoResult, run_demo
from cell_lm.errors import InputError
from cell_lm.model import CellLM
from cell_lm.tasks.annotation import CellTypeClassifier


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoResult]:
    out = tmp_path_factory.mktemp("demo") / "demo"
    return out, run_demo(out, steps=2)


def test_the_cells_carry_embedding_labels_and_their_own_counts(demo: tuple[Path, DemoResult]) -> None:
    cells = anndata.read_h5ad(demo[0] / "cells.h5ad")
    packaged = demo_cells()
    assert cells.n_obs == sum(adata.n_obs for adata in packaged.values())
    assert cells.obsm["X_cell_lm"].shape == (cells.n_obs, 128)
    assert np.isfinite(cells.obsm["X_cell_lm"]).all()
    assert set(cells.obs["cell_lm_label"]) <= set(cells.obs["cell_type"])
    assert cells.obs["cell_lm_confidence"].between(0, 1).all()
    for name, adata in packaged.items():
        part = cells[cells.obs["dataset"] == name, adata.var_names]
        assert (part.X != adata.X).nnz == 0


def test_the_held_out_donors_took_no_part_in_pretraining_and_fit(demo: tuple[Path, DemoResult]) -> None:
    cells = anndata.read_h5ad(demo[0] / "cells.h5ad")
    held_out = cells.obs["role"] == "held out"
    assert set(cells.obs["donor"][held_out]) == set(HELD_OUT.values())
    assert not set(cells.obs["donor"][~held_out]) & set(HELD_OUT.values())
    data = json.loads((demo[0] / "data.json").read_text())
    assert data["cells"] == (~held_out).sum()
    classifier = CellTypeClassifier.load(demo[0] / "classifier")
    assert classifier.reference_.cells == (~held_out).sum()


def test_the_scores_are_those_of_the_held_out_cells(demo: tuple[Path, DemoResult]) -> None:
    cells = anndata.read_h5ad(demo[0] / "cells.h5ad")
    test = cells.obs[cells.obs["role"] == "held out"]
    right = (test["cell_type"].astype(str) == test["cell_lm_label"].astype(str)).mean()
    assert demo[1].scores.accuracy == pytest.approx(right)
    assert demo[1].scores.cells == len(test)
    assert demo[1].rivals["logistic regression on the genes"].accuracy > 0.9  # a rival that was not starved


def test_the_model_that_is_left_gives_the_embedding(demo: tuple[Path, DemoResult]) -> None:
    cells = anndata.read_h5ad(demo[0] / "cells.h5ad")[:20].copy()
    from cell_lm import tl

    expected = cells.obsm.pop("X_cell_lm")
    tl.embed(cells, CellLM.from_pretrained(demo[0] / "model"))
    assert np.allclose(cells.obsm["X_cell_lm"], expected, atol=1e-5)


def test_the_report_names_the_rivals_and_loads_nothing(demo: tuple[Path, DemoResult]) -> None:
    page = demo[1].report.read_text(encoding="utf-8")
    for rival in demo[1].rivals:
        assert rival in page
    assert 'src="http' not in page
    assert f"{demo[1].scores.macro_f1:.3f}" in page


def test_a_folder_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(InputError, match="--force"):
        run_demo(tmp_path, steps=1)
    with pytest.raises(InputError, match="something else than a demo"):
        run_demo(tmp_path, steps=1, force=True)
    assert (tmp_path / "precious").exists()
