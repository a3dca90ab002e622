from __future__ import annotations

from pathlib import Path

import pytest
from anndata import read_h5ad
from scipy import sparse
from sources import draw, write

from cell_lm.data.store import Store
from cell_lm.errors import CountsError
from cell_lm.prepare import find_cells, prepare


@pytest.fixture
def store(files: list[Path], tmp_path: Path) -> Store:
    prepare(files[:2], tmp_path / "store")
    return Store.open(tmp_path / "store")


def test_the_file_itself_is_known_by_its_hash_whatever_it_is_called(store: Store, files: list[Path]) -> None:
    renamed = files[0].rename(files[0].with_name("mine.h5ad"))
    found = find_cells(store, renamed)
    assert found.same_file is not None
    assert found.same_file.name == "a.h5ad"
    assert (found.cells, found.found, found.by_source) == (60, 60, {"a.h5ad": 60})


def test_a_file_that_was_written_anew_is_known_by_its_cells(store: Store, files: list[Path], tmp_path: Path) -> None:
    adata = read_h5ad(files[1])[::-2, ::-1].copy()
    adata.obs_names = [f"other{i}" for i in range(adata.n_obs)]
    adata.X = sparse.csr_matrix(adata.X).toarray().astype("int32")
    found = find_cells(store, write(tmp_path, "again.h5ad", adata))
    assert found.same_file is None
    assert (found.cells, found.found, found.by_source) == (21, 21, {"b.h5ad": 21})


def test_other_cells_are_not_found(store: Store, tmp_path: Path) -> None:
    found = find_cells(store, write(tmp_path, "new.h5ad", draw(20, seed=77)))
    assert (found.same_file, found.cells, found.found, found.by_source) == (None, 20, 0, {})


def test_one_count_more_makes_another_cell(store: Store, files: list[Path], tmp_path: Path) -> None:
    adata = read_h5ad(files[0])
    adata.X.data[0] += 1
    assert find_cells(store, write(tmp_path, "new.h5ad", adata)).found == 59


def test_what_is_no_counts_is_refused(store: Store, files: list[Path], tmp_path: Path) -> None:
    adata = read_h5ad(files[0])
    adata.X = adata.X * 0.37
    with pytest.raises(CountsError):
        find_cells(store, write(tmp_path, "scaled.h5ad", adata))
