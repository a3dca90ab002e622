"""Folders for files until they are complete: ``.NAME.HOST.PID.RANDOM.partial`` next to the final path.

A process locks each folder that it writes in; the lock ends with the process, however that ends. So an unlocked folder
is left from a killed process, and the next writer removes it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NAME = re.compile(r"\..+\.(?P<host>[A-Za-z0-9-]+)\.(?P<pid>\d+)\.[a-z0-9_]{8}\.partial")
_LONGEST = 30
"""Letters kept of the name: file systems allow 255 bytes, and a letter may take four."""
_ASIDE = "aside"
_DAY = 24 * 3600.0


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:_LONGEST] or "-"


@contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """Make a folder next to ``path`` to write it in; at the end the folder is removed with all it contains.

    Missing parent folders of ``path`` are made, and removed again if they stay empty. Partial folders that killed
    processes left next to ``path`` are removed.
    """
    made = [folder for folder in path.absolute().parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    prefix = f".{path.name[:_LONGEST]}.{_host()}.{os.getpid()}."
    folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=".partial", dir=path.parent))
    lock = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        remove_partial(folder)
        os.close(lock)
        for empty in made:
            with suppress(OSError):  # it is not empty
                empty.rmdir()


def exchange(fresh: Path, path: Path, folder: Path) -> None:
    """Replace ``path`` by a directory, and move the earlier one into the partial folder.

    Linux swaps both in one step. Where it cannot, a process that is killed between the two steps leaves nothing at
    ``path``; then :func:`remove_partial` puts the earlier one back.
    """
    if _swap(fresh, path):
        return
    aside = folder / _ASIDE
    aside.mkdir()
    path.replace(aside / path.name)
    try:
        fresh.replace(path)
    except BaseException:
        _put_back(folder)
        raise


def _swap(first: Path, second: Path) -> bool:
    """Exchange the names of two directories in one step; False if the system or the file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, exchange_both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    names = os.fsencode(first.absolute()), os.fsencode(second.absolute())
    return renameat2 is not None and renameat2(here, names[0], here, names[1], exchange_both) == 0


def _put_back(folder: Path) -> None:
    for aside in list((folder / _ASIDE).glob("*")):
        if not os.path.lexists(folder.parent / aside.name):
            aside.replace(folder.parent / aside.name)


def remove_partial(folder: Path) -> None:
    """Remove a partial folder, after moving a directory that was set aside back if its path is free."""
    with suppress(OSError):
        _put_back(folder)
    shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(folder: Path) -> None:
    """Remove the partial folders in ``folder`` whose processes are gone; those of other hosts after a day."""
    with suppress(OSError):
        for path in list(folder.glob(".*.partial")):
            if _is_abandoned(path):
                remove_partial(path)


def is_written(folder: Path) -> bool:
    """Return whether a running process holds the lock of a partial folder."""
    return _lock_is_free(folder) is False


def _is_abandoned(folder: Path) -> bool:
    name = _NAME.fullmatch(folder.name)
    if name is None or not folder.is_dir() or folder.is_symlink():
        return False
    free = _lock_is_free(folder)
    if free is False:
        return False
    if name["host"] != _host():
        return time.time() - folder.stat().st_mtime > _DAY
    pid = int(name["pid"])
    return free is True if pid == os.getpid() else not _is_alive(pid)


def _lock_is_free(folder: Path) -> bool | None:
    """Return whether a folder is unlocked; None if that is unknown."""
    try:
        lock = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    else:
        return True
    finally:
        os.close(lock)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # it belongs to another user
    return True
