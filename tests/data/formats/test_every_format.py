from __future__ import annotations

from pathlib import Path

import pytest
from anndata import AnnData
from scipy import sparse
from written import WRITERS, Written, csc, csr, loom, tenx_v3

from cell_lm.data import from_anndata, open_cells, read_cells
from cell_lm.data.formats.readers import read_source

MANY = {writer.__name__: writer for writer in WRITERS}


def plain(names: object) -> list[str]:
    """Names of genes without the ids that PanglaoDB adds."""
    return [str(name).split("_ENSG")[0] for name in names]


@pytest.mark.parametrize("writer", MANY.values(), ids=MANY)
def test_every_format_gives_the_same_cells_block_by_block(writer: Written, real: AnnData, tmp_path: Path) -> None:
    with open_cells(writer(real, tmp_path)) as file:
        for _ in range(2):  # blocks can be read again
            blocks = list(file.blocks(10))
            assert all(block.has_canonical_format and 0 < block.shape[0] <= 10 for block in blocks)
            assert len(blocks) > 3
            matrix = sparse.vstack(blocks, format="csr")
            assert matrix.shape == real.shape
            assert (matrix != real.X).nnz == 0
        assert file.obs.index.tolist() == real.obs_names.tolist()
        assert plain(file.var.index) == real.var_names.tolist()
        assert len(file) == real.n_obs


@pytest.mark.parametrize("writer", MANY.values(), ids=MANY)
def test_every_format_is_read_into_memory_and_aligned_alike(writer: Written, real: AnnData, tmp_path: Path) -> None:
    path = writer(real, tmp_path)
    assert (sparse.csr_matrix(read_source(path).X) != real.X).nnz == 0
    cells = read_cells(path)
    assert (cells.X != from_anndata(real).X).nnz == 0
    assert cells.obs.index.tolist() == real.obs_names.tolist()
    assert cells.name == path.name


@pytest.mark.parametrize("writer", [csr, csc, loom, tenx_v3])
def test_a_block_of_one_cell_is_a_block(writer: Written, real: AnnData, tmp_path: Path) -> None:
    with open_cells(writer(real, tmp_path)) as file:
        assert [block.sum() for block in file.blocks(1)] == real.X.sum(1).A1.tolist()
