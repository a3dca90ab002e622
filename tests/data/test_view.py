from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest

from cell_lm.data import CellData, Store, read_cells
from cell_lm.data.backed import open_backed
from cell_lm.data.view import CellView
from cell_lm.prepare import PrepareSettings, prepare
from typed_cells import typed_adata

KINDS = ("memory", "file", "store")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same 60 cells as a file, and as a store of three shards."""
    folder = tmp_path_factory.mktemp("view")
    typed_adata(60).write_h5ad(folder / "cells.h5ad")
    settings = PrepareSettings(min_genes=1, max_mito=1.0, keep_duplicates=True, shard_cells=25)
    prepare([folder / "cells.h5ad"], folder / "store", settings=settings)
    return folder


@pytest.fixture(scope="module")
def cells(folder: Path) -> CellData:
    """The cells in memory, in the order of the store."""
    order = Store.open(folder / "store").cells(["row"])["row"].to_numpy(np.int64)
    adata = anndata.read_h5ad(folder / "cells.h5ad")[order].copy()
    adata.write_h5ad(folder / "ordered.h5ad")
    return read_cells(folder / "ordered.h5ad")


@pytest.fixture(params=KINDS)
def view(request: pytest.FixtureRequest, folder: Path, cells: CellData) -> CellView:
    match request.param:
        case "memory":
            return CellView.of(cells)
        case "file":
            return CellView.of(open_backed(folder / "ordered.h5ad"))
        case _:
            return CellView.of(Store.open(folder / "store"))


def test_all_cells_are_those_of_the_dataset(view, cells):
    assert len(view) == 60
    assert (view.X != cells.X).nnz == 0
    assert view.X.dtype == np.float32
    assert view.index.tolist() == cells.obs.index.tolist()
    expressed = np.unique(cells.X.indices)
    assert np.isin(expressed, view.genes).all()
    assert (np.diff(view.genes) > 0).all()


@pytest.mark.parametrize(
    "chosen",
    [np.array([59, 3, 27, 3, 0]), np.arange(60) % 3 == 1, slice(20, 55, 5), np.array([], np.int64)],
    ids=["any order and twice", "mask", "slice", "none"],
)
def test_chosen_cells_come_in_their_order(view, cells, chosen):
    rows = np.arange(60)[chosen]
    some = view[chosen]
    assert some.X.shape == (len(rows), len(cells.vocabulary))
    assert (cells.X[rows] != some.X).nnz == 0
    assert some.index.tolist() == cells.obs.index[rows].tolist()
    assert (cells.X[::-1][rows] != view[::-1][chosen].X).nnz == 0


def test_blocks_cut_the_cells_without_gap(view, cells):
    seen = list(view[::-1].blocks(7))
    assert [places.stop - places.start for places, _ in seen] == [7] * 8 + [4]
    for places, block in seen:
        assert (cells.X[::-1][places] != block.X).nnz == 0
        assert len(block.malignancy) == len(block) == places.stop - places.start


def test_a_column_that_a_store_lacks_is_answered_with_those_it_has(folder):
    obs = CellView.of(Store.open(folder / "store")).obs
    assert obs(["barcode", "barcode"]).shape == (60, 1)
    with pytest.raises(IndexError):
        obs(["nothing"])
