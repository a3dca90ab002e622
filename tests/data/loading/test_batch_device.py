from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from cell_lm.data.loading.batch import CellBatch, to_device

Batches = Callable[..., CellBatch]
PINNED = ("genes", "bins", "values", "malignancy", "slots", "depths")


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Note what is pinned and copied to a GPU, without one: copies stay where they are."""
    noted: list[tuple[str, bool]] = []

    def pin(self: Tensor) -> Tensor:
        noted.append(("pin", True))
        return self.clone()

    def to(self: Tensor, device: torch.device, *, non_blocking: bool = False) -> Tensor:
        noted.append((device.type, non_blocking))
        return self

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "to", to)
    return noted


def test_a_batch_goes_to_a_gpu_from_pinned_memory_without_waiting(
    make_batch: Batches, moves: list[tuple[str, bool]]
) -> None:
    batch = make_batch()
    moved = batch.to(torch.device("cuda"))
    assert moves == [("pin", True)] * 6 + [("cuda", True)] * 6
    assert moved.offsets is batch.offsets
    for name in PINNED:
        assert torch.equal(getattr(moved, name), getattr(batch, name))


def test_nothing_is_pinned_for_the_cpu(make_batch: Batches, moves: list[tuple[str, bool]]) -> None:
    make_batch().to(torch.device("cpu"))
    to_device(np.arange(3), torch.device("cpu"))
    assert ("pin", True) not in moves


def test_arrays_go_to_a_gpu_from_pinned_memory(moves: list[tuple[str, bool]]) -> None:
    assert to_device(np.arange(3), torch.device("cuda")).tolist() == [0, 1, 2]
    assert moves == [("pin", True), ("cuda", True)]


def test_taken_genes_are_those_that_are_kept(make_batch: Batches) -> None:
    batch = make_batch()
    wanted = torch.rand(batch.tokens, generator=torch.Generator().manual_seed(0)) < 0.3
    wanted[: int(batch.offsets[1])] = False  # the first cell keeps all
    kept = batch.keep(wanted)
    assert kept.lengths[0] == batch.lengths[0]
    for cell in range(1, len(batch)):
        part = slice(*batch.offsets[cell : cell + 2])
        chosen = wanted[part] if wanted[part].any() else torch.ones_like(wanted[part])
        assert torch.equal(kept.genes[slice(*kept.offsets[cell : cell + 2])], batch.genes[part][chosen])
    assert torch.equal(kept.slots, batch.slots)
