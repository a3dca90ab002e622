from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from anndata import AnnData
from written import as_bytes, loom

from cell_lm.data import open_cells
from cell_lm.errors import InputError


@pytest.fixture
def path(real: AnnData, tmp_path: Path) -> Path:
    return loom(real, tmp_path)


def refusal(path: Path, layer: str | None = None) -> str:
    with pytest.raises(InputError) as caught, open_cells(path, layer=layer) as file:
        list(file.blocks(10))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_attributes_become_columns_and_layers_are_chosen(path: Path, real: AnnData) -> None:
    with open_cells(path) as file:
        assert (file.place, file.elsewhere) == ("matrix", ("spliced",))
        assert file.obs["depth"].tolist() == real.X.sum(1).A1.tolist()
        assert list(file.obs.columns) == ["depth"]
        assert file.var["Accession"].str.startswith("ENSG").all()
    with open_cells(path, layer="spliced") as file:
        assert sum(block.sum() for block in file.blocks(10)) == 2 * real.X.sum()
        assert file.place == "layer 'spliced'"
    assert "it has no layer 'unspliced'. Choose with layer= (--layer); there is: spliced" in refusal(path, "unspliced")


@pytest.mark.parametrize(("genes", "cells"), [("var_names", "obs_names"), ("Symbol", "barcode"), ("odd", "CellID")])
def test_names_are_found_by_convention_or_by_what_they_hold(genes: str, cells: str, path: Path, real: AnnData) -> None:
    with h5py.File(path, "a") as file:
        del file["row_attrs/Accession"]
        file.move("row_attrs/Gene", f"row_attrs/{genes}")
        file["row_attrs/kind"] = as_bytes(["gene"] * real.n_vars)
        if cells != "CellID":
            file.move("col_attrs/CellID", f"col_attrs/{cells}")
    with open_cells(path) as opened:
        assert opened.var.index.tolist() == real.var_names.tolist()
        assert opened.obs.index.tolist() == real.obs_names.tolist()


def test_cells_without_names_are_numbered_and_genes_without_names_refused(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["col_attrs/CellID"]
    with open_cells(path) as opened:
        assert opened.obs.index[:3].tolist() == ["0", "1", "2"]
    with h5py.File(path, "a") as file:
        del file["row_attrs/Gene"], file["row_attrs/Accession"]
    assert "no row attribute names its genes (there is: nothing)" in refusal(path)


def test_links_repeated_cells_and_text_are_refused(path: Path, real: AnnData) -> None:
    with h5py.File(path, "a") as file:
        del file["layers/spliced"]
        file["layers/spliced"] = as_bytes(["x"])
        names = real.obs_names.to_list()
        file["col_attrs/CellID"][4] = names[1].encode()
    assert "1 of 46 values of CellID are repeated" in refusal(path)
    with h5py.File(path, "a") as file:
        del file["col_attrs/CellID"], file["matrix"]
        file["matrix"] = np.full((real.n_vars, 46), b"x")
    assert "not real numbers" in refusal(path)
    with h5py.File(path, "a") as file:
        del file["row_attrs/Gene"]
        file["row_attrs/Gene"] = h5py.ExternalLink("other.loom", "/x")
    assert "is a link to other.loom:/x" in refusal(path)
