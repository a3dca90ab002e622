"""Identify a source by its content, and check that it has not changed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cell_lm.data.formats.zarr_folder import is_zarr
from cell_lm.data.store.manifest import FileRecord
from cell_lm.errors import InputError
from cell_lm.files import sha256
from cell_lm.reading import refuse_irregular

_MATRIX = re.compile(r"(.*?)(?:matrix)?\.mtx(?:\.\w+)?", re.IGNORECASE)
_LIST = re.compile(r"(?:genes|features|barcodes)\.\w+(?:\.\w+)?", re.IGNORECASE)


class Identity(BaseModel):
    """A source as it was when it was read.

    Attributes
    ----------
    files : dict
        Name to size and SHA-256 of its files, or of the single file.
    sha256 : str
        SHA-256 of the file; for a folder, that of the lines ``name<TAB>sha256`` of its files, sorted by name.
    stamps : dict
        Name to inode, size and times of last change: while they are the same, the file is not hashed again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: dict[str, FileRecord]
    sha256: str
    stamps: dict[str, tuple[int, int, int, int]]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files.values())


def identify(path: Path) -> Identity:
    """Hash a file, or the files of a folder.

    Raises
    ------
    InputError
        It does not exist, or cannot be read.
    """
    if not path.is_dir():
        refuse_irregular(path)
    try:
        files = _files(path)
        stamps = _stamps(files)
        records = {
            name: FileRecord(size=file.stat().st_size, sha256=sha256(file)) for name, file in sorted(files.items())
        }
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror})", where=str(path), fix="Check the path") from None
    if not files:
        raise InputError("the folder holds no files", where=str(path), fix="Name a file, or the folder of a matrix")
    lines = "".join(f"{name}\t{file.sha256}\n" for name, file in records.items())
    alone = len(files) == 1 and not path.is_dir()
    whole = records[path.name].sha256 if alone else hashlib.sha256(lines.encode()).hexdigest()
    return Identity(files=records, sha256=whole, stamps=stamps)


def refuse_changed(path: Path, before: Identity, *, when: str) -> None:
    """Raise :class:`InputError` if a source has changed; ``when`` says for the message when it was read."""
    try:
        if _stamps(_files(path)) == before.stamps:
            return
    except OSError:
        pass
    now = identify(path)
    if now.sha256 != before.sha256:
        found = f"it changed {when}: it had {before.size:,} bytes and SHA-256 {before.sha256[:12]}…"
        found += f", and has {now.size:,} and {now.sha256[:12]}…"
        fix = "Put the former file back and run the same command again, or choose another --out"
        raise InputError(found, where=str(path), fix=fix)


def size(path: Path) -> int:
    """Return the size of a source in bytes, 0 if it does not exist."""
    try:
        return sum(file.stat().st_size for file in _files(path).values())
    except OSError:
        return 0


def _files(path: Path) -> dict[str, Path]:
    """Return the files of a source by name; those of a zarr folder, which are in subfolders, by their paths."""
    if is_zarr(path):
        return {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    return {file.name: file for file in _flat_files(path)}


def _flat_files(path: Path) -> list[Path]:
    """Return all files in a folder; with a matrix of 10x the lists of its genes and barcodes."""
    matrix = _MATRIX.fullmatch(path.name)
    if matrix and not path.is_dir():
        lists = [item for item in path.parent.iterdir() if _LIST.fullmatch(item.name.removeprefix(matrix[1]))]
        return sorted([path, *(item for item in lists if item.name.startswith(matrix[1]) and item.is_file())])
    if not path.is_dir():
        return [path]
    return sorted(item for item in path.iterdir() if item.is_file() and not item.name.startswith("."))


def _stamps(files: dict[str, Path]) -> dict[str, tuple[int, int, int, int]]:
    stats = {name: file.stat() for name, file in files.items()}
    return {name: (it.st_ino, it.st_size, it.st_mtime_ns, it.st_ctime_ns) for name, it in stats.items()}
