from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cell_lm.data.loading.batch import concatenate
from cell_lm.data.obs.malignancy import UNKNOWN
from cell_lm.errors import ConfigError, InputError
from cell_lm.pretraining.batches import MOST_VALIDATION_BATCHES, Batches, held_out
from toy_run import toy_cells, toy_config


def ranks(rank: int = 0, size: int = 1) -> Any:
    return SimpleNamespace(rank=rank, size=size, device=torch.device("cpu"))


def test_whole_batches_are_held_out_and_not_too_many() -> None:
    assert held_out(1000, 64, 0.05) == 50
    assert held_out(10_000, 64, 0.05) == 448
    assert held_out(1_000_000, 64, 0.05) == 64 * MOST_VALIDATION_BATCHES
    assert held_out(1000, 64, 0.0) == 0
    assert held_out(20, 64, 0.05) == 2


def test_held_out_cells_are_never_trained_on() -> None:
    batches = Batches([toy_cells(50), toy_cells(30, seed=1)], toy_config(validation=0.3), ranks())
    train, held = set(batches.train_cells.tolist()), set(batches.validation_cells.tolist())
    assert len(train) + len(held) == 80
    assert not train & held
    assert [len(batch) for batch in batches.validation()] == [8, 8, 8]


def test_the_split_depends_on_the_seed_alone() -> None:
    def split(seed: int) -> list[int]:
        return Batches([toy_cells(50)], toy_config(seed=seed, validation=0.3), ranks()).validation_cells.tolist()

    assert split(1) == split(1)
    assert split(1) != split(2)


def test_the_ranks_share_every_batch_and_keep_its_slots() -> None:
    config = toy_config(validation=0.4)
    whole, parts = (
        Batches([toy_cells()], config, ranks()),
        [Batches([toy_cells()], config, ranks(r, 3)) for r in range(3)],
    )
    pairs = [(whole.train(5), [part.train(5) for part in parts])]
    pairs += zip(
        whole.validation(), [list(batch) for batch in zip(*(p.validation() for p in parts), strict=True)], strict=True
    )
    assert len(pairs) == 3
    for batch, shares in pairs:
        joined = concatenate(shares)
        assert torch.equal(batch.genes, joined.genes)
        assert torch.equal(batch.malignancy, joined.malignancy)
        assert joined.slots.tolist() == list(range(len(batch)))


@pytest.mark.parametrize("malignancy", ["none", "one"])
def test_without_both_states_discrimination_is_left_out_and_said_so(malignancy: str) -> None:
    batches = Batches([toy_cells(malignancy=malignancy)], toy_config(), ranks())
    assert batches.train(0).malignancy.unique().tolist() == [UNKNOWN]
    assert len(batches.notes) == 1
    assert "discrimination" in batches.notes[0]
    assert "0 normal" in batches.notes[0]


def test_states_of_two_datasets_count_together() -> None:
    batches = Batches([toy_cells(), toy_cells(seed=1, malignancy="none")], toy_config(), ranks())
    assert batches.labelled
    assert batches.notes == []


def test_nothing_is_said_about_states_that_nobody_asked_for() -> None:
    config = toy_config(objectives={"discrimination": {"weight": 0.0}})
    assert Batches([toy_cells(malignancy="none")], config, ranks()).notes == []


def test_discrimination_alone_without_labels_is_refused() -> None:
    only = {"masked": {"weight": 0.0}, "contrastive": {"weight": 0.0}}
    with pytest.raises(ConfigError, match="the only objective"):
        Batches([toy_cells(malignancy="one")], toy_config(objectives=only), ranks())


@pytest.mark.parametrize(
    ("settings", "size", "message"),
    [
        ({"batch_size": 47}, 1, "batch_size = 47 with 38 cells"),
        ({"batch_size": 4}, 5, "rank 0 of 5"),
        ({"batch_size": 30, "validation": 0.1}, 6, "5 cells to validate on, over 6 ranks"),
    ],
)
def test_too_few_cells_are_refused(settings: dict[str, Any], size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Batches([toy_cells()], toy_config(**settings), ranks(0, size))


def test_no_datasets_are_refused() -> None:
    with pytest.raises(InputError, match="no datasets"):
        Batches([], toy_config(), ranks())
