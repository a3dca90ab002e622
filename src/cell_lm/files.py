"""Atomic writing (temporary name, fsync, rename), and hashes of what was written."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from safetensors import SafetensorError

from cell_lm.errors import CellLMError, InputError, OutputError
from cell_lm.partials import exchange, partial_folder

if TYPE_CHECKING:
    import pandas as pd

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"

CHECKSUM = "checksum"
"""Key of a JSON object that holds the SHA-256 of all its other values."""
_NO_ROOM = (ENOSPC, EDQUOT, EFBIG)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet read a formula."""


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


def refuse_to_overwrite(path: Path, *, force: bool, option: str = "--out") -> None:
    """Raise :class:`InputError` if ``path``, the value of ``option``, exists and ``force`` is not set."""
    if os.path.lexists(path) and not force:
        fix = f"Choose another {option}, or say --force to replace it"
        raise InputError("it already exists", where=str(path), fix=fix)


def refuse_unwritable(path: Path, option: str = "--out") -> None:
    """Raise :class:`InputError` if no file or folder can be made at ``path``, without making anything."""
    folder = path.absolute().parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", where=str(path), fix=f"Choose another {option}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written to", where=str(path), fix=f"Choose another {option}")


def refuse_special_file(path: Path) -> None:
    """Raise :class:`InputError` if ``path`` is a device, a pipe or a socket: renaming a file to it destroys it."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError("it is a device or a pipe, not a file", where=str(path), fix="Name a file")


def refuse_to_replace(path: Path, *, kind: str, mark: str, names: AbstractSet[str]) -> None:
    """Raise :class:`InputError` unless ``path`` is absent, empty, or a folder of that kind only.

    Parameters
    ----------
    path
        The path to replace.
    kind
        The kind of folder it may be, in words: ``"a model"``.
    mark
        The file that marks this kind.
    names
        All names that such a folder may hold.
    """
    if not path.is_symlink() and not path.exists():
        return
    inside = {item.name for item in path.iterdir()} if path.is_dir() and not path.is_symlink() else None
    if inside is None or (inside and (mark not in inside or inside - names)):
        strange = f" ({', '.join(sorted(inside - names)[:3])})" if inside and inside - names else ""
        found = f"holds something else than {kind}{strange}" if inside else f"is something else than {kind}"
        raise InputError(found, where=str(path), fix=f"Choose another folder: only {kind} is replaced")


@contextmanager
def naming_failed_writes(path: Path) -> Iterator[None]:
    """Turn a failed write into one :class:`~cell_lm.errors.OutputError` that names ``path`` and the remedy."""
    try:
        yield
    except OutputError:
        raise
    except (OSError, SafetensorError) as error:
        number = _errno(error)
        if number is None and type(error) not in (OSError, SafetensorError):
            raise  # a damaged input raises an OSError without a number
        reason = os.strerror(number) if number is not None else " ".join(str(error).split())[:200]
        fix = "Make room, or name another place" if number in _NO_ROOM else "Name a place that can be written to"
        told = OutputError(f"it could not be written ({reason})", where=str(path), fix=fix)
        told.errno, told.strerror = number, reason
        raise told from error


def _errno(error: OSError | SafetensorError) -> int | None:
    """Return the errno of an error; safetensors has it in its message."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _open_to_others(path: Path, folder: Path) -> None:
    """Give a file the default permissions of a new file: safetensors makes it readable by the owner only."""
    probe = folder / ".permissions"
    probe.touch()
    path.chmod(probe.stat().st_mode & 0o777)
    probe.unlink()


@contextmanager
def atomic_file(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path; on success it is synced and renamed to ``path``, on failure it is removed.

    Parameters
    ----------
    path
        The file to write. A symbolic link is followed: its target is replaced.
    replace
        Whether to replace a file that exists at the end.

    Raises
    ------
    OutputError
        It could not be written; an earlier file or folder at the path is intact.
    InputError
        ``path`` is a device or a pipe; or a file exists at the end, and ``replace`` is not set.
    """
    refuse_special_file(path)
    place = Path(os.path.realpath(path)) if path.is_symlink() else path
    with naming_failed_writes(path), partial_folder(place) as folder:
        temporary = folder / place.name
        yield temporary
        _open_to_others(temporary, folder)
        sync(temporary)
        refuse_special_file(place)
        if replace:
            temporary.replace(place)
        else:
            _link(temporary, place)
        sync(place.parent)


def _link(temporary: Path, path: Path) -> None:
    """Give a file its name unless that exists, in one step where the file system has hard links."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        found = "it was made by another program meanwhile, and is left as it is"
        raise InputError(found, where=str(path), fix="Choose another name, or say --force to replace it") from None
    except OSError:
        refuse_to_overwrite(path, force=False)
        temporary.replace(path)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory; on success all of it is synced and it replaces ``path``.

    An earlier directory at ``path`` is removed only after the new one has replaced it; see
    :func:`cell_lm.partials.exchange`.

    Raises
    ------
    OutputError
        It could not be written; an earlier file or folder at the path is intact.
    """
    with naming_failed_writes(path), partial_folder(path) as folder:
        fresh = folder / "new"
        fresh.mkdir()
        yield fresh
        for item in sorted(fresh.rglob("*")):
            if item.is_file():
                _open_to_others(item, folder)
            sync(item)
        sync(fresh)
        if path.exists():
            exchange(fresh, path, folder)
        else:
            fresh.replace(path)
        sync(path.parent)


@contextmanager
def held(folder: Path, refusal: CellLMError) -> Iterator[None]:
    """Lock a folder for this process, or raise ``refusal`` if another process has locked it.

    The lock ends with the process, however that ends, and leaves no file behind.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal from None
        except OSError:
            pass  # some network file systems have no locks
        yield
    finally:
        os.close(handle)


def write_json(path: Path, value: JSON) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinities are refused (they are not JSON)."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def with_checksum(values: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return a JSON object with the SHA-256 of all its values added; see :func:`checksum_holds`."""
    return {**values, CHECKSUM: _checksum(values)}


def checksum_holds(values: Mapping[str, JSON]) -> bool:
    """Return whether a JSON object has the values that :func:`with_checksum` hashed, whatever their order."""
    return values.get(CHECKSUM) == _checksum(values)


def _checksum(values: Mapping[str, JSON]) -> str:
    covered = {key: value for key, value in values.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(covered, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_csv(table: pd.DataFrame, path: Path, *, replace: bool = True) -> None:
    """Write a table as CSV, atomically, so that a spreadsheet reads no text in it as a formula.

    Text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return gets an apostrophe before it, in the
    header, too: spreadsheets show such a cell as text. Numbers are not changed.

    Parameters
    ----------
    table
        Its index is not written.
    path
        The file.
    replace
        As for :func:`atomic_file`.
    """
    plain = table.copy()
    for name in plain.columns:
        if plain[name].dtype.kind not in "biuf":
            plain[name] = plain[name].astype(object).map(_as_text, na_action="ignore")
    plain.columns = plain.columns.map(_as_text)
    with atomic_file(path, replace=replace) as temporary:
        plain.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")


def write_table(table: pd.DataFrame, path: Path, *, replace: bool = True) -> None:
    """Write a table, atomically, as parquet or as CSV (:func:`write_csv`), by the suffix."""
    if path.suffix.lower() != ".parquet":
        write_csv(table, path, replace=replace)
        return
    with atomic_file(path, replace=replace) as temporary:
        table.to_parquet(temporary, index=False)


def _as_text(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
