"""Balanced batches: groups of cells, such as tumour and normal or tissues, with chosen fractions of every batch.

A pass has ``ceil(cells / batch_size)`` steps. The sampler sets how many cells of each group a pass contains, a whole
number, and spreads them evenly over the steps. Each group has its own passes: all its cells in a shuffled order, then
all of them in another, so every cell of a group is seen before any is seen twice. A batch is a function of its step
alone: no state is kept.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cell_lm.data.loading.sampler import Index, Order, Sampler, mixed

_GOLDEN = (math.sqrt(5) - 1) / 2
_ROUNDING = 1e-6


def quotas(sizes: NDArray[np.int64], loose: int, batch_size: int, balance_strength: float) -> NDArray[np.float64]:
    """Return how many cells of each group a batch should hold on average; the last entry is for cells of no group.

    Parameters
    ----------
    sizes
        int64 [groups]: cells of each group, at least one.
    loose
        Number of cells without a group; they keep their fraction of all cells.
    batch_size
        At most all cells.
    balance_strength
        1: every group has the same weight; 0: each has the same fraction of a batch as of all cells; between,
        the weight is ``sizes ** (1 - balance_strength)``.

    Returns
    -------
    ndarray
        float64 [groups + 1], summing to ``batch_size``. No quota exceeds the size of its group, since a cell that is
        twice in a batch would be its own negative; the other groups fill the rest.
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


