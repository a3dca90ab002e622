"""Numbers of every type that a file may hold are read: half and extended precision, either order of bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from cell_lm.data import from_anndata, open_cells, read_anndata, read_cells
from cell_lm.data.backed import open_backed

TYPES = ("f2", ">f4", ">f8", "g", ">i4", ">i2", ">u2", "u8", "f8")
INDICES = ((">i4", ">i4"), ("u4", "u4"), ("i2", "i4"), ("u8", "u8"), (">i8", ">i8"), ("i8", "i4"))


def retype(path: Path, key: str, **kinds: str) -> None:
    """Store parts of a sparse matrix in other types."""
    with h5py.File(path, "a") as file:
        for part, kind in kinds.items():
            values = file[f"{key}/{part}"][:]
            del file[f"{key}/{part}"]
            file[f"{key}/{part}"] = values.astype(kind)


def ways(path: Path) -> dict[str, Callable[[], sparse.csr_matrix]]:
    def blocks() -> sparse.csr_matrix:
        with open_cells(path) as cells:
            whole = sparse.vstack(list(cells.blocks(7)), format="csr")
            return from_anndata(AnnData(whole, obs=cells.obs, var=cells.var)).X

    return {
        "in memory": lambda: read_cells(path).X,
        "by blocks": blocks,
        "on disk": lambda: open_backed(path).read(np.arange(60)).X,
        "whole": lambda: from_anndata(read_anndata(path)).X,
    }


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("form", ["dense", "csr", "csc"])
def test_counts_of_every_type_are_read_alike(form: str, kind: str, adata: AnnData, tmp_path: Path) -> None:
    expected = from_anndata(adata).X
    if form == "dense":
        adata.X = adata.X.toarray().astype(kind)
    elif form == "csc":
        adata.X = adata.X.tocsc()
    adata.write_h5ad(tmp_path / "x.h5ad")
    if form != "dense":
        retype(tmp_path / "x.h5ad", "X", data=kind)
    for name, way in ways(tmp_path / "x.h5ad").items():
        if (form, name) != ("csc", "on disk"):  # cells cannot be read from it a few at a time
            assert (way() != expected).nnz == 0, name


@pytest.mark.parametrize(("indices", "indptr"), INDICES)
def test_indices_of_every_type_are_read_alike(indices: str, indptr: str, adata: AnnData, tmp_path: Path) -> None:
    expected = from_anndata(adata).X
    adata.write_h5ad(tmp_path / "x.h5ad")
    retype(tmp_path / "x.h5ad", "X", indices=indices, indptr=indptr)
    for name, way in ways(tmp_path / "x.h5ad").items():
        assert (way() != expected).nnz == 0, name


def test_a_file_with_half_precision_anywhere_is_read_whole_with_all_its_parts(adata: AnnData, tmp_path: Path) -> None:
    adata.layers["half"], adata.raw, adata.uns["note"] = adata.X.copy(), adata.copy(), {"a": np.arange(3)}
    adata.obsp["near"] = sparse.eye(60, format="csr", dtype=np.float32)
    adata.obs["label"], adata.obsm["m"] = "a", np.ones((60, 2), np.float16)
    adata.write_h5ad(tmp_path / "x.h5ad")
    for key in ("layers/half", "raw/X", "obsp/near"):
        retype(tmp_path / "x.h5ad", key, data="f2")
    found = read_anndata(tmp_path / "x.h5ad")
    assert found.layers["half"].dtype == found.raw.X.dtype == np.float32
    assert (found.layers["half"] != adata.X).nnz == (found.raw.X != adata.X).nnz == 0
    assert found.raw.var_names.equals(adata.var_names)
    assert found.uns["note"]["a"].tolist() == [0, 1, 2]
    assert found.obs["label"].tolist() == ["a"] * 60
    assert found.obsm["m"].shape == (60, 2)
    assert found.obsp["near"].sum() == 60


@pytest.mark.parametrize("kind", ["f2", ">f4"])
def test_an_anndata_in_memory_of_another_type_is_read_and_left_alone(kind: str, adata: AnnData) -> None:
    expected = from_anndata(adata).X
    adata.X = adata.X.toarray().astype(kind)
    given = adata.X
    assert (expected != from_anndata(adata).X).nnz == 0
    assert adata.X is given
    assert adata.X.dtype == np.dtype(kind)
