"""Dense matrices in HDF5, cells x genes (h5ad) or genes x cells (loom), read in blocks of cells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.formats.cell_file import MOST_ENTRIES
from cell_lm.data.formats.hdf5 import DAMAGED, guarded
from cell_lm.data.formats.numbers import number_type, plain_numbers
from cell_lm.data.formats.transpose import Blocks, Chunk, buckets
from cell_lm.errors import InputError

_TALL = 4
"""If chunks of the file are this many times as tall as a block, they are sorted once, not decompressed per block."""


@contextmanager
def dense_blocks(
    array: h5py.Dataset, shape: tuple[int, int], *, where: str, transposed: bool = False
) -> Iterator[Blocks]:
    """Yield a function that reads blocks of cells.

    Where the file is cut into chunks of many more cells than fit into memory, every block would decompress all of it:
    then it is read once, chunk by chunk, and sorted (:mod:`~cell_lm.data.formats.transpose`).

    Parameters
    ----------
    array
        The matrix, cells x genes; where ``transposed``, genes x cells.
    shape
        Numbers of cells and genes, from the tables of the file.
    where
        File and matrix, for messages.

    Raises
    ------
    InputError
        It has another shape, or does not hold real numbers.
    """
    _refuse(array, shape[::-1] if transposed else shape, where)
    most = max(1, MOST_ENTRIES // shape[1])
    height, _ = _chunk(array, transposed=transposed)
    if height > _TALL * most:
        with buckets(number_type(array.dtype), where=where) as sorter:
            for chunk in _by_gene(array, shape, transposed, where):
                sorter.add(chunk)
            yield sorter.blocks(shape)
    else:
        whole = max(most // height * height, most if height > most else height)
        yield lambda cells: _by_cell(array, shape, transposed, min(cells, whole), where)


def _refuse(array: h5py.Dataset, shape: tuple[int, int], where: str) -> None:
    if array.dtype.kind not in "buif":
        raise InputError(f"it holds {array.dtype}, not real numbers", where=where, fix="Convert it to numbers")
    if array.shape != shape:
        sizes = " x ".join(f"{n:,}" for n in array.shape)
        raise InputError(f"it is {sizes}, but its tables are {shape[0]:,} x {shape[1]:,}", where=where, fix=DAMAGED)
    if 0 in shape:
        raise InputError("it holds no cells, or no genes", where=where, fix="Check the filtering that came before")


def _chunk(array: h5py.Dataset, *, transposed: bool) -> tuple[int, int]:
    """Return the numbers of cells and genes in a chunk of the file; one cell if it is not chunked."""
    height, width = array.chunks[:: -1 if transposed else 1] if array.chunks else (1, 1)
    return int(height), int(width)


def _slab(array: h5py.Dataset, cells: slice, genes: slice, transposed: bool) -> NDArray[Any]:
    return np.asarray(array[genes, cells].T if transposed else array[cells, genes])


def _by_cell(
    array: h5py.Dataset, shape: tuple[int, int], transposed: bool, step: int, where: str
) -> Iterator[sparse.csr_matrix[Any]]:
    for start in range(0, shape[0], step):
        with guarded(where):
            slab = _slab(array, slice(start, min(start + step, shape[0])), slice(None), transposed)
        yield sparse.csr_matrix(plain_numbers(slab))


def _by_gene(array: h5py.Dataset, shape: tuple[int, int], transposed: bool, where: str) -> Iterator[Chunk]:
    """Yield the non-zero entries, by whole chunks of the file, so that each is decompressed once."""
    tall, wide = _chunk(array, transposed=transposed)
    pieces = max(1, MOST_ENTRIES // (tall * wide))
    high = tall * min(pieces, -(-shape[0] // tall))
    broad = wide * max(1, pieces * tall // high)
    for top in range(0, shape[0], high):
        for left in range(0, shape[1], broad):
            with guarded(where):
                slab = _slab(array, slice(top, top + high), slice(left, left + broad), transposed)
            cells, genes = np.nonzero(slab)
            yield Chunk(cells + top, genes + left, plain_numbers(slab[cells, genes]))
