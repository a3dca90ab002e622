"""Cells of an h5ad file that stay on disk: checked once in full, then read a few thousand at a time.

Malignancy, the number of genes of each cell and the audit of the genes are in memory; counts are read and aligned to
the vocabulary on demand. First the whole file is scanned once, as for a file that is read into memory: no data is used
before its scale has been checked.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.cells import canonical, gene_names, refuse_empty
from cell_lm.data.formats.hdf5 import guarded
from cell_lm.data.formats.numbers import plain_index, plain_numbers
from cell_lm.data.formats.source import RAW, X
from cell_lm.data.formats.stream import CellFile, open_cells
from cell_lm.data.obs.columns import find_column
from cell_lm.data.obs.malignancy import read_malignancy
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.data.scale.check import Scale, ScaleCheck, ScaleReport
from cell_lm.data.scale.logarithms import to_linear
from cell_lm.errors import InputError
from cell_lm.genes import GeneAudit, Vocabulary, resolve_genes

_BLOCK = 8_192
_PREPARE = "Make a store of it first: cell-lm prepare FILE --out store"


@dataclass(frozen=True)
class ReadCells:
    """Cells whose counts were read into memory; see :class:`~cell_lm.data.protocol.Cells`."""

    name: str
    vocabulary: Vocabulary
    malignancy: NDArray[np.int8]
    X: sparse.csr_matrix[np.float32]
    columns: Sequence[str] = ()

    def __len__(self) -> int:
        return int(self.X.shape[0])

    @property
    def genes_per_cell(self) -> NDArray[np.int64]:
        """Expressed genes of each cell, int64 [cells]."""
        return np.diff(self.X.indptr).astype(np.int64)

    def __getitem__(self, cells: NDArray[Any]) -> ReadCells:
        """Return some of the cells."""
        return replace(self, X=self.X[cells], malignancy=self.malignancy[cells])

    def column(self, name: str) -> pd.Series[Any]:
        """Raise: these cells have no other columns."""
        raise KeyError(name)


@dataclass(frozen=True)
class BackedCells:
    """Cells of an h5ad file on disk, aligned to the vocabulary when they are read.

    Attributes
    ----------
    name, scale, obs, audit, vocabulary, malignancy, report, dropped, remarks
        As in :class:`~cell_lm.data.cells.CellData`.
    genes_per_cell : ndarray
        int64 [cells]: expressed genes of the vocabulary.
    hash : str
        SHA-256 of the training data: genes and expression of all cells, scale and malignancy.
    rows : ndarray
        int64 [cells]: row of each cell in the file, without the cells that are left out.
    matrix : _Matrix
        Reads rows.
    """

    name: str
    scale: Scale
    obs: pd.DataFrame
    audit: GeneAudit
    vocabulary: Vocabulary
    malignancy: NDArray[np.int8]
    report: ScaleReport
    genes_per_cell: NDArray[np.int64]
    hash: str
    rows: NDArray[np.int64] = field(repr=False)
    matrix: _Matrix = field(repr=False)
    dropped: int = 0
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def columns(self) -> list[str]:
        """Names of the columns of ``obs``."""
        return [str(name) for name in self.obs.columns]

    def column(self, name: str) -> pd.Series[Any]:
        """Return a column of ``obs``; :class:`~cell_lm.errors.InputError` if there is none of that name."""
        return find_column(self.obs, name, axis="obs", where=self.name)

    def read(self, rows: NDArray[np.int64]) -> ReadCells:
        """Return some cells; rows are ascending and unique.

        Raises
        ------
        InputError
            The file has changed since it was opened, or can no longer be read.
        """
        aligned = _align(self.matrix.read(self.rows[rows]), self.audit, self.scale)
        return ReadCells(self.name, self.vocabulary, self.malignancy[rows], aligned)


def open_backed(path: str | Path, *, vocabulary: Vocabulary | None = None, **how: Unpack[ReadKeywords]) -> BackedCells:
    """Open the cells of an h5ad file that need not fit into memory; see :func:`cell_lm.data.from_anndata`.

    Raises
    ------
    InputError
        As :func:`cell_lm.data.read_cells`; or the matrix is stored by gene, so that the entries of a cell are spread
        over the file.
    ConfigError, CountsError, GeneError
        As there.
    """
    path, vocabulary, read = Path(path), vocabulary or Vocabulary.human(), read_options(**how)
    with open_cells(path, layer=read.layer) as file:
        matrix = _Matrix(path, _key(file, read.layer), len(file.var))
        cell_malignancy = read_malignancy(read.malignancy, file.obs, where=path.name)
        names = gene_names(file, read.gene_column)
        where, elsewhere, cells = file.where, file.elsewhere, file.obs.index
        audit = resolve_genes(names, vocabulary, where=where, min_overlap=read.min_overlap, var=file.var, cells=cells)
        scan = _Scan(ScaleCheck(read.scale, where=where, cells=cells, genes=names, elsewhere=elsewhere))
        for block in file.blocks(_BLOCK):
            scan.add(block, audit, read.scale)
        report = scan.check.report(partial(file.blocks, _BLOCK))
        obs = pd.DataFrame(file.obs)
    genes, min_genes = np.concatenate(scan.genes), read.min_genes
    if min_genes <= 0:
        refuse_empty(genes, obs.index, f"{path.name}, {matrix.key}")
    rows = np.flatnonzero(genes >= max(min_genes, 1))
    if not len(rows):
        found = f"none of its {len(genes):,} cells has {min_genes:,} expressed genes of the vocabulary"
        raise InputError(f"{found} (at most {genes.max():,})", where=path.name, fix="Lower min_genes (--min-genes)")
    scan.digest.update(cell_malignancy[rows].tobytes() + rows.tobytes() + read.scale.encode())
    matrix.refuse_changed()
    return BackedCells(
        path.name, read.scale, obs.iloc[rows], audit, vocabulary, cell_malignancy[rows], report, genes[rows],
        scan.digest.hexdigest(), rows, matrix, len(genes) - len(rows), file.remarks,
    )  # fmt: skip


def _key(file: CellFile, layer: str | None) -> str:
    """Return the path of the chosen matrix in the file."""
    return {X: "X", RAW: "raw/X"}.get(file.place, f"layers/{layer}")


def _align(block: sparse.csr_matrix[Any], audit: GeneAudit, scale: Scale) -> sparse.csr_matrix[np.float32]:
    return canonical(audit.aggregate(to_linear(block, scale)))


class _Scan:
    """Result of one pass over all cells: their numbers of genes, a hash, and the check of the scale."""

    def __init__(self, check: ScaleCheck) -> None:
        self.check, self.genes, self.digest = check, list[NDArray[np.int64]](), hashlib.sha256()

    def add(self, block: sparse.csr_matrix[Any], audit: GeneAudit, scale: Scale) -> None:
        self.check.add(block)
        if self.check.spoilt:
            return
        aligned = _align(block, audit, scale)
        self.genes.append(np.diff(aligned.indptr).astype(np.int64))
        for part, kind in ((self.genes[-1], "<i8"), (aligned.indices, "<i4"), (aligned.data, "<f4")):
            self.digest.update(np.ascontiguousarray(part, dtype=kind).data)


class _Matrix:
    """A matrix in an h5ad file with access to any cells: stored by cell, or dense."""

    def __init__(self, path: Path, key: str, genes: int) -> None:
        self.path, self.key, self.genes = path, key, genes
        self._lock, self._stamp = threading.Lock(), self._look()
        with guarded(str(path)):
            self._file = h5py.File(path, "r")
            self._node = self._file[key]
            self._indptr = None if isinstance(self._node, h5py.Dataset) else self._node["indptr"][:].astype(np.int64)
        if self._indptr is not None and str(self._node.attrs.get("encoding-type", "csr_matrix")) == "csc_matrix":
            found = f"its {key} is stored by gene (CSC): cells cannot be read from it a few at a time"
            raise InputError(found, where=str(path), fix=_PREPARE)

    def _look(self) -> tuple[int, int]:
        try:
            found = self.path.stat()
        except OSError as error:
            raise InputError(f"it cannot be read ({error.strerror})", where=str(self.path)) from None
        return found.st_size, found.st_mtime_ns

    def refuse_changed(self) -> None:
        """Raise :class:`InputError` if the file has changed since it was opened."""
        if self._look() != self._stamp:
            fix = "Leave files alone while they are trained on; go on from the last checkpoint with the file as it was"
            raise InputError("it has changed since it was opened", where=str(self.path), fix=fix)

    def read(self, rows: NDArray[np.int64]) -> sparse.csr_matrix[Any]:
        """Return some rows, ascending; adjacent rows are read at once."""
        self.refuse_changed()
        blocks = list[sparse.csr_matrix[Any]]()
        with self._lock, guarded(str(self.path)):
            blocks.extend(self._block(first, last) for first, last in _runs(rows))
        if not blocks:
            return sparse.csr_matrix(np.empty((0, self.genes), np.float32))
        return sparse.csr_matrix(sparse.vstack(blocks, format="csr")) if len(blocks) > 1 else blocks[0]

    def _block(self, first: int, last: int) -> sparse.csr_matrix[Any]:
        if self._indptr is None:
            return sparse.csr_matrix(plain_numbers(self._node[first:last]))
        bounds = self._indptr[first : last + 1]
        span, shape = slice(bounds[0], bounds[-1]), (last - first, self.genes)
        indices = self._node["indices"][span]
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.genes:
            raise InputError("its sparse index is damaged", where=str(self.path), fix="Restore the file from a copy")
        values = plain_numbers(self._node["data"][span])
        return sparse.csr_matrix((values, plain_index(indices), bounds - bounds[0]), shape=shape)


def _runs(rows: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the runs of adjacent rows among ascending rows, as start and stop."""
    ends = np.flatnonzero(np.diff(rows) != 1)
    for first, last in zip(np.append(0, ends + 1), np.append(ends, len(rows) - 1), strict=True):
        if len(rows):
            yield int(rows[first]), int(rows[last]) + 1
