from __future__ import annotations

import numpy as np
import pytest

from cell_lm.data.loading.balance import BalancedSampler, quotas
from cell_lm.data.loading.sampler import Order

GROUPS = np.repeat([0, 1, 2, -1], [600, 90, 5, 105])


def shares(sampler: BalancedSampler, steps: int) -> np.ndarray:
    seen = [np.bincount(GROUPS[sampler.batch(step)] + 1, minlength=4) for step in range(steps)]
    return np.roll(np.sum(seen, axis=0) / (steps * sampler.batch_size), -1)


@pytest.mark.parametrize("balance_strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("order", [Order(), Order(block=8, window=64)])
def test_shares_come_out_as_they_were_asked_for(balance_strength: float, order: Order) -> None:
    sampler = BalancedSampler(GROUPS, 16, 3, order, balance_strength=balance_strength)
    weights = np.array([600.0, 90.0, 5.0]) ** (1 - balance_strength)
    expected = np.append((1 - 105 / 800) * weights / weights.sum(), 105 / 800)
    assert shares(sampler, 400) == pytest.approx(expected, abs=0.003)


def test_a_rare_group_is_never_twice_in_a_batch_and_the_others_fill_its_place() -> None:
    sampler = BalancedSampler(GROUPS, 64, 0)
    assert sampler.quotas[2] == 5
    assert sampler.quotas.sum() == pytest.approx(64)
    for step in range(120):
        cells = sampler.batch(step)
        assert len(set(cells.tolist())) == len(cells) == 64
        assert np.count_nonzero(GROUPS[cells] == 2) == 5


def test_a_mutant_that_draws_with_replacement_would_repeat_cells() -> None:
    rng = np.random.default_rng(0)
    weights = 1 / np.bincount(GROUPS + 1)[GROUPS + 1]
    drawn = [rng.choice(len(GROUPS), 64, p=weights / weights.sum()) for _ in range(20)]
    assert any(len(set(cells.tolist())) < 64 for cells in drawn)


def test_within_a_pass_each_cell_of_a_group_comes_once_and_over_passes_all_do() -> None:
    sampler = BalancedSampler(np.repeat([0, 1], [40, 12]), 8, 1)
    rare = [set(cells[cells >= 40].tolist()) for cells in map(sampler.batch, range(30))]
    assert all(len(rare[step] | rare[step + 1] | rare[step + 2]) == 12 for step in range(0, 30, 3))


def test_a_batch_is_a_function_of_the_step_whatever_was_asked_before() -> None:
    once = [BalancedSampler(GROUPS, 10, 7).batch(step).tolist() for step in range(25)]
    sampler = BalancedSampler(GROUPS, 10, 7)
    assert all(sampler.batch(step).tolist() == once[step] for step in (24, 0, 13, 13, 5))
    assert once != [BalancedSampler(GROUPS, 10, 8).batch(step).tolist() for step in range(25)]


def test_more_groups_than_cells_in_a_batch_all_come_in_time() -> None:
    groups = np.repeat(np.arange(30), 20)
    sampler = BalancedSampler(groups, 4, 0)
    seen = np.bincount(np.concatenate([groups[sampler.batch(step)] for step in range(300)]), minlength=30)
    assert seen.sum() == 1200
    assert seen.min() >= 35
    assert seen.max() <= 45


def test_the_shares_of_the_ranks_joined_are_the_batch() -> None:
    sampler = BalancedSampler(GROUPS, 9, 0)
    parts = [sampler.share(4, rank, 2)[0].tolist() for rank in range(2)]
    assert [*parts[0], *parts[1]] == sampler.batch(4).tolist()


def test_quotas_of_rare_groups_go_to_the_others_and_cells_of_no_group_keep_their_share() -> None:
    assert quotas(np.array([1, 9]), 0, 8, 1.0).tolist() == [1, 7, 0]
    assert quotas(np.array([2, 3]), 95, 50, 1.0).tolist() == [1.25, 1.25, 47.5]
    assert quotas(np.array([10, 10]), 5, 25, 1.0).tolist() == [10, 10, 5]


def test_how_often_cells_of_a_group_come_is_said() -> None:
    often = BalancedSampler(np.repeat([0, 1], [90, 10]), 10, 0).repetition
    assert often[:2] == pytest.approx([5 / 9, 5.0])
