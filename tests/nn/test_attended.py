from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cell_lm.data.loading.batch import CellBatch
from cell_lm.nn.attended import attended_genes
from cell_lm.nn.layout import HiddenGenes

Batches = Callable[..., CellBatch]


def random_scores(batch: CellBatch) -> Tensor:
    """Scores with many ties."""
    return torch.randint(0, 4, (batch.tokens,), generator=torch.Generator().manual_seed(0)).float()


def by_definition(batch: CellBatch, score: Tensor, hidden: Tensor | None, most: int) -> list[int]:
    """Hidden genes, and of the others the highest scores; on ties the first of the vocabulary."""
    chosen: list[int] = []
    for start, stop in zip(batch.offsets, batch.offsets[1:], strict=False):
        tokens = range(int(start), int(stop))
        kept = [t for t in tokens if hidden is not None and hidden[t]]
        shown = sorted(set(tokens) - set(kept), key=lambda t: (-float(score[t]), int(batch.genes[t])))
        chosen += sorted(kept + shown[:most])
    return chosen


def test_the_highest_scores_are_chosen_ties_by_vocabulary_and_hidden_genes_besides(make_batch: Batches) -> None:
    batch = make_batch()
    score, hidden = random_scores(batch), torch.arange(batch.tokens) % 4 == 0
    for given in (None, hidden):
        masked = None if given is None else HiddenGenes.of(given, batch)
        found = attended_genes(batch, score, masked, 5)
        assert found is not None
        assert found.index.tolist() == by_definition(batch, score, given, 5)
        few = found.of(batch)
        assert torch.equal(few.genes, batch.genes[found.index])
        expected = [np.searchsorted(found.index.numpy(), offset) for offset in batch.offsets]
        assert few.offsets.tolist() == expected
        if masked is not None:
            among = masked.among(found.index)
            assert torch.equal(few.genes[among.index], batch.genes[hidden])
            assert among.mask.sum() == hidden.sum()


def test_a_hidden_gene_that_is_not_predicted_competes_with_the_others(make_batch: Batches) -> None:
    batch = make_batch()
    score, hidden = random_scores(batch), torch.arange(batch.tokens) % 4 == 0
    predicted = torch.arange(batch.tokens) % 8 == 0
    masked = HiddenGenes.of(hidden, batch, predicted)
    found = attended_genes(batch, score, masked, 5)
    assert found is not None
    assert found.index.tolist() == by_definition(batch, score, predicted, 5)
    among = masked.among(found.index)
    assert torch.equal(found.index[among.index], torch.nonzero(predicted).squeeze(1))
    assert torch.equal(among.mask, hidden[found.index])


def test_the_order_of_the_genes_of_a_cell_does_not_matter(make_batch: Batches) -> None:
    batch = make_batch()
    score = random_scores(batch)
    backwards = torch.from_numpy(
        np.concatenate([np.arange(a, b)[::-1] for a, b in zip(batch.offsets, batch.offsets[1:], strict=False)])
    )
    moved = CellBatch(
        batch.genes[backwards],
        batch.bins[backwards],
        batch.values[backwards],
        batch.offsets,
        batch.malignancy,
        batch.slots,
        batch.depths,
    )
    first, second = attended_genes(batch, score, None, 5), attended_genes(moved, score[backwards], None, 5)
    assert first is not None
    assert second is not None
    one, two = first.of(batch), second.of(moved)
    for i in range(len(batch)):
        assert set(one[i : i + 1].genes.tolist()) == set(two[i : i + 1].genes.tolist())


def test_scores_of_any_size_keep_their_order(make_batch: Batches) -> None:
    batch = make_batch(cells=1, longest=20)
    score = torch.logspace(-30, 30, batch.tokens)[torch.randperm(batch.tokens)]
    for dtype in (torch.float32, torch.float64):
        found = attended_genes(batch, score.to(dtype), None, 2)
        assert found is not None
        assert set(found.index.tolist()) == set(torch.topk(score, 2).indices.tolist())


def test_cells_with_few_genes_are_read_whole(make_batch: Batches) -> None:
    batch = make_batch()
    assert attended_genes(batch, random_scores(batch), None, int(batch.lengths.max())) is None
    hidden = HiddenGenes.of(torch.ones(batch.tokens, dtype=torch.bool), batch)
    assert attended_genes(batch, random_scores(batch), hidden, 1) is None
