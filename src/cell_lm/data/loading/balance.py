"""Balanced batches: groups of cells, as tumour and normal or the tissues, in shares that are said and not as they come.

A share of a batch need not be a whole number of cells. Each step rounds it down or up, by a sequence that spreads
evenly (multiples of the golden ratio), so that the shares come out right over any run of steps, and the number of a
step is all that decides its batch.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cell_lm.data.loading.sampler import Index, Order, Sampler, mixed

_GOLDEN = (math.sqrt(5) - 1) / 2
_ROUNDING = 1e-9


def quotas(sizes: NDArray[np.int64], loose: int, batch_size: int, balance_strength: float) -> NDArray[np.float64]:
    """Return how many cells of each group a batch holds on average; the last entry is that of cells of no group.

    Parameters
    ----------
    sizes
        int64 [groups]: cells of each, at least one.
    loose
        Cells of no group; they keep their share of all cells.
    batch_size
        At most all cells.
    balance_strength
        1: groups weigh the same; 0: as many cells as they have; between, ``sizes ** (1 - balance_strength)``.

    Returns
    -------
    ndarray
        float64 [groups + 1], summing to ``batch_size``. No group gives more cells than it has, since a cell that is
        twice in a batch would be its own negative; what it cannot give, the others give.
    """
    have = np.append(sizes, loose).astype(np.float64)
    weights = np.append(have[:-1] ** (1 - balance_strength), 0.0)
    result = np.append(np.zeros(len(sizes)), batch_size * loose / have.sum())
    open_ = weights > 0
    while open_.any():
        left = batch_size - result[~open_].sum()
        wanted = np.where(open_, weights * (left / weights[open_].sum()), result)
        full = open_ & (wanted > have)
        if not full.any():
            return wanted
        result[full], open_ = have[full], open_ & ~full
    return result  # all groups are used up: the batch is all cells


class BalancedSampler(Sampler):
    """Batches in which groups have given shares; each group runs through its own cells, epoch by epoch.

    Parameters
    ----------
    groups
        int [n]: number of the group of each cell, 0, 1, … without gaps; -1: of none.
    batch_size, seed, order
        As for :class:`~cell_lm.data.loading.sampler.Sampler`; each group is shuffled by itself.
    balance_strength
        See :func:`quotas`.

    Attributes
    ----------
    quotas : ndarray
        float64 [groups + 1]: cells of each group in a batch, on average; the last entry: of no group.
    """

    def __init__(
        self,
        groups: NDArray[np.integer],
        batch_size: int,
        seed: int,
        order: Order | None = None,
        *,
        balance_strength: float = 1.0,
    ) -> None:
        super().__init__(len(groups), batch_size, seed, order)
        sizes = np.bincount(groups[groups >= 0]).astype(np.int64)
        by_group = np.argsort(groups, kind="stable").astype(np.uint32)  # -1 comes first
        loose, *members = np.split(by_group, np.cumsum([self.n - int(sizes.sum()), *sizes[:-1]]))
        self._members: list[Index] = [*members, loose]
        self.quotas = quotas(sizes, len(loose), batch_size, balance_strength)
        self._orders: list[tuple[int, Index]] = [(-1, loose)] * len(self._members)

    @property
    def repetition(self) -> NDArray[np.float64]:
        """How many times as often as in a plain pass cells of each group come, float64 [groups + 1]."""
        sizes = np.array([max(1, len(members)) for members in self._members])
        return self.quotas / (self.batch_size * sizes / self.n)

    def counts(self, step: int) -> NDArray[np.int64]:
        """Return how many cells of each group a step holds: its quota rounded down or up; they sum to batch_size."""
        whole = np.floor(self.quotas + _ROUNDING)
        bounds = np.round(np.concatenate([[0.0], np.cumsum(np.maximum(self.quotas - whole, 0.0))]), 8)
        extra = np.diff(np.floor(bounds + (step * _GOLDEN) % 1.0))
        return (whole + extra).astype(np.int64)

    def batch(self, step: int) -> Index:
        """Return the cells of a step (0, 1, …), [batch_size], all different."""
        counts = self.counts(step)
        cells = [self._take(group, int(counts[group]), step) for group in np.flatnonzero(counts).tolist()]
        return mixed(np.concatenate(cells), self.seed, step)

    def _take(self, group: int, count: int, step: int) -> Index:
        """Return cells of a group; within a pass through it none comes twice, so none can within a batch."""
        members = self._members[group]
        room = math.ceil(self.quotas[group] - _ROUNDING)
        epoch, place = divmod(step, max(1, len(members) // room))
        if self._orders[group][0] != epoch:
            self._orders[group] = epoch, members[self.order.shuffled(len(members), self.seed, epoch, group + 1)]
        return self._orders[group][1][place * room : place * room + count]
