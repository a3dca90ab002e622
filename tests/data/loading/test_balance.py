from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell_lm.data.loading import balance
from cell_lm.data.loading.balance import BalancedSampler, quotas, whole_numbers
from cell_lm.data.loading.sampler import Order

GROUPS = np.repeat([0, 1, 2, -1], [600, 90, 5, 105])


class Case(NamedTuple):
    groups: np.ndarray
    batch_size: int
    seed: int
    order: Order
    balance_strength: float

    def sampler(self) -> BalancedSampler:
        groups, batch_size, seed, order, strength = self
        return BalancedSampler(groups, batch_size, seed, order, balance_strength=strength)


@st.composite
def cases(draw: st.DrawFn, balance_strength: st.SearchStrategy[float] | None = None) -> Case:
    sizes, loose = draw(st.lists(st.integers(1, 50), min_size=1, max_size=5)), draw(st.integers(0, 30))
    groups = np.random.default_rng(0).permutation(np.repeat([*range(len(sizes)), -1], [*sizes, loose]))
    order = draw(st.sampled_from([Order(), Order(block=4, window=16)]))
    strength = st.sampled_from([0.0, 0.3, 0.5, 1.0]) if balance_strength is None else balance_strength
    batch_size = draw(st.integers(-(-len(groups) // 20), len(groups)))
    return Case(groups, batch_size, draw(st.integers(0, 2**64 - 1)), order, draw(strength))


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_no_batch_holds_a_cell_twice_and_every_cell_of_a_group_is_seen_before_any_is_seen_again(case: Case) -> None:
    sampler, seen = case.sampler(), np.zeros(len(case.groups), int)
    of_groups = [np.flatnonzero(case.groups == group) for group in np.unique(case.groups)]
    for step in range(3 * sampler.steps_per_pass + 2):
        cells = sampler.batch(step)
        assert len(np.unique(cells)) == len(cells) == case.batch_size
        seen[cells] += 1
        assert all(np.ptp(seen[cells_of_one]) <= 1 for cells_of_one in of_groups)


@settings(max_examples=40, deadline=None)
@given(case=cases(balance_strength=st.just(0.0)))
def test_without_balance_one_pass_sees_every_cell(case: Case) -> None:
    sampler = case.sampler()
    assert sampler.steps_per_pass == -(-len(case.groups) // case.batch_size)
    seen = np.concatenate([sampler.batch(step) for step in range(sampler.steps_per_pass)])
    assert len(np.unique(seen)) == len(case.groups)


@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_the_cells_of_a_group_are_its_quota_rounded_and_come_out_whole_after_a_pass(case: Case) -> None:
    sampler, members = case.sampler(), np.unique(case.groups + 1, return_counts=True)[1]
    counted = np.zeros(len(sampler.quotas), int)
    for step in range(2 * sampler.steps_per_pass):
        counts = np.roll(np.bincount(case.groups[sampler.batch(step)] + 1, minlength=len(counted)), -1)
        assert (np.abs(counts - sampler.quotas) < 1).all()
        assert counts.tolist() == sampler.counts(step).tolist()
        assert sampler.counts_before(step).tolist() == counted.tolist()
        counted += counts
    assert counted.tolist() == (2 * sampler.cells_per_pass).tolist()
    assert np.count_nonzero(counted) == len(members)  # every group has its turn


@settings(max_examples=20, deadline=None)
@given(case=cases(), data=st.data())
def test_a_batch_is_a_function_of_the_step_whatever_was_asked_before(case: Case, data: st.DataObject) -> None:
    last = 4 * case.sampler().steps_per_pass
    sampler = case.sampler()
    once = [sampler.batch(step).tolist() for step in range(last)]
    for step in data.draw(st.lists(st.integers(0, last - 1), max_size=8)):
        assert sampler.batch(step).tolist() == once[step]
        assert case.sampler().batch(step).tolist() == once[step]


def test_one_rare_cell_in_a_hundred_is_seen_in_one_pass_without_balance_and_often_with_it() -> None:
    groups = np.repeat([0, 1], [1_000, 99_000])
    plain = BalancedSampler(groups, 128, 0, balance_strength=0.0)
    assert len(np.unique(np.concatenate([plain.batch(step) for step in range(782)]))) == 100_000
    seen = np.zeros(1_000, int)
    balanced = BalancedSampler(groups, 128, 0)
    for step in range(782):
        cells = balanced.batch(step)
        assert np.count_nonzero(cells < 1_000) == 64
        seen[cells[cells < 1_000]] += 1
    assert (seen.min(), seen.max()) == (50, 51)


@pytest.mark.parametrize("rare", [1_000, 120, 70], ids=["many batches", "two batches", "hardly a batch"])
def test_every_pass_through_a_rare_group_is_shuffled_anew(rare: int) -> None:
    sampler = BalancedSampler(np.repeat([0, 1], [rare, 3_000]), 128, 0)
    seen = [frozenset(batch[batch < rare].tolist()) for batch in map(sampler.batch, range(300))]
    assert len(set(seen)) > 200
    times = np.bincount([cell for cells in seen for cell in cells])
    assert (times.min(), times.max()) == (300 * 64 // rare, -(-300 * 64 // rare))


@pytest.mark.parametrize("balance_strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("order", [Order(), Order(block=8, window=64)])
def test_shares_come_out_as_they_were_asked_for(balance_strength: float, order: Order) -> None:
    sampler = BalancedSampler(GROUPS, 16, 3, order, balance_strength=balance_strength)
    weights = np.array([600.0, 90.0, 5.0]) ** (1 - balance_strength)
    expected = np.append((1 - 105 / 800) * weights / weights.sum(), 105 / 800)
    seen = sum(np.bincount(GROUPS[sampler.batch(step)] + 1, minlength=4) for step in range(400))
    assert np.roll(seen / 6400, -1) == pytest.approx(expected, abs=0.003)


def test_a_rare_group_is_never_twice_in_a_batch_and_the_others_fill_what_it_leaves() -> None:
    sampler = BalancedSampler(GROUPS, 64, 0)
    assert sampler.quotas[2] == 5
    for step in range(120):
        cells = sampler.batch(step)
        assert len(set(cells.tolist())) == len(cells) == 64
        assert np.count_nonzero(GROUPS[cells] == 2) == 5


def test_groups_that_give_less_than_a_cell_a_batch_take_turns() -> None:
    groups = np.repeat(np.arange(30), 20)
    sampler = BalancedSampler(groups, 4, 0)
    seen = np.bincount(np.concatenate([groups[sampler.batch(step)] for step in range(150)]), minlength=30)
    assert seen.tolist() == [20] * 30
    turns = np.flatnonzero([11 in groups[sampler.batch(step)] for step in range(150)])
    assert np.diff([-1, *turns, 150]).max() <= 15  # once in 7.5 steps on average, and never twice as long without


def test_the_shares_of_the_ranks_joined_are_the_batch() -> None:
    sampler = BalancedSampler(GROUPS, 9, 0)
    parts = [sampler.share(4, rank, 2)[0].tolist() for rank in range(2)]
    assert [*parts[0], *parts[1]] == sampler.batch(4).tolist()


def test_every_rank_gets_cells_of_every_common_group() -> None:
    sampler = BalancedSampler(np.repeat([0, 1], [500, 500]), 64, 0)
    for rank in range(4):
        cells = np.concatenate([sampler.share(step, rank, 4)[0] for step in range(10)])
        assert 0.3 < (cells < 500).mean() < 0.7


def test_seeds_have_orders_of_their_own() -> None:
    orders = [np.concatenate([BalancedSampler(GROUPS, 10, seed).batch(step) for step in range(5)]) for seed in (7, 8)]
    assert orders[0].tolist() != orders[1].tolist()


def test_quotas_of_rare_groups_go_to_the_others_and_cells_of_no_group_keep_their_share() -> None:
    assert quotas(np.array([1, 9]), 0, 8, 1.0).tolist() == [1, 7, 0]
    assert quotas(np.array([2, 3]), 95, 50, 1.0).tolist() == [1.25, 1.25, 47.5]
    assert quotas(np.array([10, 10]), 5, 25, 1.0).tolist() == [10, 10, 5]


def test_rounding_keeps_the_sum_and_rounds_the_largest_fractions_up() -> None:
    assert whole_numbers(np.array([1.2, 2.7, 3.1])).tolist() == [1, 3, 3]
    assert whole_numbers(np.array([2 - 1e-12, 1 + 1e-12])).tolist() == [2, 1]


def test_how_often_cells_of_a_group_come_is_said() -> None:
    often = BalancedSampler(np.repeat([0, 1], [90, 10]), 10, 0).repetition
    assert often[:2] == pytest.approx([5 / 9, 5.0])


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(0, 60),
    divisor=st.integers(1, 60),
    slope=st.integers(0, 90),
    starts=st.lists(st.integers(0, 500), min_size=1, max_size=4),
)
def test_the_sum_of_rounded_multiples_is_that_of_a_loop(n: int, divisor: int, slope: int, starts: list[int]) -> None:
    expected = [sum((slope * i + start) // divisor for i in range(n)) for start in starts]
    assert balance._floor_sum(n, divisor, slope, np.array(starts)).tolist() == expected
