"""Compressed sparse matrices in HDF5, read in blocks of cells.

By cell (CSR of cells x genes, which is what 10x writes as CSC of genes x cells) the rows of a block are contiguous in
the file. By gene they are spread over the file, and go through a :mod:`~cell_lm.data.formats.transpose`.
"""

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
from cell_lm.data.formats.numbers import number_type, plain_index, plain_numbers
from cell_lm.data.formats.transpose import Blocks, Chunk, buckets, refuse_outside
from cell_lm.errors import InputError


@contextmanager
def compressed_blocks(group: h5py.Group, form: str, shape: tuple[int, int], where: str) -> Iterator[Blocks]:
    """Yield a function that reads blocks of cells.

    Parameters
    ----------
    group
        Holds ``data``, ``indices`` and ``indptr``.
    form
        ``csr``: by cell; ``csc``: by gene.
    shape
        Numbers of cells and genes, from the tables of the file.
    where
        File and matrix, for messages.

    Raises
    ------
    InputError
        The arrays are inconsistent with each other or with ``shape``, or do not hold real numbers.
    """
    with guarded(where):
        _refuse_other_shape(group, shape, where)
        indptr = _read_indptr(group, shape[0] if form == "csr" else shape[1], where)
    if form == "csr":
        yield lambda cells: _by_cell(group, indptr, shape[1], cells, where)
    else:
        with buckets(number_type(group["data"].dtype), where=where) as sorter:
            for chunk in _by_gene(group, indptr, shape[0], where):
                sorter.add(chunk)
            yield sorter.blocks(shape)


def _refuse_other_shape(group: h5py.Group, shape: tuple[int, int], where: str) -> None:
    stated = group.attrs.get("shape", group.attrs.get("h5sparse_shape"))
    if stated is not None and tuple(int(n) for n in stated) != shape:
        found = f"it is {stated[0]:,} x {stated[1]:,}, but there are {shape[0]:,} cells and {shape[1]:,} genes"
        raise InputError(found, where=where, fix=DAMAGED)
    if 0 in shape:
        found = f"it holds {shape[0]:,} cells and {shape[1]:,} genes"
        raise InputError(found, where=where, fix="Check the filtering that came before: nothing is left to read")


def _read_indptr(group: h5py.Group, major: int, where: str) -> NDArray[np.int64]:
    """Return the start of each cell (or gene), after checking that the three arrays are consistent."""
    data, indices, pointers = (group[key] for key in ("data", "indices", "indptr"))
    if data.dtype.kind not in "buif":
        raise InputError(f"it holds {data.dtype}, not real numbers", where=where, fix="Convert it to numbers")
    damage = None
    if any(array.ndim != 1 for array in (data, indices, pointers)) or {indices.dtype.kind, pointers.dtype.kind} - {
        *"iu"
    }:
        damage = "data, indices and indptr are not three rows of numbers"
    elif len(pointers) != major + 1 or pointers[0] != 0:
        damage = f"indptr has {len(pointers):,} entries, where {major + 1:,} from 0 on are needed"
    elif len(data) != len(indices) or pointers[-1] > len(data):
        damage = f"indptr ends at {pointers[-1]:,} with {len(data):,} values and {len(indices):,} indices"
    if damage is None:
        indptr = pointers[:].astype(np.int64)
        falls = np.count_nonzero(np.diff(indptr) < 0)
        damage = f"indptr falls at {falls:,} of {major:,} places" if falls else None
        if damage is None:
            return np.asarray(indptr)
    raise InputError(f"its sparse index is damaged: {damage}", where=where, fix="Write it again from its source")


def _spans(indptr: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Cut the rows into runs of at most ``most`` rows and :data:`MOST_ENTRIES` entries, but of one row at least."""
    start, rows = 0, len(indptr) - 1
    while start < rows:
        full = int(np.searchsorted(indptr, indptr[start] + MOST_ENTRIES, side="right")) - 1
        stop = min(max(full, start + 1), start + most, rows)
        yield start, stop
        start = stop


def _by_cell(
    group: h5py.Group, indptr: NDArray[np.int64], genes: int, cells: int, where: str
) -> Iterator[sparse.csr_matrix[Any]]:
    for start, stop in _spans(indptr, cells):
        with guarded(where):
            block = _read_rows(group, indptr[start : stop + 1], genes, where)
        yield block


def _read_rows(group: h5py.Group, indptr: NDArray[np.int64], genes: int, where: str) -> sparse.csr_matrix[Any]:
    span = slice(int(indptr[0]), int(indptr[-1]))
    indices = group["indices"][span]
    refuse_outside(indices, genes, where)
    rows = (indptr - indptr[0]).astype(np.int32)
    values = plain_numbers(group["data"][span])
    return sparse.csr_matrix((values, indices.astype(np.int32), rows), shape=(len(rows) - 1, genes))


def _by_gene(group: h5py.Group, indptr: NDArray[np.int64], size: int, where: str) -> Iterator[Chunk]:
    """Yield the entries in file order; a gene with very many cells is split into several parts."""
    for begin in range(0, int(indptr[-1]), MOST_ENTRIES):
        end = min(begin + MOST_ENTRIES, int(indptr[-1]))
        with guarded(where):
            cells, values = plain_index(group["indices"][begin:end]), plain_numbers(group["data"][begin:end])
        refuse_outside(cells, size, where)
        first = int(np.searchsorted(indptr, begin, side="right")) - 1
        last = int(np.searchsorted(indptr, end, side="left"))
        bounds = np.clip(indptr[first : last + 1], begin, end)
        lengths = bounds[1:] - bounds[:-1]
        yield Chunk(cells, np.repeat(np.arange(first, last, dtype=np.int32), lengths), values)
