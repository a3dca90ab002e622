"""Writing that is whole or not there at all: temporary name, fsync, rename; and hashes of what was written."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from cell_lm.errors import CellLMError, InputError

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file or a directory to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_to_overwrite(path: Path, *, force: bool) -> None:
    """Raise :class:`InputError` where ``path`` exists and ``force`` is not set."""
    if path.exists() and not force:
        raise InputError("it already exists", where=str(path), fix="Choose another --out, or say --force to replace it")


def refuse_to_replace(path: Path, *, kind: str, mark: str, names: AbstractSet[str]) -> None:
    """Raise :class:`InputError` unless ``path`` is free, empty, or a folder of that kind and nothing else.

    Parameters
    ----------
    path
        What is to be replaced.
    kind
        What it may be, in words: ``"a model"``.
    mark
        The file that tells it.
    names
        All that such a folder holds.
    """
    if not path.is_symlink() and not path.exists():
        return
    inside = {item.name for item in path.iterdir()} if path.is_dir() and not path.is_symlink() else None
    if inside is None or (inside and (mark not in inside or inside - names)):
        strange = f" ({', '.join(sorted(inside - names)[:3])})" if inside and inside - names else ""
        found = f"holds something else than {kind}{strange}" if inside else f"is something else than {kind}"
        raise InputError(found, where=str(path), fix=f"Choose another folder: only {kind} is replaced")


def _partial(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))


def _open_to_others(path: Path, folder: Path) -> None:
    """Give a file the permissions of any new file: safetensors writes for the owner's eyes alone."""
    probe = folder / ".permissions"
    probe.touch()
    path.chmod(probe.stat().st_mode & 0o777)
    probe.unlink()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on success it is synced and renamed to ``path``, on failure it is removed."""
    folder = _partial(path)
    try:
        temporary = folder / path.name
        yield temporary
        _open_to_others(temporary, folder)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory; on success all of it is synced and it takes the place of ``path``.

    A directory that was at ``path`` before is moved aside first and removed only once the new one stands, so that a
    crash at any point leaves a whole directory under one of the two names.
    """
    folder = _partial(path)
    fresh, old = folder / "new", folder / "old"
    fresh.mkdir()
    try:
        yield fresh
        for item in sorted(fresh.rglob("*")):
            if item.is_file():
                _open_to_others(item, folder)
            sync(item)
        sync(fresh)
        if path.exists():
            path.replace(old)
        try:
            fresh.replace(path)
        except BaseException:
            if old.exists() and not path.exists():
                old.replace(path)
            raise
        sync(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def held(folder: Path, refusal: CellLMError) -> Iterator[None]:
    """Hold a folder for this process, or raise ``refusal`` where another one holds it.

    The lock goes with the process, however it ends, and leaves no file behind.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal from None
        except OSError:
            pass  # some network file systems know no locks
        yield
    finally:
        os.close(handle)


def write_json(path: Path, value: JSON) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinities are refused (they are not JSON)."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
