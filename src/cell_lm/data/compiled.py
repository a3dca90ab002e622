"""Compilation of loops by numba, cached on disk, without the GIL.

numba's cache is not safe where several processes fill it at once, as the ranks of a first run do: two that compile one
function for different types may write both results to one file, and the next process that loads it runs machine code
of other types than its arguments, or crashes. So files of the cache are read and written under a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from filelock import FileLock, Timeout
from numba.core.caching import FunctionCache

Function = TypeVar("Function", bound=Callable[..., object])

LOCK = "cell_lm.lock"
"""Name of the lock in the folder of the cache."""
_SECONDS = 10.0
"""A lock that is held for longer is of a process that hangs: the function is then compiled, and not cached."""


class _LockedCache(FunctionCache):  # type: ignore[misc]
    """The cache of a function, read and written by one process at a time; without the lock, nothing is cached."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with _locked(Path(self.cache_path)) as held:
            return super().load_overload(sig, target_context) if held else None

    def save_overload(self, sig: Any, data: Any) -> None:
        with _locked(Path(self.cache_path)) as held:
            if held:
                super().save_overload(sig, data)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=_SECONDS)
        lock.acquire()
    except (OSError, NotImplementedError, Timeout):  # a full disk, a file system without locks
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def compiled(function: Function) -> Function:
    """Compile a loop over arrays, keeping its type signature.

    No reordering of sums (``fastmath`` is off): results are the same on every run.
    """
    dispatcher = numba.njit(cache=True, nogil=True)(function)
    dispatcher._cache = _LockedCache(function)
    return cast("Function", dispatcher)
