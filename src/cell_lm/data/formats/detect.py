"""Detection of the format of a file, by its content rather than its name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import h5py

from cell_lm.data.formats.foreign import foreign_hdf5, refuse_foreign_file, refuse_own_folder
from cell_lm.data.formats.h5ad import is_h5ad
from cell_lm.data.formats.h5mu import is_h5mu
from cell_lm.data.formats.hdf5 import DAMAGED, guarded, opened
from cell_lm.data.formats.loom import is_loom
from cell_lm.data.formats.tenx import is_tenx
from cell_lm.data.formats.text import archive, intact, opened_bytes
from cell_lm.data.formats.zarr_folder import is_zarr
from cell_lm.errors import InputError
from cell_lm.reading import refuse_irregular

Format = Literal["h5ad", "h5mu", "zarr", "10x h5", "10x mtx", "loom", "table", "RData"]
KNOWN = "h5ad, h5mu, zarr, 10x h5 or mtx, loom, csv or tsv, or RData"

_HDF5 = b"\x89HDF\r\n\x1a\n"
_R = (b"RDX2\n", b"RDX3\n", b"RDA2\n", b"RDA3\n", b"RDB2\n", b"RDB3\n", b"X\n", b"A\n", b"B\n")
_HEAD = 1 << 12
_TAR = slice(257, 262)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def detect(path: str | Path) -> Format:
    """Return the format of a file.

    Raises
    ------
    InputError
        There is no such file, it is empty, cannot be opened, or has an unsupported format, which the message names.
    """
    path, name = Path(path), str(path)
    if path.is_dir():
        refuse_own_folder(path)
        return "zarr" if is_zarr(path) else "10x mtx"
    head = _head(path)
    if h5py.is_hdf5(path) or head.startswith(_HDF5):
        return _detect_hdf5(path)
    packed = archive(head)
    if packed:
        with opened_bytes(path) as file, intact(name):
            head = file.read(_HEAD)
    if head[_TAR] == b"ustar":
        raise InputError("it is a tar archive", where=name, fix="Unpack it first (tar xf), and name what is in it")
    if head.startswith(_HDF5):
        raise InputError(f"it is an HDF5 file inside a {packed} archive", where=name, fix="Unpack it with gunzip first")
    return _detect_rest(head, name)


def _head(path: Path) -> bytes:
    name = str(path)
    refuse_irregular(path)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise InputError(f"it cannot be opened ({error.strerror})", where=name, fix="Check its permissions") from None
    if not head:
        raise InputError("it is empty (0 bytes)", where=name, fix=DAMAGED)
    return head


def _detect_hdf5(path: Path) -> Format:
    name = str(path)
    with opened(path) as file, guarded(name):
        if is_h5mu(file, name):
            return "h5mu"
        if is_h5ad(file, name):
            return "h5ad"
        if is_loom(file, name):
            return "loom"
        if is_tenx(file, name):
            return "10x h5"
        raise foreign_hdf5(file, name)


def _detect_rest(head: bytes, name: str) -> Format:
    refuse_foreign_file(head, name)
    if head.lower().startswith(b"%%matrixmarket"):
        return "10x mtx"
    if head.startswith(_R):
        return "RData"
    if head.startswith(_UTF16):
        raise InputError("it is text in UTF-16", where=name, fix="Save it as UTF-8, or as csv")
    if not head.strip():
        raise InputError("it holds nothing but blanks", where=name, fix="Copy or download it again")
    if b"\x00" in head:
        raise InputError("it is of no format that is read", where=name, fix=f"Give {KNOWN}")
    return "table"
