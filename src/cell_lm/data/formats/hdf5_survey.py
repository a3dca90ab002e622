"""Checks of the parts of an HDF5 file before reading: no links to other files, no data that is not stored.

A few thousand bytes of HDF5 can declare terabytes. Chunks that were never written are read as zeros, a chunk of zeros
is compressed a thousandfold, links let one group be read a million times, and many texts can share storage. Every part
is therefore checked first: its declared size is compared with its stored size, over all parts together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cell_lm.data.formats.hdf5 import DAMAGED, holds
from cell_lm.errors import InputError

LARGE = 1 << 28
"""Bytes that a file of any size may unpack to."""
RATIO = 300
"""Times its stored bytes that a larger one may unpack to: dense counts that are all but empty pack 200 times."""
_DEPTH = 64
_PER_TEXT = 100
"""Bytes that a text object takes in memory, besides its characters."""
_BATCH = 1 << 16
_INSIDE = "Write the file again with its data inside"
_SOURCE = "Check where it comes from, or write it again with the program that made it"


def survey(file: h5py.Group, keys: Iterable[str], name: str) -> None:
    """Refuse parts of a file that are missing, lie outside of it, were never written, or unpack to an excessive size.

    Parameters
    ----------
    file
        Open for reading.
    keys
        Paths of the groups and datasets to read; ``"/"`` for all.
    name
        The file, for messages.

    Raises
    ------
    InputError
        There is no such part; a link, external storage or a virtual dataset; a group or dataset that is reached by two
        paths; groups nested more than 64 deep; chunks that were declared and never written; or parts that would
        take more than 256 MB in memory, and more than 300 times what is stored.
    """
    walk = _Walk(file, name)
    for key in keys:
        walk.add(_part(file, key, name))
    walk.refuse_bombs()


def _part(file: h5py.Group, key: str, name: str) -> h5py.Group | h5py.Dataset:
    """Return the object at a path, without following links."""
    node: h5py.Group = file
    for part in key.strip("/").split("/") if key != "/" else ():
        if not isinstance(node, h5py.Group) or not holds(node, part, name):
            raise InputError(f"it has no {key}", where=name, fix=DAMAGED)
        node = node[part]
    return node


class _Walk:
    """Objects checked so far, and their total sizes."""

    def __init__(self, file: h5py.Group, name: str) -> None:
        self._name, self._seen = name, dict[Any, str]()
        self._size = _bytes_on_disk(file)
        self._announced = self._stored = 0

    def add(self, node: h5py.Group | h5py.Dataset) -> None:
        """Check everything below a node."""
        for found in self._below(node):
            if isinstance(found, h5py.Dataset):
                self._add_dataset(found)

    def refuse_bombs(self) -> None:
        """Refuse parts that unpack to far more than is stored."""
        stored = min(self._stored, self._size)
        if self._announced > LARGE + RATIO * stored:
            found = f"{stored:,} stored bytes announce {self._announced:,} bytes, as no counts of cells do"
            raise InputError(found, where=self._name, fix=_SOURCE)

    def _below(self, node: h5py.Group | h5py.Dataset) -> Iterator[h5py.Group | h5py.Dataset]:
        waiting = [(node, 0)]
        while waiting:
            node, depth = waiting.pop()
            if node in self._seen:
                found = f"{node.name} and {self._seen[node]} are one and the same object"
                raise InputError(found, where=self._name, fix="Write the file again: every part has one place in it")
            self._seen[node] = str(node.name)
            yield node
            if isinstance(node, h5py.Group):
                if depth == _DEPTH:
                    found = f"its groups are nested more than {_DEPTH} deep"
                    raise InputError(found, where=self._name, fix=_SOURCE)
                waiting += [(node[key], depth + 1) for key in node if holds(node, key, self._name)]

    def _add_dataset(self, array: h5py.Dataset) -> None:
        if array.external or array.is_virtual:
            raise InputError(f"the data of {array.name} lie in another file", where=self._name, fix=_INSIDE)
        if not array.size:
            return
        stored = int(array.id.get_storage_size())
        if not stored:
            raise InputError(f"the data of {array.name} were never written", where=self._name, fix=DAMAGED)
        self._refuse_missing_chunks(array)
        self._stored += stored
        varying = array.dtype.hasobject
        self._announced += int(array.size) * (_PER_TEXT if varying else array.dtype.itemsize)
        if varying and int(array.size) * self._size > LARGE:
            self._add_texts(array)

    def _refuse_missing_chunks(self, array: h5py.Dataset) -> None:
        if array.chunks is None:
            return
        needed = math.prod(-(-length // chunk) for length, chunk in zip(array.shape, array.chunks, strict=True))
        written = int(array.id.get_num_chunks())
        if written < needed:
            found = f"{needed - written:,} of {needed:,} chunks of {array.name} were never written"
            raise InputError(found, where=self._name, fix=DAMAGED)

    def _add_texts(self, array: h5py.Dataset) -> None:
        """Add up texts of variable length: a million of them can be stored once."""
        start, step, rows = 0, 1, array.shape[0]
        while start < rows:
            weight = _weight(array[start : start + step])
            self._announced += weight
            if self._announced > LARGE + RATIO * self._size:
                self._stored = self._size
                self.refuse_bombs()
            start += step
            step = min(2 * step, _BATCH) if weight < LARGE >> 5 else max(1, step // 2)


def _weight(values: Any) -> int:
    """Return the bytes of texts, also of those in fields of a table."""
    values = np.asarray(values)
    if values.dtype.names:
        return sum(_weight(values[field]) for field in values.dtype.names)
    if not values.dtype.hasobject:
        return int(values.nbytes)
    return sum(getattr(value, "nbytes", 0) or len(value) for value in values.ravel() if hasattr(value, "__len__"))


def _bytes_on_disk(file: h5py.Group) -> int:
    """Return the size of a file in bytes, without holes."""
    try:
        stat = Path(file.file.filename).stat()
    except OSError:
        return int(file.file.id.get_filesize())
    held = stat.st_blocks * 512
    return min(stat.st_size, held) if held else stat.st_size
