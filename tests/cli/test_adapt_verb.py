"""``cell-lm adapt`` and the packaged model: a model of the user's cells, from unlabelled cells, offline."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
from anndata import AnnData
from typed import Cli

from cell_lm import tl
from cell_lm.config import AdaptConfig
from cell_lm.errors import ConfigError, InputError
from cell_lm.model import CellLM
from cell_lm.model_folder import packaged_models
from cell_lm.pretraining.initial import absolute
from typed_cells import typed_adata


@pytest.fixture(scope="module")
def cells() -> AnnData:
    return typed_adata(240)


@pytest.fixture(scope="module")
def path(cells: AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("cells") / "my.h5ad"
    cells.write_h5ad(file)
    return file


@pytest.fixture(scope="module")
def packaged() -> CellLM:
    return CellLM.from_pretrained("small")


def test_the_package_holds_a_model_with_a_reference(packaged: CellLM) -> None:
    assert packaged_models() == ["small"]
    reference = packaged.reference
    assert reference is not None
    assert len(reference.genes) == packaged.config.reference_genes == 4000
    assert reference.profile.sum() == pytest.approx(1.0, abs=1e-3)
    assert np.allclose(reference.components.T @ reference.components, np.eye(128), atol=5e-3)


def test_a_folder_of_the_same_name_is_preferred(
    packaged: CellLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = CellLM(packaged.config.model_copy(update={"reference_genes": 10}), packaged.vocabulary)
    tiny.save_pretrained(tmp_path / "small")
    monkeypatch.chdir(tmp_path)
    assert CellLM.from_pretrained("small").config.reference_genes == 10


def test_a_run_records_the_packaged_model_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("small") == "small"
    (tmp_path / "small").mkdir()
    assert absolute("small") == str(tmp_path / "small")


def test_the_adapted_model_is_written_and_embeds(cli: Cli, path: Path, tmp_path: Path, packaged: CellLM) -> None:
    said = cli("adapt", path, "--out", tmp_path / "mine", "--min-genes", "1")
    assert said.code == 0, said.err
    assert "adapted to 240 cells" in said.out
    adapted = CellLM.from_pretrained(tmp_path / "mine")
    assert adapted.config.reference_genes > 4000
    assert "my.h5ad (240)" in (tmp_path / "mine" / "README.md").read_text()
    embedded = cli("embed", path, "--model", tmp_path / "mine", "--out", tmp_path / "x.h5ad")
    assert embedded.code == 0, embedded.err
    ours, theirs = anndata.read_h5ad(tmp_path / "x.h5ad").obsm["X_cell_lm"], anndata.read_h5ad(path)
    tl.embed(theirs, packaged)
    assert ours.shape == (240, 128)
    assert not np.allclose(ours, theirs.obsm["X_cell_lm"], atol=0.1)


def test_an_output_is_replaced_only_with_force(cli: Cli, path: Path, tmp_path: Path, packaged: CellLM) -> None:
    out = tmp_path / "mine"
    packaged.save_pretrained(out)
    before = (out / "config.json").read_bytes()
    refused = cli("adapt", path, "--out", out, "--min-genes", "1")
    assert refused.code == 1
    assert "--force" in refused.error
    assert (out / "config.json").read_bytes() == before
    assert cli("adapt", path, "--out", out, "--min-genes", "1", "--force").code == 0
    assert (out / "config.json").read_bytes() != before


def test_few_cells_and_unknown_settings_are_one_line_and_nothing_is_written(
    cli: Cli, cells: AnnData, tmp_path: Path
) -> None:
    cells[:50].write_h5ad(tmp_path / "few.h5ad")
    few = cli("adapt", tmp_path / "few.h5ad", "--out", tmp_path / "mine", "--min-genes", "1")
    assert few.code == 1
    assert "50 cells to adapt to; at least 200 are needed" in few.error
    wrong = cli("adapt", tmp_path / "few.h5ad", "--out", tmp_path / "mine", "--set", "step=3")
    assert wrong.code == 1
    assert "Did you mean steps" in wrong.error
    assert not (tmp_path / "mine").exists()


def test_from_python_neither_cells_nor_model_change(cells: AnnData, packaged: CellLM) -> None:
    X, components = cells.X.copy(), packaged.encoder.readout.path.components.clone()
    steps: list[int] = []
    config = AdaptConfig(steps=3, batch_size=32, validate_every=3)
    adapted = tl.adapt([cells, cells], packaged, config=config, progress=steps.append, min_genes=1)
    assert steps == [1, 1, 1]
    assert adapted.encoder.readout.refinement.out.weight.any()
    assert (cells.X != X).nnz == 0
    assert packaged.encoder.readout.path.components.equal(components)


def test_wrong_arguments_are_refused(cells: AnnData) -> None:
    with pytest.raises(ConfigError, match="progress"):
        tl.adapt(cells, progress="yes")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 200"):
        tl.adapt(cells[:20].copy(), min_genes=1)
