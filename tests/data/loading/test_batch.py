from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

from cell_lm.data.loading.batch import CellBatch, concatenate

Batches = Callable[..., CellBatch]


def same(first: CellBatch, second: CellBatch) -> bool:
    tensors = all(
        torch.equal(getattr(first, k), getattr(second, k)) for k in ("genes", "bins", "values", "malignancy", "slots")
    )
    return tensors and np.array_equal(first.offsets, second.offsets)


@pytest.mark.parametrize("budget", [1, 40, 100, 10**6])
def test_chunks_hold_the_budget_and_join_to_the_whole(budget: int, make_batch: Batches) -> None:
    batch = make_batch()
    chunks = list(batch.chunks(budget))
    assert same(concatenate(chunks), batch)
    assert all(chunk.tokens <= budget or len(chunk) == 1 for chunk in chunks)
    for chunk, following in pairwise(chunks):
        assert chunk.tokens + following.lengths[0] > budget  # no chunk is smaller than it need be


def test_a_cut_keeps_the_slots_and_shares_the_memory(make_batch: Batches) -> None:
    batch = make_batch()
    part = batch[3:7]
    assert part.slots.tolist() == [3, 4, 5, 6]
    assert part.tokens == batch.lengths[3:7].sum()
    assert part.genes.data_ptr() == batch.genes[batch.offsets[3] :].data_ptr()
    assert len(batch[7:3]) == 0
    with pytest.raises(IndexError):
        batch[::2]


def test_keeping_some_genes_keeps_the_cells_and_a_cell_that_would_lose_all_keeps_all(make_batch: Batches) -> None:
    batch = make_batch()
    wanted = batch.genes % 2 == 0
    wanted[: batch.offsets[1]] = False
    kept = batch.keep(wanted)
    assert len(kept) == len(batch)
    assert same(kept[0:1], batch[0:1])
    for i in range(1, len(batch)):
        genes = batch[i : i + 1].genes
        expected = genes[genes % 2 == 0] if (genes % 2 == 0).any() else genes
        assert torch.equal(kept[i : i + 1].genes, expected)
    assert torch.equal(kept.slots, batch.slots)
