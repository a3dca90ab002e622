"""Selected cells of a dataset, in memory or on disk: chosen by row and read block by block in that order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.backed import BackedCells, ReadCells
from cell_lm.data.cells import CellData
from cell_lm.data.protocol import z_scored
from cell_lm.data.store import Shard, Store
from cell_lm.genes import Vocabulary

Aligned: TypeAlias = CellData | BackedCells | Store
"""Cells aligned to a vocabulary: in memory, in an h5ad file, or in a store."""

BLOCK = 2_048
"""Cells in memory at a time."""


@dataclass(frozen=True, eq=False)
class CellView:
    """Some cells of a dataset. Choosing cells copies nothing; counts are read block by block.

    Attributes
    ----------
    dataset : CellData, BackedCells or Store
        The dataset of the cells.
    rows : ndarray
        int64 [cells]: their indices in it, in any order.
    kept : ndarray or None
        int64, ascending: the genes of the vocabulary that are read, as if the others had not been measured; None: all.
    """

    dataset: Aligned
    rows: NDArray[np.int64]
    kept: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, dataset: Aligned) -> CellView:
        """Return all cells of a dataset."""
        return cls(dataset, np.arange(len(dataset)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, cells: NDArray[Any] | slice) -> CellView:
        """Return some of the cells, by a boolean mask, an array of indices, or a slice."""
        return replace(self, rows=self.rows[cells])

    def cut(self, genes: NDArray[np.int64]) -> CellView:
        """Return the cells as if only these genes of the vocabulary had been measured, int64; some may be empty."""
        return replace(self, kept=np.intersect1d(self.genes, genes))

    def expressing(self) -> NDArray[np.bool_]:
        """Return which cells express a gene at all, bool [cells]; without a cut, all do."""
        if self.kept is None:
            return np.ones(len(self), bool)
        parts = [np.diff(block.X.indptr) > 0 for _, block in self.blocks()]
        return np.concatenate([np.empty(0, bool), *parts])

    def cut_like(self, other: CellView) -> CellView:
        """Return the cells cut to the genes that others are cut to, without those that express none of them."""
        if other.kept is None:
            return self
        cut = self.cut(other.kept)
        return cut[cut.expressing()]

    @property
    def name(self) -> str:
        """Name of the dataset, for messages."""
        return self.dataset.name

    @property
    def vocabulary(self) -> Vocabulary:
        """Vocabulary of the genes."""
        return self.dataset.vocabulary

    @property
    def z_scored(self) -> bool:
        """Whether the values are z-scores of each gene over the cells rather than counts."""
        return z_scored(self.dataset)

    @property
    def genes(self) -> NDArray[np.int64]:
        """Genes of the vocabulary in the dataset, int64, ascending; for a store, those that any cell expresses."""
        if self.kept is not None:
            return self.kept
        if not isinstance(self.dataset, Store):
            return self.dataset.audit.found
        return _expressed(self.dataset)

    @property
    def index(self) -> pd.Index[Any]:
        """Names of the cells: the index of ``obs``, or the barcodes of a store."""
        if isinstance(self.dataset, Store):
            names: pd.Index[Any] = pd.Index(self.dataset.cells(["barcode"])["barcode"].to_numpy(object))
        else:
            names = self.dataset.obs.index
        chosen: pd.Index[Any] = names.take(self.rows)
        return chosen

    def obs(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return ``obs``, one row per cell: at least the named columns that exist."""
        if not isinstance(self.dataset, Store):
            return self.dataset.obs.iloc[self.rows]
        return store_obs(self.dataset, columns).iloc[self.rows]

    def read(self, rows: slice) -> ReadCells:
        """Return the cells at the given indices, with their counts in memory."""
        wanted = self.rows[rows]
        read = self._read(wanted)
        return read if self.kept is None else replace(read, X=_only(read.X, self.kept))

    def _read(self, wanted: NDArray[np.int64]) -> ReadCells:
        match self.dataset:
            case Store():
                return _of_store(self.dataset, wanted)
            case BackedCells():
                once, places = np.unique(wanted, return_inverse=True)
                read = self.dataset.read(once)
                return read if len(once) == len(wanted) and (once == wanted).all() else read[places]
            case CellData():
                cells = self.dataset
                return ReadCells(self.name, self.vocabulary, cells.malignancy[wanted], cells.X[wanted])

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[slice, ReadCells]]:
        """Yield all cells, ``size`` at a time, each block with its indices."""
        for places in _spans(len(self), size):
            yield places, self.read(places)

    @property
    def X(self) -> sparse.csr_matrix[np.float32]:  # noqa: N802
        """Counts of all cells, float32 [cells, vocabulary]; all of them are read into memory."""
        if isinstance(self.dataset, CellData):
            return self.read(slice(None)).X
        empty = sparse.csr_matrix(np.empty((0, len(self.vocabulary)), np.float32))
        return sparse.csr_matrix(sparse.vstack([empty, *(cells.X for _, cells in self.blocks())], format="csr"))


