"""A shard: cells of a store as memory maps, with all that batches need.

It has the same interface for the tokeniser as :class:`~cell_lm.data.cells.CellData`: ``name``, ``vocabulary``,
``malignancy``, ``genes_per_cell``, ``scale`` and the arrays of ``X``. Files are mapped on first use, and a pickled
shard contains no data.
"""

from __future__ import annotations

import mmap
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cell_lm.data.scale.check import Scale
from cell_lm.data.store import verified
from cell_lm.data.store.layout import (
    CELLS,
    COUNTS,
    GENE_TYPE,
    GENES,
    HASH_TYPE,
    HASHES,
    INDPTR,
    INDPTR_TYPE,
    count_type,
)
from cell_lm.data.store.manifest import ShardRecord
from cell_lm.errors import InputError
from cell_lm.genes.vocabulary import Vocabulary

_ADVICE = "Copy the store again, or prepare it anew; cell-lm inspect --verify names every damaged file"
_BLOCK = 1 << 24
_NO_LABELS = {"malignancy", "source", "row", "barcode", "mitochondrial"}


class Rows(NamedTuple):
    """The arrays of a CSR matrix [cells, vocabulary], memory-mapped and read-only.

    Attributes
    ----------
    data : ndarray
        [entries]: counts, uint8, uint16, uint32 or float32, all positive.
    indices : ndarray
        uint16 [entries]: genes, sorted within a cell, no duplicates.
    indptr : ndarray
        uint32 or int64 [cells + 1]: cell ``c`` has the entries ``indptr[c]`` to ``indptr[c + 1]``; none is empty.
    """

    data: NDArray[Any]
    indices: NDArray[np.uint16]
    indptr: NDArray[np.integer[Any]]


