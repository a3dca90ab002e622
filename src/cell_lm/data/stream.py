"""Cells of files larger than memory: any format that is known, opened to be read a block of cells at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from cell_lm.data.formats.cell_file import CellFile
from cell_lm.data.formats.h5ad import open_h5ad
from cell_lm.data.formats.hdf5 import DAMAGED
from cell_lm.errors import InputError

__all__ = ["CellFile", "detect", "open_cells"]


@contextmanager
def open_cells(path: str | Path, *, layer: str | None = None) -> Iterator[CellFile]:
    """Open the cells of a file, of whatever format, to be read a block at a time.

    Parameters
    ----------
    path
        The file, or the folder of a 10x matrix.
    layer
        As of :func:`cell_lm.data.readers.read_source`.

    Raises
    ------
    InputError
        As :func:`cell_lm.data.readers.read_source`; what is wrong deep in the file is found when its block is read.
    """
    detect(path)
    with open_h5ad(Path(path), layer) as cells:
        yield cells


_FORMATS = {
    b"\x1f\x8b": ("a gzip archive", "Unpack it with gunzip first"),
    b"PK": ("a zip archive", "Unpack it first"),
    b"%%MatrixMarket": ("a Matrix Market file", "Read it with scanpy.read_10x_mtx and write it as .h5ad"),
}


def detect(path: str | Path) -> str:
    """Return the format of a file by what it holds: ``"h5ad"``."""
    path, name = Path(path), str(path)
    head = _head(path)
    for start, (what, fix) in _FORMATS.items():
        if head.startswith(start):
            raise InputError(f"it is {what}, not an h5ad file", where=name, fix=fix)
    if not h5py.is_hdf5(path):
        fix = "Give an .h5ad file; scanpy reads many other formats and writes it"
        raise InputError("it is not an HDF5 file", where=name, fix=fix)
    return "h5ad"


def _head(path: Path) -> bytes:
    name = str(path)
    if not path.exists():
        raise InputError("there is no such file", where=name, fix="Check the path")
    if not path.is_file():
        raise InputError("it is a folder or device, not a file", where=name, fix="Name the .h5ad file itself")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise InputError(f"it cannot be opened ({error.strerror})", where=name, fix="Check its permissions") from None
    if not head:
        raise InputError("it is empty (0 bytes)", where=name, fix=DAMAGED)
    return head
