"""Unpacking of a downloaded archive: files and folders below one folder, and nothing else."""

from __future__ import annotations

import re
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from cell_lm.data.formats.mtx import find_matrices
from cell_lm.errors import InputError
from cell_lm.files import atomic_directory

_LARGEST = 200
"""Highest ratio of unpacked to packed size: text of counts packs about tenfold."""


def unpack(path: Path, folder: Path, *, keep: str = "") -> list[Path]:
    """Unpack a tar archive atomically, and return its members that can be read as cells.

    Parameters
    ----------
    path, folder
        The archive, and the folder for its members; an existing folder is taken as the unpacked archive.
    keep
        Regular expression; members whose name does not match are left out.

    Returns
    -------
    list of Path
        Folders that hold a matrix, else the files.

    Raises
    ------
    InputError
        The archive is damaged, or has a member that is neither file nor folder, lies outside the folder, or unpacks to
        an excessive size.
    """
    if not folder.exists():
        with atomic_directory(folder) as fresh:
            _unpack_into(path, fresh, keep)
    files = sorted(item for item in folder.rglob("*") if item.is_file())
    matrices = sorted({item.parent for item in files if find_matrices(item.parent)})
    return matrices or files


def _unpack_into(path: Path, folder: Path, keep: str) -> None:
    left = _LARGEST * path.stat().st_size
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                _refuse_strange(member, str(path))
                left -= member.size
                if left < 0:
                    found = f"it unpacks to more than {_LARGEST} times its size"
                    raise InputError(found, where=str(path), fix="Check where it comes from")
                if member.isfile() and re.search(keep, member.name):
                    _write(archive, member, folder / member.name)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        found = f"the archive cannot be read ({error})"
        raise InputError(found, where=str(path), fix="Remove it, and fetch it again") from None


def _refuse_strange(member: tarfile.TarInfo, where: str) -> None:
    parts = PurePosixPath(member.name)
    if not (member.isfile() or member.isdir()) or parts.is_absolute() or ".." in parts.parts:
        found = f"its member '{member.name[:100]}' is no plain file below its folder"
        raise InputError(found, where=where, fix="Check where it comes from, and unpack it by hand")


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = archive.extractfile(member)
    if source is not None:
        with source, path.open("wb") as file:
            shutil.copyfileobj(source, file)