class Shard:
    """Cells of a store.

    Parameters
    ----------
    folder
        Folder of the shard.
    record
        Its record in the manifest.
    vocabulary
        Vocabulary of its gene indices.
    name
        Name for messages; default: the folder.
    verify
        Hash each file before its first use, unless it is known to be intact.
    """

    def __init__(
        self,
        folder: Path,
        record: ShardRecord,
        vocabulary: Vocabulary,
        name: str | None = None,
        *,
        verify: bool = True,
    ) -> None:
        self.folder, self.record, self.vocabulary = folder, record, vocabulary
        self.name, self.verify = name or str(folder), verify
        self._whole: set[str] = set()

    def __len__(self) -> int:
        return self.record.cells

    def __getstate__(self) -> dict[str, Any]:
        """Drop the maps: a pickled memory map would contain all of its data."""
        return {key: self.__dict__[key] for key in ("folder", "record", "vocabulary", "name", "verify", "_whole")}

    @property
    def scale(self) -> Scale:
        """``counts``, or ``log1p`` if counts could not be recovered from logarithms: then fractions of the total."""
        return "log1p" if self.record.counts == "float32" else "counts"

    @cached_property
    def indptr(self) -> NDArray[np.integer[Any]]:
        """uint32 (int64 if that is too narrow) [cells + 1], in memory and checked.

        Raises
        ------
        InputError
            It does not increase from 0 to the number of entries: compiled code would read outside the arrays.
        """
        indptr = np.asarray(self._map(INDPTR, INDPTR_TYPE, (len(self) + 1,)))
        lengths = np.diff(indptr)
        if indptr[0] != 0 or indptr[-1] != self.record.tokens or (len(lengths) and lengths.min() < 1):
            found = f"it is damaged: it does not rise from 0 to {self.record.tokens:,}"
            raise InputError(found, where=str(self.folder / INDPTR), fix=_ADVICE)
        narrow = self.record.tokens < 2**32
        return indptr.astype(np.uint32 if narrow else np.int64)

    @property
    def genes_per_cell(self) -> NDArray[np.int64]:
        """Expressed genes of each cell, int64 [cells]."""
        return np.diff(self.indptr).astype(np.int64)

    @cached_property
    def X(self) -> Rows:  # noqa: N802
        """The matrix; the tokeniser checks each row that it uses, and :meth:`check` all of them.

        Raises
        ------
        InputError
            A file is missing, short or damaged.
        """
        counts, genes = self._maps
        return Rows(np.asarray(counts), np.asarray(genes), self.indptr)  # compiled code takes plain arrays faster

    @cached_property
    def _maps(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Counts and genes as memory maps; the kernel's default read-ahead of 128 kB around every row is off."""
        tokens = (self.record.tokens,)
        maps = self._map(COUNTS, count_type(self.record.counts), tokens), self._map(GENES, GENE_TYPE, tokens)
        for array in maps:
            _advise(array, "MADV_RANDOM")
        return maps

    def announce(self, rows: NDArray[np.int64]) -> None:
        """Ask the kernel to prefetch some rows from the disk, asynchronously and in parallel."""
        first, last = (self.indptr[rows + after].astype(np.int64) for after in (0, 1))
        for array in self._maps:
            begin = getattr(array, "offset", 0) + first * array.itemsize
            start = begin - begin % mmap.PAGESIZE
            length = begin - start + (last - first) * array.itemsize
            for place, size in zip(start.tolist(), length.tolist(), strict=True):
                _advise(array, "MADV_WILLNEED", place, size)

    def refuse_damaged(self, name: str, *, again: bool = False) -> None:
        """Refuse one of its files if it has changed since it was written; see :mod:`cell_lm.data.store.verified`."""
        if again or name not in self._whole:
            verified.refuse_damaged(self.folder.parent.parent, self.folder / name, self.record.files[name], again=again)
            self._whole.add(name)

    def _refuse_unverified(self, name: str) -> None:
        if self.verify:
            self.refuse_damaged(name)

    def check(self) -> None:
        """Check everything in the shard.

        Raises
        ------
        InputError
            A gene index is not in the vocabulary, a malignancy value is invalid, or a file is missing, short or
            damaged.
        """
        self._refuse_strange_genes(self.X.indices)
        _ = self.malignancy

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """uint64 [cells, 2]: hash of each cell's genes and counts."""
        return self._map(HASHES, HASH_TYPE, (len(self), 2))

    @cached_property
    def malignancy(self) -> NDArray[np.int8]:
        """int8 [cells]: ``NORMAL``, ``TUMOUR`` or ``UNKNOWN``."""
        malignancy = self.cells(["malignancy"])["malignancy"].to_numpy(np.int8)
        if len(malignancy) and not -1 <= malignancy.min() <= malignancy.max() <= 1:
            raise self._damaged(CELLS, "it holds numbers for malignancy that mean nothing")
        return malignancy

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of the cells."""
        self._refuse_unverified(CELLS)
        try:
            return tuple(pq.read_schema(self.folder / CELLS).names)
        except Exception as error:  # a damaged file can break pyarrow in any way
            raise self._damaged(CELLS, " ".join(str(error).split())[:200]) from None

    def column(self, name: str) -> pd.Series[Any]:
        """Return one of the columns of :meth:`cells`."""
        return self.cells([name])[name]

    def cells(self, columns: list[str] | None = None) -> pd.DataFrame:
        """Return all or some columns of the cells, one row per cell.

        Raises
        ------
        InputError
            The file is missing or damaged, or has no such column.
        """
        frame: pd.DataFrame = self.table(columns).to_pandas()
        return frame

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """Return the result of :meth:`cells` as an Arrow table with dictionary-encoded labels."""
        path = self.folder / CELLS
        self._refuse_unverified(CELLS)
        try:
            with pq.ParquetFile(path) as file:
                names = file.schema_arrow.names
            absent = [column for column in columns or () if column not in names]
            if absent:
                raise InputError(f"it has no column '{absent[0]}'", where=str(path), fix=f"It has: {', '.join(names)}")
            labels = [name for name in names if name not in _NO_LABELS]
            with pq.ParquetFile(path, read_dictionary=labels) as file:
                table = file.read(columns=columns, use_threads=False)
        except InputError:
            raise
        except Exception as error:  # a damaged file can break pyarrow in any way
            raise self._damaged(CELLS, " ".join(str(error).split())[:200]) from None
        if len(table) != len(self):
            raise self._damaged(CELLS, f"it describes {len(table):,} of {len(self):,} cells")
        return table

    def refuse_other_sizes(self) -> None:
        """Raise :class:`InputError` if a file is missing or its size differs from the manifest."""
        for name, wanted in self.record.files.items():
            path = self.folder / name
            try:
                size = path.stat().st_size
            except OSError as error:
                raise InputError(f"it cannot be read ({error.strerror})", where=str(path), fix=_ADVICE) from None
            if size != wanted.size:
                found = f"it has {size:,} bytes, and the manifest says {wanted.size:,}"
                raise InputError(found, where=str(path), fix=_ADVICE)

    def _map(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        path = self.folder / name
        self._refuse_unverified(name)
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError, TypeError) as error:
            raise self._damaged(name, " ".join(str(error).split())[:200]) from None
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
            raise self._damaged(name, f"it holds {array.dtype} {array.shape}, not {dtype} {shape}")
        return array

    def _refuse_strange_genes(self, genes: NDArray[np.uint16]) -> None:
        limit = len(self.vocabulary)
        for start in range(0, len(genes), _BLOCK):
            block = genes[start : start + _BLOCK]
            if len(block) and block.max() >= limit:
                count = int(np.count_nonzero(block >= limit))
                found = f"{count:,} gene indices from entry {start:,} on are not in the vocabulary of {limit:,} genes"
                raise self._damaged(GENES, found)

    def _damaged(self, name: str, found: str) -> InputError:
        return InputError(f"it is damaged: {found}", where=str(self.folder / name), fix=_ADVICE)


def _advise(array: NDArray[Any], advice: str, *span: int) -> None:
    """Advise the kernel how a memory map will be used, where this is supported."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, advice):
        mapped.madvise(getattr(mmap, advice), *span)
