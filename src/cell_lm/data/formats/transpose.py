"""From entries in any order to blocks of cells, within bounded memory: a matrix by gene turned into one by cell.

The entries are read once, a few million at a time, and parted into *buckets* of consecutive cells, which are appended
to one temporary file; a bucket is then read back and sorted in memory. That costs one sequential read of the source,
one write and one read of seven to fourteen bytes an entry, whatever the order of the source. The alternative, to read
the source once for every block of cells and keep what falls into it, needs no room on the disk, but reads (and decodes,
where it is compressed or text) the source as often as there are blocks.

The file lies in the folder for temporary files (``TMPDIR``) and has no name there: it is gone when the program is,
however that ends.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.errors import InputError

if TYPE_CHECKING:
    from cell_lm.data.formats.rows import Blocks

_MOST = 1 << 24
"""Most places (cells x genes) of a bucket: it holds at most so many entries, 200 to 400 MB if all of them are there."""
_CELLS = 1024


class Chunk(NamedTuple):
    """Some entries of a matrix: cell, gene and value of each, in any order."""

    cells: NDArray[Any]
    genes: NDArray[Any]
    values: NDArray[Any]


@contextmanager
def by_cell(chunks: Iterable[Chunk], shape: tuple[int, int], dtype: np.dtype[Any], *, where: str) -> Iterator[Blocks]:
    """Take in all entries, and yield a function that reads blocks of cells of them.

    Parameters
    ----------
    chunks
        The entries; each once (an entry that comes twice is summed).
    shape
        Cells and genes.
    dtype
        Of the values.
    where
        The matrix, for messages.

    Raises
    ------
    InputError
        An entry lies outside of ``shape``, or there is no room for the temporary file.
    """
    width = max(1, min(_CELLS, _MOST // max(shape[1], 1)))
    with tempfile.TemporaryFile(prefix="cell-lm-") as file:
        buckets = _Buckets(file, shape, width, np.dtype(dtype))
        for chunk in chunks:
            _refuse_outside(chunk, shape, where)
            try:
                buckets.add(chunk)
            except OSError as error:
                found = f"its {shape[0]:,} cells have to be sorted in a temporary file, and {error.strerror}"
                fix = f"Make room in {tempfile.gettempdir()}, or name another folder in TMPDIR"
                raise InputError(found, where=where, fix=fix) from None
        yield buckets.blocks


def _refuse_outside(chunk: Chunk, shape: tuple[int, int], where: str) -> None:
    for index, size, what in ((chunk.cells, shape[0], "cells"), (chunk.genes, shape[1], "genes")):
        outside = np.count_nonzero((index < 0) | (index >= size))
        if outside:
            found = f"its sparse index is damaged: {outside:,} of {len(index):,} indices lie outside 0 to {size - 1:,}"
            raise InputError(f"{found} ({what})", where=where, fix="Write it again from its source")


class _Buckets:
    """Entries in a file, those of one bucket of cells together in segments."""

    def __init__(self, file: IO[bytes], shape: tuple[int, int], width: int, dtype: np.dtype[Any]) -> None:
        self._file, self._shape, self._width = file, shape, width
        self._entry = np.dtype([("gene", np.uint32), ("cell", np.uint16), ("value", dtype)])
        self._segments: list[list[tuple[int, int]]] = [[] for _ in range(-(-shape[0] // width))]
        self._end = 0

    def add(self, chunk: Chunk) -> None:
        """Append entries, bucket by bucket; within a bucket they stay in order."""
        bucket = chunk.cells // self._width
        order = np.argsort(bucket, kind="stable")
        entries = np.empty(len(order), self._entry)
        entries["gene"], entries["value"] = chunk.genes[order], chunk.values[order]
        entries["cell"] = (chunk.cells - bucket * self._width)[order]
        numbers, starts = np.unique(bucket[order], return_index=True)
        for number, start, stop in zip(numbers, starts, [*starts[1:], len(order)], strict=True):
            self._segments[int(number)].append((self._end + int(start) * self._entry.itemsize, int(stop - start)))
        self._file.seek(self._end)
        self._file.write(entries.data)
        self._file.flush()
        self._end += entries.nbytes

    def blocks(self, cells: int) -> Iterator[sparse.csr_matrix[Any]]:
        """Yield the cells in order, at most so many at a time; a block never spans two buckets."""
        for number in range(len(self._segments)):
            bucket = self._read(number)
            for start in range(0, bucket.shape[0], cells):
                yield bucket if cells >= bucket.shape[0] else bucket[start : start + cells]

    def _read(self, number: int) -> sparse.csr_matrix[Any]:
        parts = []
        for offset, length in self._segments[number]:
            self._file.seek(offset)
            parts.append(np.frombuffer(self._file.read(length * self._entry.itemsize), self._entry))
        entries = np.concatenate(parts) if parts else np.empty(0, self._entry)
        shape = min(self._width, self._shape[0] - number * self._width), self._shape[1]
        place = entries["cell"].astype(np.int32), entries["gene"].astype(np.int32)
        matrix = sparse.coo_matrix((entries["value"], place), shape=shape)
        matrix.has_canonical_format = True  # what comes twice is summed later, where it cannot overflow
        return sparse.csr_matrix(matrix)
