"""One scan over all entries of a matrix, in blocks of cells: which are broken, negative or fractional, and where.

The combined result of the blocks equals that of a scan of the whole matrix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell_lm.data.compiled import compiled
from cell_lm.data.formats.source import Matrix

NAN, INFINITE, NEGATIVE, FRACTIONAL = range(4)
SMALL = 13
"""Integers below it are counted separately."""
_BLOCK = 1 << 22


class Place(NamedTuple):
    """A row and a column."""

    row: int
    column: int


@dataclass(frozen=True)
class Findings:
    """Result of a scan.

    Attributes
    ----------
    rows, entries : int
        Scanned rows and entries: all stored entries of a sparse matrix, all of a dense one.
    tally : ndarray
        int64 [4]: entries that are NaN, infinite, negative and fractional.
    first : dict
        Kind of broken entry to the position of the first one.
    smallest, largest : float
        Range of the finite entries.
    small : ndarray
        int64 [13]: how often 0, 1, … 12 occur.
    """

    rows: int
    entries: int
    tally: NDArray[np.int64]
    first: dict[int, Place]
    smallest: float
    largest: float
    small: NDArray[np.int64]

    @property
    def nonzero(self) -> int:
        """Entries that are not zero."""
        return self.entries - int(self.small[0])

    @property
    def span(self) -> str:
        """The range of the entries, for messages."""
        return f"range {self.smallest:.4g} to {self.largest:.4g}"


class Scan:
    """A scan in progress."""

    def __init__(self) -> None:
        self._tally, self._small = np.zeros(4, np.int64), np.zeros(SMALL, np.int64)
        self._extremes = np.array([np.inf, -np.inf])
        self._first: dict[int, Place] = {}
        self._rows = self._entries = 0

    def add(self, X: Matrix) -> None:
        """Scan further rows: CSR, CSC or dense, of any real dtype; only read."""
        start = 0
        for block in _blocks(X):
            first = np.full(4, -1, np.int64)
            _tally_block(block, start, self._tally, first, self._extremes, self._small)
            for kind in np.flatnonzero(first >= 0).tolist():
                row, column = _position(X, int(first[kind]))
                self._first.setdefault(kind, Place(self._rows + row, column))
            start += len(block)
        self._rows += X.shape[0]
        self._entries += start

    def findings(self) -> Findings:
        """Return the result so far."""
        finite = bool(np.isfinite(self._extremes).all())
        smallest, largest = (float(value) for value in self._extremes) if finite else (0.0, 0.0)
        return Findings(self._rows, self._entries, self._tally, self._first, smallest, largest, self._small)


@compiled
def _tally_block(
    block: NDArray[np.float64],
    start: int,
    tally: NDArray[np.int64],
    first: NDArray[np.int64],
    extremes: NDArray[np.float64],
    small: NDArray[np.int64],
) -> None:
    for k in range(block.size):
        value = block[k]
        if math.isfinite(value):
            extremes[0] = min(extremes[0], value)
            extremes[1] = max(extremes[1], value)
            whole = value == math.floor(value)
            if whole and value >= 0:
                if value < small.size:
                    small[int(value)] += 1
                continue
            kind = FRACTIONAL if value >= 0 else NEGATIVE
        else:
            kind = NAN if math.isnan(value) else INFINITE
        if first[kind] < 0:
            first[kind] = start + k
        tally[kind] += 1


def _blocks(X: Matrix) -> Iterator[NDArray[np.float64]]:
    """Yield all stored entries in memory order (a dense matrix: row by row), a few million at a time."""
    if isinstance(X, np.ndarray):
        rows = max(1, _BLOCK // X.shape[1])
        for start in range(0, len(X), rows):
            yield np.ascontiguousarray(X[start : start + rows], dtype=np.float64).ravel()
    else:
        for start in range(0, len(X.data), _BLOCK):
            yield X.data[start : start + _BLOCK].astype(np.float64, copy=False)


def _position(X: Matrix, place: int) -> tuple[int, int]:
    if isinstance(X, np.ndarray):
        return place // X.shape[1], place % X.shape[1]
    major = int(np.searchsorted(X.indptr, place, side="right")) - 1
    minor = int(X.indices[place])
    return (major, minor) if X.format == "csr" else (minor, major)
