"""Which cells, in which order: functions of a seed and a step alone, so that a resumed run needs no saved state.

Orders are sorted raw numbers of the Philox generator, keyed by seed and epoch: unlike ``Generator.permutation``, whose
stream may change between releases of NumPy, those are fixed by the algorithm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import ConfigError

_ORDER, _SPLIT = 0, 1


def _shuffled(n: int, seed: int, epoch: int, purpose: int) -> NDArray[np.int64]:
    key, counter = np.array([seed, epoch], np.uint64), np.array([0, 0, 0, purpose], np.uint64)
    return np.argsort(np.random.Philox(key=key, counter=counter).random_raw(n), kind="stable")


class EpochSampler:
    """Batches of an endless run over ``n`` cells; batch ``step`` is a pure function of the arguments.

    Each epoch is an order of its own. What is left at its end is too little for a batch and is left out of that epoch
    (other cells every time), so that no cell is twice in a batch, where it would be its own negative.

    Parameters
    ----------
    n
        Cells.
    batch_size
        Cells in a batch, over all ranks.
    seed
        Of the orders, 0 to 2^64 - 1.

    Raises
    ------
    ConfigError
        ``batch_size`` is more than ``n``, or either is not positive.
    """

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        if batch_size < 1 or batch_size > n:
            fix = f"Choose a batch_size of 1 to {n:,}, or give more cells"
            raise ConfigError(f"batch_size = {batch_size:,} with {n:,} cells to train on", fix=fix)
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    @property
    def batches_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.n // self.batch_size

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return the cells of a step (0, 1, …), int64 [batch_size], all different."""
        epoch, place = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, _shuffled(self.n, self.seed, epoch, _ORDER)
        return self._order[place * self.batch_size : (place + 1) * self.batch_size]

    def share(self, step: int, rank: int, world: int) -> tuple[NDArray[np.int64], int]:
        """Return the part of a batch that one of ``world`` ranks holds, and the slot of its first cell.

        The shares are consecutive and differ by at most one cell; joined in the order of the ranks they are the batch.

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


def split(n: int, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide ``n`` cells at random into those to train on and those to validate on.

    Parameters
    ----------
    n
        Cells, at least 1.
    fraction
        Share to validate on, 0 to below 1; above 0 at least one cell is, and at least one remains to train on.
    seed
        The same seed gives the same division.

    Returns
    -------
    train, valid : ndarray
        int64, each sorted; together all cells, none in both.

    Raises
    ------
    ConfigError
        ``fraction`` is out of range, or ``n`` is too small to be divided.
    """
    if not 0 <= fraction < 1 or n < 1 or (fraction > 0 and n < 2):
        fix = "Choose a share of 0 to below 1, and at least 2 cells"
        raise ConfigError(f"validation = {fraction} of {n:,} cells", fix=fix)
    held = min(max(round(n * fraction), 1), n - 1) if fraction > 0 else 0
    order = _shuffled(n, seed, 0, _SPLIT)
    return np.sort(order[held:]), np.sort(order[:held])
