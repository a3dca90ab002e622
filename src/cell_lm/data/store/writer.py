"""Sequential writing of rows into the files of a shard; memory holds a few bytes per cell, never the matrix."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cell_lm.data.store.layout import (
    CELLS,
    COUNTS,
    FILES,
    GENE_TYPE,
    GENES,
    HASH_TYPE,
    HASHES,
    INDPTR,
    INDPTR_TYPE,
    count_type,
)
from cell_lm.data.store.manifest import FileRecord, ShardRecord
from cell_lm.files import sha256

ROW_GROUP = 1 << 16
"""Cells in a row group of ``cells.parquet``."""
_TYPES = {"malignancy": pa.int8(), "source": pa.int32(), "row": pa.int64(), "mitochondrial": pa.float32()}


class _Array:
    """A one-dimensional ``.npy`` file that grows; its header is written again, in place, once the length is known."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.dtype, self.length = dtype, 0
        self._file: IO[bytes] = path.open("wb")
        self._head()

    def _head(self) -> None:
        description = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self._file, description)  # reserves space for any length

    def add(self, values: NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(values, self.dtype).data.cast("B"))
        self.length += len(values)

    def finish(self) -> None:
        self._file.seek(0)
        self._head()
        self._file.close()

    def abandon(self) -> None:
        with suppress(OSError):  # unflushed data is no longer needed
            self._file.close()


class ShardWriter:
    """Writes the files of a shard into a folder.

    Parameters
    ----------
    folder
        An existing folder; the caller renames it when it is complete.
    counts
        One of :data:`~cell_lm.data.store.layout.COUNT_TYPES`.
    """

    def __init__(self, folder: Path, counts: str) -> None:
        self.folder, self.type = folder, counts
        self._genes = _Array(folder / GENES, GENE_TYPE)
        self._counts = _Array(folder / COUNTS, count_type(counts))
        self._lengths: list[NDArray[np.int64]] = []
        self._hashes: list[NDArray[np.uint64]] = []

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._genes.abandon()
            self._counts.abandon()

    def __len__(self) -> int:
        return sum(map(len, self._lengths))

    @property
    def tokens(self) -> int:
        """Number of entries written so far."""
        return self._genes.length

    def add(
        self,
        genes: NDArray[Any],
        counts: NDArray[Any],
        lengths: NDArray[np.int64],
        hashes: NDArray[np.uint64],
    ) -> None:
        """Append rows.

        Parameters
        ----------
        genes, counts
            [entries]: of all rows, concatenated; genes sorted within a row, without duplicates, with positive counts
            that the dtype of the shard can hold exactly.
        lengths
            int64 [rows]: number of entries of each row.
        hashes
            uint64 [rows, 2]: hash of each row, by :func:`~cell_lm.data.store.hashes.row_hashes`.
        """
        self._genes.add(genes)
        self._counts.add(counts)
        self._lengths.append(np.asarray(lengths, np.int64))
        self._hashes.append(hashes)

    def finish(self, cells: pd.DataFrame) -> None:
        """Complete the files; ``cells`` has one row per cell.

        Raises
        ------
        ValueError
            ``cells`` has another number of rows.
        """
        if len(cells) != len(self):
            raise ValueError(f"{len(cells)} descriptions of {len(self)} cells")
        self._genes.finish()
        self._counts.finish()
        indptr = np.cumsum([0, *np.concatenate([np.empty(0, np.int64), *self._lengths])], dtype=INDPTR_TYPE)
        hashes = np.concatenate([np.empty((0, 2), np.uint64), *self._hashes]).astype(HASH_TYPE, copy=False)
        np.save(self.folder / INDPTR, indptr, allow_pickle=False)
        np.save(self.folder / HASHES, hashes, allow_pickle=False)
        write_cells(cells, self.folder / CELLS)


def write_cells(cells: pd.DataFrame, path: Path) -> None:
    """Write the columns of the cells as Parquet; what is not a number becomes text, with missing values kept."""
    schema = pa.schema([(name, _TYPES.get(name, pa.string())) for name in cells.columns])
    plain = cells.astype({name: object for name in cells.columns if name not in _TYPES})
    table = pa.Table.from_pandas(plain, schema=schema, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP)


def record(folder: Path, name: str, counts: str) -> ShardRecord:
    """Return the manifest record of a written shard: its sizes, and the hashes of its files."""
    files = {file: FileRecord(size=(folder / file).stat().st_size, sha256=sha256(folder / file)) for file in FILES}
    indptr = np.load(folder / INDPTR, mmap_mode="r", allow_pickle=False)
    return ShardRecord.model_validate(
        {"name": name, "cells": len(indptr) - 1, "tokens": int(indptr[-1]), "counts": counts, "files": files}
    )
