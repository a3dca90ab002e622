"""Read-ahead for memory-mapped files: prefetch the next rows if the last batches had to wait for the disk.

A row that is not in the page cache blocks the thread at each of its pages in turn. With read-ahead, the rows of a batch
are fetched in parallel. It takes a few system calls per cell, so it is used only when it helps.
"""

from __future__ import annotations

import resource
import sys

ANNOUNCED = 64
"""Batches with read-ahead after one that had to wait."""
_WAITED = 16
"""A batch had to wait if it had at least one major page fault per this many cells."""


class ReadAhead:
    """Decides for each batch whether to use read-ahead."""

    def __init__(self) -> None:
        self._left, self._faults = 0, 0

    def begin(self) -> bool:
        """Begin a batch; return whether to read its rows ahead."""
        self._faults = _major_faults()
        self._left = max(0, self._left - 1)
        return self._left > 0

    def end(self, cells: int) -> None:
        """End the batch: if it had to wait for the disk, the next batches use read-ahead."""
        if (_major_faults() - self._faults) * _WAITED > cells:
            self._left = ANNOUNCED + 1


def _major_faults() -> int:
    """Return the major page faults of this thread so far; 0 where the system does not count them."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt if sys.platform == "linux" else 0
