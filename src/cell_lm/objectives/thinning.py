"""Two views of a cell as if it had been sequenced twice, at half its depth: its counts are divided at random.

Each count n goes to one of the two views, so that a view has k counts of a gene, binomial with n trials and probability
1/2, and the other view the other n - k. The views share no count: what they have in common is the cell.

The numbers are functions of seed, step, slot and gene (:mod:`cell_lm.nn.counter`), the same in any chunk.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cell_lm.data.loading.batch import PER_CELL, CellBatch
from cell_lm.nn.counter import Counter, mix
from cell_lm.nn.layout import cell_of_gene

THIN_SITE = -3
"""Site of thinning in the counter."""
_BITS, _WORDS = 63, 4
"""Random bits of a hash that are used (not the sign), and hashes per count."""


def divide_counts(batch: CellBatch, counter: Counter) -> Tensor:
    """Return the counts of the two views, float32 [2, T]; their sum is the rounded counts.

    Expression that is not whole counts is rounded at the depth of the cell, to 1 at least. A view without any count
    keeps all counts of the cell.

    Parameters
    ----------
    batch
        The cells.
    counter
        Of the cells; the same for both views.
    """
    cell = cell_of_gene(batch)
    counts = (torch.expm1(batch.values) * (batch.depths / PER_CELL)[cell]).round().clamp(min=1.0)
    first = binomial_half(mix(counter.rows(cell, batch.genes) ^ THIN_SITE), counts)
    views = torch.stack([first, counts - first])
    totals = views.new_zeros(2, len(batch)).index_add_(1, cell, views)
    return torch.where((totals == 0)[:, cell], counts, views)


def binomial_half(keys: Tensor, n: Tensor) -> Tensor:
    """Return one binomial number with probability 1/2 for each key, in the dtype of ``n``.

    Up to 252 trials it is the number of ones among n random bits; above, the rounded normal number of the same mean and
    variance (whose distribution function differs by less than .001).

    Parameters
    ----------
    keys
        int64 [T]: hashes.
    n
        [T]: whole numbers of trials.
    """
    trials = n.long()
    most = _largest(trials)
    ones = torch.zeros_like(trials)
    for word in range(_WORDS):
        if most is not None and most <= word * _BITS:
            return ones.to(n.dtype)
        bits = (trials - word * _BITS).clamp(0, _BITS)
        hashed = mix(keys ^ (word + 1)) & torch.iinfo(torch.int64).max
        ones += _count_ones(hashed & ((torch.ones_like(bits) << bits) - 1))
    if most is None or most > _WORDS * _BITS:
        ones = torch.where(trials > _WORDS * _BITS, _normal(keys, trials), ones)
    return ones.to(n.dtype)


def _largest(trials: Tensor) -> int | None:
    """Return the largest number, which says what need not be computed; None on a GPU, which it would wait for."""
    return int(trials.numpy().max(initial=0)) if trials.device.type == "cpu" else None


def _count_ones(x: Tensor) -> Tensor:
    """Return the number of ones in non-negative int64, by adding neighbouring bits, pairs, and so on."""
    x = x - ((x >> 1) & 0x5555555555555555)
    x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((x * 0x0101010101010101) >> 56) & 0xFF


def _normal(keys: Tensor, trials: Tensor) -> Tensor:
    """Return rounded normal numbers of mean n / 2 and variance n / 4, by the method of Box and Muller."""
    uniform = [((mix(keys ^ (word + 1)) >> 11) & ((1 << 53) - 1)).double() / 2**53 for word in range(2)]
    radius = (-2.0 * torch.log1p(-uniform[0])).sqrt()
    drawn = trials / 2 + trials.double().sqrt() / 2 * radius * torch.cos(2 * math.pi * uniform[1])
    return drawn.round().long().clamp(min=torch.zeros_like(trials), max=trials)


def with_counts(batch: CellBatch, counts: Tensor, bins: int) -> CellBatch:
    """Return the cells with other counts of the same genes.

    Parameters
    ----------
    batch
        The cells.
    counts
        float32 [T]: not negative, and not all 0 in any cell; the genes of count 0 remain.
    bins
        Number of expression bins.
    """
    cell = cell_of_gene(batch)
    depths = counts.new_zeros(len(batch)).index_add_(0, cell, counts)
    values = torch.log1p(counts * (PER_CELL / depths)[cell])
    return batch.with_expression(values, values.round().long().clamp(max=bins - 1), depths)
