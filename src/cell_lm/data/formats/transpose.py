"""From entries in any order to blocks of cells, with bounded memory: converts a matrix by gene to one by cell.

The entries are read once, a few million at a time, and divided into *buckets* of consecutive cells, which are appended
to one temporary file; a bucket is then read back and sorted in memory. That costs one sequential read of the source,
and one write and one read of seven to fourteen bytes per entry, in any order of the source. Reading the source once for
every block of cells would need no disk space, but would read (and decode) the source once per block.

The file is in the folder for temporary files (``TMPDIR``) and has no name there: it disappears when the program ends
for any reason.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.errors import InputError

Blocks: TypeAlias = Callable[[int], Iterator["sparse.csr_matrix[Any]"]]
"""Yields all cells in order, at most the given number at a time."""

_WIDTH = 512
"""Cells of a bucket: some 15 MB in cells of 2,000 genes, and 400 MB if all of 60,000 genes are stored in every cell."""


class Chunk(NamedTuple):
    """Entries of a matrix: cell, gene and value of each, in any order."""

    cells: NDArray[Any]
    genes: NDArray[Any]
    values: NDArray[Any]


@contextmanager
def buckets(dtype: np.dtype[Any], *, where: str) -> Iterator[Buckets]:
    """Yield buckets to add the entries to, and then to read the cells from; they are valid within the context.

    Parameters
    ----------
    dtype
        Dtype of the values.
    where
        The matrix, for messages.
    """
    with tempfile.TemporaryFile(prefix="cell-lm-") as file:
        yield Buckets(file, np.dtype(dtype), where)


class Buckets:
    """Entries in a file, in segments by bucket of cells."""

    def __init__(self, file: IO[bytes], dtype: np.dtype[Any], where: str) -> None:
        self._file, self._where = file, where
        self._entry = np.dtype([("gene", np.uint32), ("cell", np.uint16), ("value", dtype)])
        self._segments: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        self._end = 0

    def add(self, chunk: Chunk) -> None:
        """Append entries, bucket by bucket.

        Raises
        ------
        InputError
            There is no space for the temporary file.
        """
        bucket = chunk.cells // _WIDTH
        order = np.argsort(bucket, kind="stable")
        entries = np.empty(len(order), self._entry)
        entries["gene"], entries["value"] = chunk.genes[order], chunk.values[order]
        entries["cell"] = (chunk.cells - bucket * _WIDTH)[order]
        numbers, starts = np.unique(bucket[order], return_index=True)
        for number, start, stop in zip(numbers, starts, [*starts[1:], len(order)], strict=True):
            self._segments[int(number)].append((self._end + int(start) * self._entry.itemsize, int(stop - start)))
        self._write(entries)

    def _write(self, entries: NDArray[Any]) -> None:
        try:
            _push(self._file, self._end, entries)
        except OSError as error:
            found = f"its entries have to be sorted in a temporary file, which failed: {error.strerror}"
            fix = f"Make room in {tempfile.gettempdir()}, or name another folder in TMPDIR"
            raise InputError(found, where=self._where, fix=fix) from None
        self._end += entries.nbytes

    def blocks(self, shape: tuple[int, int]) -> Blocks:
        """Return the function that reads blocks of cells, after all entries were added, given ``shape`` (cells, genes).

        Raises
        ------
        InputError
            An entry lies outside ``shape``; raised when its block is read.
        """
        return lambda cells: self._blocks(shape, cells)

    def _blocks(self, shape: tuple[int, int], cells: int) -> Iterator[sparse.csr_matrix[Any]]:
        for first in range(0, shape[0], _WIDTH):
            bucket = self._read(first // _WIDTH, (min(_WIDTH, shape[0] - first), shape[1]))
            for start in range(0, bucket.shape[0], cells):
                yield bucket if cells >= bucket.shape[0] else bucket[start : start + cells]

    def _read(self, number: int, shape: tuple[int, int]) -> sparse.csr_matrix[Any]:
        parts = []
        for offset, length in self._segments.get(number, []):
            # not seek and read: forked processes share the position of a file
            parts.append(
                np.frombuffer(os.pread(self._file.fileno(), length * self._entry.itemsize, offset), self._entry)
            )
        entries = np.concatenate(parts) if parts else np.empty(0, self._entry)
        place = entries["cell"].astype(np.int32), entries["gene"].astype(np.int32)
        matrix = sparse.coo_matrix((np.ascontiguousarray(entries["value"]), place), shape=shape)
        matrix.has_canonical_format = True  # duplicates are summed later, without overflow
        return sparse.csr_matrix(matrix)


def _push(file: IO[bytes], offset: int, entries: NDArray[Any]) -> None:
    file.seek(offset)
    file.write(entries.data)
    file.flush()


def refuse_outside(index: NDArray[Any], size: int, where: str) -> None:
    """Refuse indices out of range, which would access memory outside the array."""
    outside = np.count_nonzero((index < 0) | (index >= size))
    if outside:
        found = f"its sparse index is damaged: {outside:,} of {len(index):,} indices lie outside 0 to {size - 1:,}"
        raise InputError(found, where=where, fix="Write it again from its source")