def whole_numbers(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round numbers to integers of the same sum, the largest fractional parts up; the sum must be an integer."""
    result = np.floor(values + _ROUNDING).astype(np.int64)
    missing = round(float(values.sum())) - int(result.sum())
    result[np.argsort(result - values, kind="stable")[:missing]] += 1
    return result


class BalancedSampler(Sampler):
    """Batches with chosen fractions of groups; within a group, every cell is seen before any is seen twice.

    Parameters
    ----------
    groups
        int [n]: number of the group of each cell, 0, 1, … without gaps; -1: of none.
    batch_size, seed, order
        As for :class:`~cell_lm.data.loading.sampler.Sampler`; each group is shuffled by itself.
    balance_strength
        See :func:`quotas`. With 0, one pass sees every cell.

    Attributes
    ----------
    steps_per_pass : int
        ``ceil(n / batch_size)``.
    cells_per_pass : ndarray
        int64 [groups + 1]: cells of each group in a pass, at least one; the last entry: cells without a group.
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
        self.steps_per_pass = steps = -(-self.n // batch_size)
        self.cells_per_pass = whole_numbers(quotas(sizes, len(loose), batch_size, balance_strength) * steps)
        self._groups = [
            _Group(cells, seed, number + 1, self.order, -(-int(in_pass) // steps))
            for number, (cells, in_pass) in enumerate(zip([*members, loose], self.cells_per_pass, strict=True))
        ]
        # A step holds cells_per_pass // steps cells of a group, and sometimes one more: the step is a point on a circle
        # that moves on by nearly the golden section of it, and each group has an arc in which it gives one more.
        self._arcs = np.concatenate([[0], np.cumsum(self.cells_per_pass % steps)])
        self._stride = next(k for k in range(round(_GOLDEN * steps), 2 * steps + 1) if math.gcd(k, steps) == 1)

    @property
    def quotas(self) -> NDArray[np.float64]:
        """Cells of each group in a batch, on average over a pass, float64 [groups + 1]."""
        return self.cells_per_pass / self.steps_per_pass

    @property
    def repetition(self) -> NDArray[np.float64]:
        """How often a cell of each group is seen, relative to batches without balance, float64 [groups + 1]."""
        sizes = np.array([max(1, len(group.cells)) for group in self._groups])
        return self.quotas / (self.batch_size * sizes / self.n)

    def counts_before(self, step: int) -> NDArray[np.int64]:
        """Return how many cells of each group all steps before this one hold in total, int64 [groups + 1]."""
        done, at = divmod(step, self.steps_per_pass)
        extra = np.diff(_floor_sum(at, self.steps_per_pass, self._stride, self._arcs))
        return done * self.cells_per_pass + at * (self.cells_per_pass // self.steps_per_pass) + extra

    def counts(self, step: int) -> NDArray[np.int64]:
        """Return how many cells of each group a step holds: its quota rounded down or up; they sum to batch_size."""
        return self.counts_before(step + 1) - self.counts_before(step)

    def batch(self, step: int) -> Index:
        """Return the cells of a step (0, 1, …), [batch_size], all different."""
        first, stop = self.counts_before(step), self.counts_before(step + 1)
        chosen = np.flatnonzero(stop > first).tolist()
        return mixed(
            np.concatenate([self._groups[g].cells_between(int(first[g]), int(stop[g])) for g in chosen]),
            self.seed,
            step,
        )


class _Group:
    """The cells of one group in an endless order: one shuffled pass after the other.

    A batch can hold the last cells of one pass and the first of the next, and must not hold a cell twice. In a group of
    many batches, cells at the end of one pass do not begin the next. A group of only a few batches keeps one order, and
    each pass shuffles short stretches of it, so that at least a batch of other cells comes before a cell is repeated.

    Parameters
    ----------
    cells
        Indices of the cells of the group.
    seed, stream
        Seed and stream of the random numbers.
    order
        How a pass is shuffled.
    most
        Most cells of the group in a batch; not more than it has.
    """

    def __init__(self, cells: Index, seed: int, stream: int, order: Order, most: int) -> None:
        self.cells, self._order, self._key, self._most = cells, order, (seed, stream), most
        self._edge = max(0, most - 1)
        self._keeps_order = len(cells) < 3 * self._edge
        self._cached: tuple[int, Index] = (-1, cells)

    def cells_between(self, first: int, stop: int) -> Index:
        """Return the cells at the positions ``first`` to ``stop`` (excluded) of the endless order."""
        number, at = divmod(first, len(self.cells))
        result = self._pass(number)[at : at + stop - first]
        left = stop - first - len(result)
        return np.concatenate([result, self._pass(number + 1)[:left]]) if left else result

    def _pass(self, number: int) -> Index:
        if self._cached[0] != number:
            self._cached = number, self._stretches(number) if self._keeps_order else self._separated(number)
        return self._cached[1]

    def _shuffled(self, number: int) -> Index:
        seed, stream = self._key
        return self._order.shuffled(len(self.cells), seed, number, stream)

    def _stretches(self, number: int) -> Index:
        """Return the one order, each stretch of it shuffled for this pass."""
        at = self._shuffled(number + 1)
        stretch = len(self.cells) - self._most + 1
        return self.cells[self._shuffled(0)[at[np.argsort(at // stretch, kind="stable")]]]

    def _separated(self, number: int) -> Index:
        """Return a new order whose first cells were not at the end of the previous pass; those are swapped."""
        edge, result = self._edge, self.cells[self._shuffled(number)]
        if edge and number:
            before = self._last_cells(number - 1)
            inside = result[edge : 2 * edge]  # enough of these can be swapped
            again = np.flatnonzero(np.isin(result[:edge], before))
            free = edge + np.flatnonzero(~np.isin(inside, before))[: len(again)]
            result[again], result[free] = result[free], result[again]
        return result

    def _last_cells(self, number: int) -> Index:
        """Return the last cells of a pass, which are never swapped."""
        if self._cached[0] == number:
            return self._cached[1][-self._edge :]
        return self.cells[self._shuffled(number)[-self._edge :]]


def _floor_sum(n: int, divisor: int, slope: int, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sum over i < n of ``(slope * i + start) // divisor`` for each start, by Euclid's algorithm."""
    counts, rests = np.full(len(starts), n, np.int64), starts.astype(np.int64)
    result = np.zeros(len(starts), np.int64)
    while counts.any():
        result += (counts - 1) * counts // 2 * (slope // divisor) + counts * (rests // divisor)
        slope %= divisor
        ends = slope * counts + rests % divisor
        counts, rests = np.where(counts > 0, ends // divisor, 0), ends % divisor
        slope, divisor = divisor, slope
    return result
