"""Choice and order of cells, as functions of seed and step alone, so that a resumed run needs no saved state.

Orders are sorted raw numbers of the Philox generator, keyed by seed and epoch: unlike ``Generator.permutation``, whose
stream may change between releases of NumPy, those are fixed by the algorithm.
"""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import ConfigError

Index: TypeAlias = NDArray[np.integer[Any]]
"""Indices of cells, in the smallest sufficient dtype: 4 bytes per cell up to 4 billion."""

_ORDER, _SPLIT, _BLOCKS, _SUBSET, _MIX = 0, 1, 2, 3, 4
"""Purposes of random numbers; each has its own stream."""
_STRETCH = 1 << 16


def _generator(seed: int, epoch: int, purpose: int, stream: int = 0) -> np.random.Philox:
    key, counter = np.array([seed, epoch], np.uint64), np.array([0, 0, stream, purpose], np.uint64)
    return np.random.Philox(key=key, counter=counter)


def _shuffled(n: int, seed: int, epoch: int, purpose: int, stream: int = 0) -> Index:
    """Return the numbers 0 to n - 1 in random order, in 4 bytes each; the 8 needed for sorting are freed at once."""
    generator = _generator(seed, epoch, purpose, stream)
    raw = np.frombuffer(mmap.mmap(-1, 8 * max(n, 1)), np.uint64)[:n]  # mapped, not of the heap, which would keep it
    low = np.uint64((1 << max(1, (n - 1).bit_length())) - 1)
    for start in range(0, n, _STRETCH):  # the index is in the low bits, and breaks ties
        numbers = np.arange(start, min(start + _STRETCH, n), dtype=np.uint64)
        raw[start : start + _STRETCH] = generator.random_raw(len(numbers)) & ~low | numbers
    raw.sort()
    raw &= low
    return raw.astype(np.uint32 if n <= 2**32 else np.int64)


@dataclass(frozen=True)
class Order:
    """How the cells of an epoch are shuffled.

    Attributes
    ----------
    block : int
        Cells that are adjacent in their file and stay together, so that they are read at once; 1: all orders are
        equally likely (a true shuffle).
    window : int
        Cells of many blocks that are shuffled again together; batches are cut from this window.
    """

    block: int = 1
    window: int = 1

    def shuffled(self, n: int, seed: int, epoch: int, stream: int = 0) -> Index:
        """Return the order of an epoch, [n], every cell once; each stream has its own order."""
        if self.block == 1:
            return _shuffled(n, seed, epoch, _ORDER, stream)
        blocks = _shuffled(-(-n // self.block), seed, epoch, _BLOCKS, stream)
        order = (blocks.astype(np.int64)[:, None] * self.block + np.arange(self.block)).ravel()
        order = order[order < n].astype(blocks.dtype)
        numbers = _generator(seed, epoch, _ORDER, stream).random_raw(n)
        for start in range(0, n, self.window):
            here = slice(start, start + self.window)
            order[here] = order[here][np.argsort(numbers[here], kind="stable")]
        return order


class Sampler(ABC):
    """Batches of an endless run over ``n`` cells; batch ``step`` is a pure function of the arguments.

    Parameters
    ----------
    n
        Cells.
    batch_size
        Cells in a batch, over all ranks.
    seed
        Of the orders, 0 to 2^64 - 1.
    order
        How cells are shuffled.

    Raises
    ------
    ConfigError
        ``batch_size`` is more than ``n``, or either is not positive.
    """

    def __init__(self, n: int, batch_size: int, seed: int, order: Order | None = None) -> None:
        if batch_size < 1 or batch_size > n:
            fix = f"Choose a batch_size of 1 to {n:,}, or give more cells"
            raise ConfigError(f"batch_size = {batch_size:,} with {n:,} cells to train on", fix=fix)
        self.n, self.batch_size, self.seed, self.order = n, batch_size, seed, order or Order()

    @abstractmethod
    def batch(self, step: int) -> Index:
        """Return the cells of a step (0, 1, …), [batch_size], all different."""

    def share(self, step: int, rank: int, world: int) -> tuple[Index, int]:
        """Return the part of a batch for one of ``world`` ranks, and the slot of its first cell.

        The parts are consecutive and differ by at most one cell; concatenated by rank they are the batch.

        Raises
        ------
        ConfigError
            There are more ranks than cells in a batch.
        """
        if not 0 <= rank < world or world > self.batch_size:
            found = f"rank {rank} of {world} with batch_size = {self.batch_size:,}"
            raise ConfigError(found, fix="Give every rank at least one cell of each batch")
        first, last = (self.batch_size * bound // world for bound in (rank, rank + 1))
        return self.batch(step)[first:last], first


class EpochSampler(Sampler):
    """Every cell once per epoch, each epoch in a new order.

    An incomplete last batch is left out of the epoch (other cells every time), so that no cell is twice in a batch,
    where it would be its own negative.
    """

    def __init__(self, n: int, batch_size: int, seed: int, order: Order | None = None) -> None:
        super().__init__(n, batch_size, seed, order)
        self._epoch = -1
        self._cells: Index = np.empty(0, np.int64)

    @property
    def batches_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.n // self.batch_size

    def batch(self, step: int) -> Index:
        """Return the cells of a step (0, 1, …), [batch_size], all different."""
        epoch, at = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._cells = epoch, self.order.shuffled(self.n, self.seed, epoch)
        return self._cells[at * self.batch_size : (at + 1) * self.batch_size]


def split(n: int, fraction: float, seed: int) -> tuple[Index, Index]:
    """Split ``n`` cells at random into training and validation cells.

    Parameters
    ----------
    n
        Cells, at least 1.
    fraction
        Validation fraction, 0 to below 1; above 0, at least one cell is for validation and at least one for training.
    seed
        The same seed gives the same split.

    Returns
    -------
    train, valid : ndarray
        Each sorted; together all cells, none in both.

    Raises
    ------
    ConfigError
        ``fraction`` is out of range, or ``n`` is too small to split.
    """
    if not 0 <= fraction < 1 or n < 1 or (fraction > 0 and n < 2):
        fix = "Choose a fraction of 0 to below 1, and at least 2 cells"
        raise ConfigError(f"validation = {fraction} of {n:,} cells", fix=fix)
    n_valid = min(max(round(n * fraction), 1), n - 1) if fraction > 0 else 0
    order = _shuffled(n, seed, 0, _SPLIT)
    return np.sort(order[n_valid:]), np.sort(order[:n_valid])


def random_subset(n: int, size: int, seed: int) -> Index:
    """Return ``size`` of ``n`` cells, drawn without replacement, sorted; all cells if there are not more."""
    return np.arange(n) if n <= size else np.sort(_shuffled(n, seed, 0, _SUBSET)[:size])


def mixed(cells: Index, seed: int, step: int) -> Index:
    """Return the cells of one step in a random order."""
    return cells[_shuffled(len(cells), seed, step, _MIX)]
