from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from cell_lm.data import ConcatCells, MalignancyColumn, Tokeniser, read_cells
from cell_lm.data.backed import open_backed
from cell_lm.errors import CountsError, InputError

Change = Callable[[AnnData], object]


@pytest.fixture
def write(adata: AnnData, tmp_path: Path) -> Callable[..., Path]:
    adata.obs["malignant"] = np.where(np.arange(adata.n_obs) % 2, "yes", "no")

    def make(change: Change | None = None) -> Path:
        if change is not None:
            change(adata)
        adata.write_h5ad(tmp_path / "cells.h5ad")
        return tmp_path / "cells.h5ad"

    return make


def log(adata: AnnData) -> None:
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    del adata.uns["log1p"]


def dense(adata: AnnData) -> None:
    adata.X = adata.X.toarray()


@pytest.mark.parametrize(("change", "scale"), [(None, "counts"), (dense, "counts"), (log, "log1p")])
def test_cells_on_disk_give_the_tokens_of_the_same_cells_in_memory(
    change: Change | None, scale: str, write: Callable[..., Path]
) -> None:
    path, options = write(change), {"scale": scale, "malignancy": MalignancyColumn("malignant"), "min_genes": 400}
    cells, backed = read_cells(path, **options), open_backed(path, **options)
    assert len(backed) == len(cells) < 60
    assert backed.dropped == cells.dropped > 0
    assert backed.genes_per_cell.tolist() == cells.genes_per_cell.tolist()
    order = np.random.default_rng(0).permutation(len(cells))
    one, other = (ConcatCells([data], Tokeniser(6, 300)).tokenise(order) for data in (cells, backed))
    for name in ("genes", "bins", "values", "malignancy"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()


def test_files_and_memory_mix_in_one_pool(write: Callable[..., Path]) -> None:
    path = write()
    pool = ConcatCells([read_cells(path), open_backed(path)], Tokeniser(6, 300))
    assert pool.reads_files
    order = np.random.default_rng(1).permutation(120)
    batch, twin = pool.tokenise(order), pool.tokenise((order + 60) % 120)
    assert batch.genes.tolist() == twin.genes.tolist()
    fetched = pool.load(order)
    assert pool.tokenise(order[:7], fetched).values.tolist() == batch[:7].values.tolist()


def test_a_hash_tells_other_counts_and_other_states(write: Callable[..., Path]) -> None:
    path = write()
    first = open_backed(path).hash
    assert open_backed(path).hash == first
    assert open_backed(path, malignancy=MalignancyColumn("malignant")).hash != first
    assert open_backed(write(lambda adata: adata.X.data.__setitem__(3, adata.X.data[3] + 1))).hash != first


def test_a_file_that_changes_while_it_is_read_from_is_refused(write: Callable[..., Path]) -> None:
    path = write()
    backed = open_backed(path)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(InputError, match=r"cells\.h5ad: it has changed since it was opened"):
        backed.read(np.array([0]))


def test_a_matrix_stored_by_gene_is_refused_with_what_to_do(write: Callable[..., Path]) -> None:
    path = write(lambda adata: setattr(adata, "X", sparse.csc_matrix(adata.X)))
    with pytest.raises(InputError, match=r"stored by gene \(CSC\).*cell-lm prepare"):
        open_backed(path)


def test_what_is_no_counts_is_refused_before_anything_is_learned_from(write: Callable[..., Path]) -> None:
    with pytest.raises(CountsError):
        open_backed(write(lambda adata: setattr(adata, "X", adata.X * 0.37)))


def test_too_few_genes_in_all_cells_is_refused(write: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="Lower min_genes"):
        open_backed(write(), min_genes=5_000)
