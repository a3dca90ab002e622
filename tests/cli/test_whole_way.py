"""What a user does from end to end, on real cells: pretrain, check, embed, annotate, report."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
from typed import Cli

from cell_lm.data.demo import HELD_OUT, demo_cells


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some packaged cells: those of two donors a data set to learn from, and those of a third to be annotated."""
    for number, (name, cells) in enumerate(demo_cells().items()):
        new = (cells.obs["donor"] == HELD_OUT[name]).to_numpy()
        rng = np.random.default_rng(0)
        for part, rows in (("known", np.flatnonzero(~new)), ("new", np.flatnonzero(new))):
            cells[np.sort(rng.choice(rows, 120, replace=False))].copy().write_h5ad(tmp_path / f"{part}{number}.h5ad")
    return tmp_path


def test_from_counts_to_annotated_cells(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)

    def run(command: str) -> str:
        said = cli(*command.split())
        assert said.code == 0, said.err
        assert "warning: " not in said.err
        return said.out

    assert "it can be used" in run("check known1.h5ad --label cell_type --malignancy-column malignancy")
    run(
        "pretrain known0.h5ad known1.h5ad --out run --preset tiny --steps 8 --batch-size 32 "
        "--malignancy-column malignancy "
        "--set training.validate_every=4 --set encoder.max_genes=256 --set training.validation=0.2"
    )
    run("embed new1.h5ad --model run")
    run("annotate fit known1.h5ad --label cell_type --groups donor --model run --out ann")
    told = run("annotate predict new1.cell_lm.h5ad --model ann --truth cell_type --out done.h5ad")
    run(
        "report run --cells done.h5ad --label cell_type --malignancy=malignancy "
        "--predicted cell_lm_label --out all.html"
    )

    cells = anndata.read_h5ad("done.h5ad")
    accuracy = np.mean(cells.obs["cell_lm_label"].astype(str) == cells.obs["cell_type"].astype(str))
    assert accuracy > cells.obs["cell_type"].value_counts(normalize=True).max()
    assert f"accuracy {accuracy:.3f}" in told
    assert cells.obsm["X_cell_lm"].shape == (120, 32)
    assert (cells.X != anndata.read_h5ad("new1.h5ad").X).nnz == 0
    page = Path("all.html").read_text()
    for part in ('id="data"', 'id="training"', 'id="map"', 'id="annotation"', 'id="geometry"', 'id="reproduce"'):
        assert part in page, part
    assert not list(folder.rglob("*.partial"))
