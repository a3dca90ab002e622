from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from cell_lm.data.loading.batch import PER_CELL, CellBatch, concatenate
from cell_lm.nn.counter import Counter, mix
from cell_lm.objectives import thinning
from cell_lm.objectives.thinning import binomial_half, divide_counts, with_counts

Batches = Callable[..., CellBatch]


def keys(count: int, seed: int = 0) -> Tensor:
    return mix(torch.arange(count) + 10_000_000 * seed)


def counter_of(batch: CellBatch, step: int = 1) -> Counter:
    return Counter.of(0, step, batch.slots, 0)


@pytest.mark.parametrize("n", [1, 2, 10, 62, 63, 64, 126, 200, 252, 253, 1_000, 100_000])
def test_binomial_numbers_have_their_mean_variance_and_distribution(n: int) -> None:
    drawn = binomial_half(keys(40_000, seed=n), torch.full((40_000,), float(n)))
    assert drawn.dtype == torch.float32
    counts = drawn.double().numpy()
    assert ((counts >= 0) & (counts <= n) & (counts == counts.round())).all()
    assert abs(counts.mean() - n / 2) < 5 * np.sqrt(n / 4 / 40_000)
    assert abs(counts.var() / (n / 4) - 1) < 5 * np.sqrt(2 / 40_000) + (n == 1)
    levels = np.unique(np.quantile(counts, np.linspace(0.02, 0.98, 30)))
    observed = np.searchsorted(np.sort(counts), levels, side="right") / len(counts)
    assert np.abs(observed - stats.binom.cdf(levels, n, 0.5)).max() < 0.012


def test_numbers_of_different_keys_are_independent() -> None:
    n = torch.full((100_000,), 20.0)
    first = binomial_half(keys(100_000), n)
    for other in (binomial_half(keys(100_000, seed=1), n), first.roll(1)):
        assert abs(np.corrcoef(first, other)[0, 1]) < 5 / np.sqrt(100_000)
    mixed = torch.where(torch.arange(100_000) % 2 == 0, 20.0, 300.0)
    assert torch.equal(binomial_half(keys(100_000), mixed)[::2], first[::2]), "a number has its own key alone"


def test_where_the_largest_count_is_not_known_the_numbers_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    n = torch.tensor([0.0, 1.0, 62.0, 63.0, 64.0, 250.0, 253.0, 5_000.0]).repeat(50)
    for most in (10.0, 64.0, 200.0, 5_000.0):
        few = n.clamp(max=most)
        here = binomial_half(keys(len(n)), few)
        with monkeypatch.context() as patch:
            patch.setattr(thinning, "_largest", lambda _: None)
            assert torch.equal(binomial_half(keys(len(n)), few), here)


def test_the_halves_add_up_to_the_counts_and_share_none(make_batch: Batches) -> None:
    batch = make_batch(cells=200)
    cell = torch.from_numpy(np.repeat(np.arange(200), batch.lengths))
    whole = (torch.expm1(batch.values) * (batch.depths / PER_CELL)[cell]).round().clamp(min=1)
    first, second = divide_counts(batch, counter_of(batch))
    assert torch.equal(first + second, whole)
    assert not torch.equal(first, second)
    deviation = (first - whole / 2) / (whole.sqrt() / 2)
    assert abs(float(deviation.mean())) < 5 / np.sqrt(len(deviation))
    assert float(deviation.square().mean()) == pytest.approx(1, abs=0.15)
    again = divide_counts(batch, counter_of(batch, step=2))
    assert not torch.equal(again[0], first)


def test_the_halves_of_a_cell_are_the_same_in_any_chunk_and_gene_order(make_batch: Batches) -> None:
    batch = make_batch()
    whole = divide_counts(batch, counter_of(batch))
    for budget in (1, 60, 150):
        parts = [divide_counts(chunk, counter_of(chunk)) for chunk in batch.chunks(budget)]
        assert len(parts) > 1
        assert torch.equal(torch.cat(parts, dim=1), whole)
    order = torch.from_numpy(
        np.concatenate([np.arange(a, b)[::-1] for a, b in zip(batch.offsets, batch.offsets[1:], strict=False)])
    )
    moved = replace(batch, genes=batch.genes[order], values=batch.values[order], bins=batch.bins[order])
    assert torch.equal(divide_counts(moved, counter_of(moved)), whole[:, order])
    shifted = divide_counts(batch.with_slots(1), counter_of(batch.with_slots(1)))
    assert not torch.equal(shifted, whole)


def test_a_half_without_counts_keeps_all(make_batch: Batches) -> None:
    batch = make_batch(cells=40, longest=4)
    batch = replace(batch, values=torch.full_like(batch.values, 1e-3))  # every count is 1
    halves = divide_counts(batch, counter_of(batch))
    totals = np.stack([np.add.reduceat(half.numpy(), batch.offsets[:-1]) for half in halves])
    assert (totals > 0).all()
    whole = totals.sum(axis=0) > batch.lengths
    assert 0 < whole.sum() < 40
    assert (totals.max(axis=0)[whole] == batch.lengths[whole]).all()


def test_a_view_is_the_cell_of_its_counts(make_batch: Batches) -> None:
    batch = make_batch()
    counts = torch.randint(1, 40, (batch.tokens,), generator=torch.Generator().manual_seed(0)).float()
    view = with_counts(batch, counts, bins=6)
    depths = np.add.reduceat(counts.numpy(), batch.offsets[:-1])
    assert np.array_equal(view.depths.numpy(), depths)
    expected = np.log1p(counts.numpy() * 1e4 / np.repeat(depths, batch.lengths))
    assert np.allclose(view.values.numpy(), expected, rtol=1e-6)
    assert np.array_equal(view.bins.numpy(), np.minimum(np.rint(expected), 5))
    assert torch.equal(view.genes, batch.genes)
    assert concatenate([view]).counts(300).sum() == pytest.approx(counts.sum().item(), rel=1e-6)
