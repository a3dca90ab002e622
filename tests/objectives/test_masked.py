from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cell_lm.data.loading.batch import CellBatch
from cell_lm.nn.counter import Counter
from cell_lm.nn.layout import cell_of_gene
from cell_lm.objectives.masked import choose_hidden, choose_predicted, choose_read, frequent_bin_accuracy, masked_loss

Batches = Callable[..., CellBatch]


def test_genes_are_hidden_at_the_rate_and_read_at_the_share_independently(make_batch: Batches) -> None:
    batch = make_batch(cells=400, longest=100)
    counter = Counter.of(0, 0, batch.slots, 0)
    hidden, read = choose_hidden(batch, counter, 0.15), choose_read(batch, counter, 0.5)
    assert hidden.float().mean() == pytest.approx(0.15, abs=0.015)
    assert read.float().mean() == pytest.approx(0.5, abs=0.02)
    assert hidden[read].float().mean() == pytest.approx(0.15, abs=0.02)


def test_of_many_hidden_genes_so_many_are_predicted_on_average_and_of_few_all(make_batch: Batches) -> None:
    batch = make_batch(cells=600, longest=100)
    counter = Counter.of(0, 0, batch.slots, 0)
    hidden, predicted = choose_hidden(batch, counter, 0.5), choose_predicted(batch, counter, 0.5, 10)
    assert not (predicted & ~hidden).any()
    cell, lengths = cell_of_gene(batch), torch.from_numpy(batch.lengths)
    few = lengths[cell] <= 20
    assert torch.equal(predicted[few], hidden[few])
    found = torch.zeros(600).index_add(0, cell, predicted.float())
    assert found[lengths > 20].mean() == pytest.approx(10, abs=0.4)
    assert found[lengths > 80].mean() == pytest.approx(10, abs=1.0)
    assert torch.equal(choose_predicted(batch, counter, 0.5, 10**6), hidden)


def test_masked_loss_sums_over_genes_and_counts_the_right_ones() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 3.0]])
    loss, right = masked_loss(logits, torch.tensor([0, 0, 0]))
    by_hand = -torch.log_softmax(logits, 1)[:, 0].sum()
    assert loss == pytest.approx(float(by_hand))
    assert int(right) == 2  # a tie goes to the first bin
    assert masked_loss(logits.bfloat16(), torch.tensor([0, 0, 0]))[0].dtype == torch.float32


def test_the_naive_guess_is_learned_on_some_cells_and_judged_on_others(make_batch: Batches) -> None:
    batch = make_batch(cells=40)
    always = replace(batch, bins=batch.genes % 6)
    assert frequent_bin_accuracy(always, always, 6) == 1.0
    shifted = replace(batch, bins=(batch.genes + 1) % 6)
    assert frequent_bin_accuracy(always, shifted, 6) == 0.0
    unknown = replace(batch, genes=batch.genes + 1000, bins=torch.full_like(batch.bins, 3))
    mostly = replace(batch, bins=torch.full_like(batch.bins, 3))
    assert frequent_bin_accuracy(mostly, unknown, 6) == 1.0
