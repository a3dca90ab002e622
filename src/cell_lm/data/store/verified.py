"""Verification of the files of a store by hash before use, with a cache of the results.

A file that was hashed and has not changed since, by its size, times and inode, is not hashed again. The results are in
the user's cache folder (``$XDG_CACHE_HOME/cell-lm``, else ``~/.cache/cell-lm``), one file per store; without such a
folder every process hashes again. Silent corruption of the disk is detected only by
:meth:`~cell_lm.data.store.store.Store.verify`, which hashes everything.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from functools import cache
from pathlib import Path
from threading import Lock

from cell_lm.data.store.manifest import FileRecord
from cell_lm.errors import InputError
from cell_lm.files import JSON, sha256
from cell_lm.reading import parse_json

_AGAIN = "Copy the store again, or prepare it anew"
_SETTLED = 2 * 10**9
"""Nanoseconds: a file changed less than this before it was hashed could change again with the same times."""

_Stamp = tuple[int, ...]


def refuse_damaged(store: Path, path: Path, wanted: FileRecord, *, again: bool = False) -> None:
    """Refuse a file of a store that has changed since it was written.

    Parameters
    ----------
    store, path
        The folder of the store, and the file.
    wanted
        Its record in the manifest.
    again
        Hash it even if it is known to be intact.

    Raises
    ------
    InputError
        It is missing, of another size, or has another hash.
    """
    known = _Remembered.of(_memory_of(os.path.realpath(store)))
    name = str(path.relative_to(store))
    try:
        stamp = _stamp(path)
        if stamp[0] != wanted.size:
            found = f"it has {stamp[0]:,} bytes, and the manifest says {wanted.size:,}"
            raise InputError(found, where=str(path), fix=_AGAIN)
        if not again and known.holds(name, wanted.sha256, stamp):
            return
        began, digest = time.time_ns(), sha256(path)
        settled = stamp == _stamp(path) and max(stamp[1:3]) < began - _SETTLED
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror})", where=str(path), fix=_AGAIN) from None
    if digest != wanted.sha256:
        raise InputError("it is damaged: its SHA-256 is not that of manifest.json", where=str(path), fix=_AGAIN)
    if settled:
        known.add(name, digest, stamp)


def _stamp(path: Path) -> _Stamp:
    """Return the attributes that change with a file: size, times of content and of inode, inode, device."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev


def _memory_of(store: str) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(home) / "cell-lm" / "verified" / f"{hashlib.sha256(store.encode()).hexdigest()[:32]}.jsonl"


class _Remembered:
    """The verified files of a store, by name."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock, self._known = path, Lock(), dict[str, tuple[str, _Stamp]]()
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        for line in lines:
            self._read(line)

    @staticmethod
    @cache
    def of(path: Path) -> _Remembered:
        """Return the content of a cache file, read once per process."""
        return _Remembered(path)

    def _read(self, line: str) -> None:
        try:
            match parse_json(line):
                case {"file": str(name), "sha256": str(digest), "stamp": list(stamp)}:
                    self._known[name] = digest, tuple(int(str(number)) for number in stamp)
        except ValueError:
            pass  # truncated by a process that was killed

    def holds(self, name: str, digest: str, stamp: _Stamp) -> bool:
        """Return whether a file was verified and has not changed since."""
        return self._known.get(name) == (digest, stamp)

    def add(self, name: str, digest: str, stamp: _Stamp) -> None:
        """Record a file; a cache that is not writable is ignored."""
        line: JSON = {"file": name, "sha256": digest, "stamp": list(stamp)}
        with self._lock:
            self._known[name] = digest, stamp
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")  # one small append, so that processes do not mix their lines
            except OSError:
                pass
