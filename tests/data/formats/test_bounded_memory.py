from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse
from written import as_bytes, csc, csr, dense, dense_by_gene, lines_of

from cell_lm.data import open_cells
from cell_lm.data.formats.orient import gene_share
from cell_lm.genes import Vocabulary

CELLS, GENES, FEW = 6_000, 1_500, 2_000
BOUND = 9 << 20
"""The matrix is 16 MB as CSR, and 36 MB dense. Of text, which is slow to write, the FEW cells are 8 MB as CSR."""


@pytest.fixture(scope="module")
def large() -> AnnData:
    """A matrix with every fifth entry, so that its size and not its names is what would fill memory."""
    values = np.random.default_rng(0).poisson(0.25, (CELLS, GENES)).astype(np.float32)
    cells = AnnData(sparse.csr_matrix(values))
    cells.obs_names = [f"c{place}" for place in range(CELLS)]
    cells.var_names = list(Vocabulary.human().symbols[:GENES])
    return cells


def loom(cells: AnnData, folder: Path) -> Path:
    with h5py.File(folder / "my.loom", "w") as file:
        file.create_dataset("matrix", data=cells.X.toarray().T, chunks=(64, 64))
        file["row_attrs/Gene"], file["col_attrs/CellID"] = as_bytes(cells.var_names), as_bytes(cells.obs_names)
    return folder / "my.loom"


def mtx(cells: AnnData, folder: Path) -> Path:
    entries = cells.X[:FEW].tocoo()
    head = f"%%MatrixMarket matrix coordinate integer general\n{GENES} {FEW} {entries.nnz}\n"
    with (folder / "matrix.mtx").open("w") as file:
        file.write(head)
        np.savetxt(file, np.column_stack([entries.col + 1, entries.row + 1, entries.data]), fmt="%d")
    (folder / "genes.tsv").write_bytes(lines_of(cells.var_names))
    (folder / "barcodes.tsv").write_bytes(lines_of(cells.obs_names[:FEW]))
    return folder


def by_gene(cells: AnnData, folder: Path) -> Path:
    cells[:FEW].to_df().T.astype(int).to_csv(folder / "genes.tsv", sep="\t")
    return folder / "genes.tsv"


def by_cell(cells: AnnData, folder: Path) -> Path:
    cells[:FEW].to_df().astype(int).to_csv(folder / "cells.csv")
    return folder / "cells.csv"


WRITERS = (csr, csc, dense, dense_by_gene, loom, mtx, by_gene, by_cell)


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_memory_does_not_grow_with_the_file(
    writer: Callable[[AnnData, Path], Path], large: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = writer(large, tmp_path)
    for module, most in {"rows": 1 << 16, "dense": 1 << 17, "table": 1 << 13}.items():
        monkeypatch.setattr(f"cell_lm.data.formats.{module}.MOST_ENTRIES", most)
    monkeypatch.setattr("cell_lm.data.formats.transpose._WIDTH", 64)
    monkeypatch.setattr("cell_lm.data.formats.mtx_entries._BYTES", 1 << 16)
    monkeypatch.setattr("cell_lm.data.formats.table._FIRST_BYTES", 1 << 18)
    gene_share(large.var_names)  # what is read once in a program's life, the names of genes, is not counted
    tracemalloc.start()
    try:
        with open_cells(path) as file:
            total = sum(float(block.sum()) for block in file.blocks(100))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == large.X[: len(file)].sum()
    assert peak < (BOUND if len(file) == CELLS else BOUND / 1.7)


def test_the_measure_sees_a_matrix_that_is_held_whole(large: AnnData, tmp_path: Path) -> None:
    path = csr(large, tmp_path)
    tracemalloc.start()
    try:
        with open_cells(path) as file:
            blocks = list(file.blocks(500))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(blocks) == 12
    assert peak > BOUND
