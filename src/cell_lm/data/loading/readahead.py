"""Whether reading mapped files has had to wait for the disk, and so whether to announce what is read next.

A row that is not in the page cache stops the thread at each of its pages, one after the other. Announced beforehand,
the rows of a batch are fetched side by side. That costs some system calls a cell, so it is done only where it pays.
"""

from __future__ import annotations

import resource
import sys

ANNOUNCED = 64
"""Batches that are announced after one that had to wait."""
_WAITED = 16
"""A batch had to wait if there was a major page fault in one of so many of its cells."""


class ReadAhead:
    """Decides batch by batch whether rows are announced."""

    def __init__(self) -> None:
        self._left, self._faults = 0, 0

    def begin(self) -> bool:
        """Begin a batch; return whether to announce its rows."""
        self._faults = _major_faults()
        self._left = max(0, self._left - 1)
        return self._left > 0

    def end(self, cells: int) -> None:
        """End the batch: if it had to wait for the disk, the rows of the next batches are announced."""
        if (_major_faults() - self._faults) * _WAITED > cells:
            self._left = ANNOUNCED + 1


def _major_faults() -> int:
    """Return the major page faults of this thread so far; 0 where the system does not count them."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt if sys.platform == "linux" else 0