def _only(X: sparse.csr_matrix[np.float32], genes: NDArray[np.int64]) -> sparse.csr_matrix[np.float32]:
    """Return the matrix with the entries of other genes removed; its shape stays."""
    wanted = np.zeros(X.shape[1], bool)
    wanted[genes] = True
    inside = wanted[X.indices]
    indptr = np.concatenate([[0], np.cumsum(inside)])[X.indptr]
    return sparse.csr_matrix((X.data[inside], X.indices[inside], indptr), shape=X.shape)


def store_obs(store: Store, columns: Sequence[str] | None) -> pd.DataFrame:
    """Return columns of a store; if one does not exist, an empty table with all columns, for the message."""
    if columns is None:
        return store.cells()
    there = dict.fromkeys(name for shard in store.shards for name in shard.columns)
    if any(column not in there for column in columns):
        return pd.DataFrame(columns=list(there))
    return store.cells(list(dict.fromkeys(columns)))


@lru_cache(maxsize=4)
def _expressed(store: Store) -> NDArray[np.int64]:
    """Return the genes that any cell of a store expresses; this reads all gene indices once."""
    expressed = np.zeros(len(store.vocabulary), bool)
    for shard in store.shards:
        for block in _spans(len(shard.X.indices), 1 << 24):
            expressed[shard.X.indices[block]] = True
    return np.flatnonzero(expressed)


def _spans(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def _of_store(store: Store, rows: NDArray[np.int64]) -> ReadCells:
    starts = np.cumsum([0, *map(len, store.shards)])
    which = np.searchsorted(starts, rows, side="right") - 1
    order = np.argsort(which, kind="stable")
    X, malignancy = list[Any](), list[NDArray[np.int8]]()
    for number in np.unique(which):
        shard, own = store.shards[number], rows[order[which[order] == number]] - starts[number]
        X.append(_rows_of(shard, own))
        malignancy.append(shard.malignancy[own])
    back = np.argsort(order, kind="stable")
    stacked = X[0] if len(X) == 1 else sparse.csr_matrix(sparse.vstack(X, format="csr"))
    if not np.array_equal(order, np.arange(len(order))):
        stacked = stacked[back]
    return ReadCells(store.name, store.vocabulary, np.concatenate(malignancy)[back], stacked)


def _rows_of(shard: Shard, rows: NDArray[np.int64]) -> sparse.csr_matrix[np.float32]:
    """Return rows of a shard, float32 [rows, vocabulary], copied out of its memory maps."""
    first, last = (shard.indptr[rows + after].astype(np.int64) for after in (0, 1))
    indptr = np.concatenate([[0], np.cumsum(last - first)])
    entries = np.repeat(first - indptr[:-1], last - first) + np.arange(indptr[-1])
    data, indices = shard.X.data[entries].astype(np.float32), shard.X.indices[entries].astype(np.int32)
    return sparse.csr_matrix((data, indices, indptr), shape=(len(rows), len(shard.vocabulary)))
