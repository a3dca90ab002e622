from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell_lm.data import EpochSampler, split
from cell_lm.data.loading.sampler import Order, random_subset
from cell_lm.errors import ConfigError


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 60), data=st.data(), seed=st.integers(0, 2**64 - 1))
def test_an_epoch_shows_no_cell_twice_and_leaves_out_less_than_a_batch(n: int, data: st.DataObject, seed: int) -> None:
    size = data.draw(st.integers(1, n))
    sampler = EpochSampler(n, size, seed)
    for epoch in range(3):
        first = epoch * sampler.batches_per_epoch
        seen = np.concatenate([sampler.batch(first + k) for k in range(sampler.batches_per_epoch)])
        assert len(set(seen.tolist())) == len(seen) > n - size
        assert 0 <= seen.min() <= seen.max() < n


def test_a_batch_is_a_function_of_the_step_whatever_was_asked_before() -> None:
    once = [EpochSampler(50, 8, 3).batch(step).tolist() for step in range(30)]
    sampler = EpochSampler(50, 8, 3)
    for step in (29, 0, 17, 17, 5, 28):
        assert sampler.batch(step).tolist() == once[step]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def epoch(seed: int, number: int) -> list[int]:
        return EpochSampler(40, 40, seed).batch(number).tolist()

    orders = [epoch(seed, number) for seed in (0, 1) for number in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert all(sorted(order) == list(range(40)) for order in orders)


def test_the_order_is_fixed_for_ever() -> None:
    assert EpochSampler(10, 5, 7).batch(0).tolist() == [8, 4, 1, 6, 3]
    assert EpochSampler(10, 5, 7).batch(5).tolist() == [1, 5, 3, 9, 2]


def test_cells_left_out_change_with_the_epoch() -> None:
    sampler = EpochSampler(10, 7, 0)
    left = {frozenset(range(10)) - frozenset(sampler.batch(step).tolist()) for step in range(8)}
    assert len(left) > 4


@pytest.mark.parametrize(("size", "world"), [(8, 1), (8, 2), (9, 2), (10, 4), (3, 3)])
def test_the_shares_of_the_ranks_joined_are_the_batch(size: int, world: int) -> None:
    sampler = EpochSampler(40, size, 0)
    for step in (0, 11):
        shares = [sampler.share(step, rank, world) for rank in range(world)]
        assert np.concatenate([cells for cells, _ in shares]).tolist() == sampler.batch(step).tolist()
        lengths = [len(cells) for cells, _ in shares]
        assert [first for _, first in shares] == np.cumsum([0, *lengths[:-1]]).tolist()
        assert max(lengths) - min(lengths) <= 1


def test_what_cannot_be_is_refused_with_both_numbers() -> None:
    with pytest.raises(ConfigError, match=r"batch_size = 256 with 100 cells .* 1 to 100"):
        EpochSampler(100, 256, 0)
    for size in (0, 101):
        with pytest.raises(ConfigError):
            EpochSampler(100, size, 0)
    with pytest.raises(ConfigError, match="rank 2 of 2"):
        EpochSampler(10, 5, 0).share(0, 2, 2)
    with pytest.raises(ConfigError, match="rank 0 of 6"):
        EpochSampler(10, 5, 0).share(0, 0, 6)


@settings(max_examples=100, deadline=None)
@given(n=st.integers(2, 300), fraction=st.floats(0, 0.99), seed=st.integers(0, 2**32))
def test_a_split_is_disjoint_whole_sorted_and_of_the_size_asked(n: int, fraction: float, seed: int) -> None:
    train, valid = split(n, fraction, seed)
    assert sorted([*train.tolist(), *valid.tolist()]) == list(range(n))
    assert (np.diff(train) > 0).all()
    assert (np.diff(valid) > 0).all()
    assert len(train) >= 1
    assert (len(valid) == 0) == (fraction == 0)
    assert abs(len(valid) - n * fraction) <= 1
    assert all(np.array_equal(a, b) for a, b in zip((train, valid), split(n, fraction, seed), strict=True))


def test_a_split_depends_on_the_seed_and_is_not_the_first_batch() -> None:
    assert split(100, 0.2, 0)[1].tolist() != split(100, 0.2, 1)[1].tolist()
    assert split(100, 0.2, 0)[1].tolist() != sorted(EpochSampler(100, 20, 0).batch(0).tolist())


@pytest.mark.parametrize(("n", "fraction"), [(10, 1.0), (10, -0.1), (0, 0.1), (1, 0.1)])
def test_a_split_that_cannot_be_is_refused(n: int, fraction: float) -> None:
    with pytest.raises(ConfigError):
        split(n, fraction, 0)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 300), block=st.integers(1, 20), window=st.integers(1, 80), seed=st.integers(0, 99))
def test_an_order_in_blocks_holds_every_cell_once(n: int, block: int, window: int, seed: int) -> None:
    order = Order(block, window)
    assert sorted(order.shuffled(n, seed, 2).tolist()) == list(range(n))
    assert order.shuffled(n, seed, 2).tolist() == order.shuffled(n, seed, 2).tolist()


def test_blocks_keep_neighbours_in_one_window_and_windows_mix_blocks() -> None:
    cells = Order(block=8, window=64).shuffled(640, 0, 0)
    for start in range(0, 640, 64):
        window = np.sort(cells[start : start + 64])
        assert all((np.diff(run) == 1).all() for run in np.split(window, 8))
        assert (np.diff(cells[start : start + 64]) != 1).mean() > 0.8
        assert window.max() - window.min() > 100


def test_true_random_order_keeps_no_neighbours() -> None:
    assert (np.diff(Order().shuffled(10_000, 0, 0).astype(int)) == 1).mean() < 0.01


def test_a_random_subset_is_sorted_and_without_repeats() -> None:
    cells = random_subset(1000, 50, 3)
    assert (np.diff(cells.astype(int)) > 0).all()
    assert len(cells) == 50
    assert random_subset(20, 50, 3).tolist() == list(range(20))
