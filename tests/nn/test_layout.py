from __future__ import annotations

import numpy as np
import pytest
import torch

from cell_lm.data.loading.batch import CellBatch
from cell_lm.nn.layout import AttentionLayout, HiddenGenes, Segments, cell_of_gene

CPU = torch.device("cpu")
RAGGED = np.array([0, 3, 1, 900, 0, 40, 41, 42, 1000, 2])


def layout(queries: np.ndarray, keys: np.ndarray) -> AttentionLayout:
    return AttentionLayout(Segments.of(queries, CPU), Segments.of(keys, CPU))


def test_offsets_begin_at_zero_end_at_the_rows_and_are_int32() -> None:
    segments = Segments.of(RAGGED, CPU)
    assert segments.offsets.dtype == torch.int32
    assert segments.offsets.tolist() == [0, *np.cumsum(RAGGED)]
    assert (segments.longest, segments.rows, len(segments)) == (1000, RAGGED.sum(), 10)
    assert type(segments.longest) is int
    assert Segments.equal(3, 4, CPU).offsets.tolist() == [0, 4, 8, 12]
    assert Segments.of(RAGGED[:0], CPU).longest == 0


def test_every_row_goes_into_a_bucket_and_comes_back() -> None:
    cells = layout(RAGGED, RAGGED[::-1].copy())
    rows = torch.arange(1, RAGGED.sum() + 1, dtype=torch.float64)[:, None].requires_grad_()
    parts = list(cells.buckets.split_queries(rows))
    assert [part.shape[:2] for part in parts] == [b.shape[:2] for b in cells.buckets.buckets]
    assert sum(int((part > 0).sum()) for part in parts) == len(rows)
    back = cells.buckets.join_queries(parts)
    assert torch.equal(back, rows)
    (gradient,) = torch.autograd.grad((back * rows.detach()).sum(), rows)
    assert torch.equal(gradient, rows)


def test_a_bucket_tells_padding_from_the_rows_of_its_own_cells() -> None:
    cells = layout(np.ones_like(RAGGED), RAGGED)
    cell = torch.from_numpy(np.repeat(np.arange(len(RAGGED)), RAGGED)) + 1
    for bucket, part in zip(cells.buckets.buckets, cells.buckets.split_keys(cell), strict=True):
        assert torch.equal(part > 0, bucket.filled if bucket.filled is not None else torch.ones_like(part > 0))
        assert torch.equal(part, (bucket.cells[:, None] + 1) * (part > 0))


def test_buckets_are_few_and_hardly_padded() -> None:
    lengths = np.random.default_rng(0).lognormal(7, 0.45, 2000).astype(np.int64)
    buckets = layout(lengths, lengths).buckets.buckets
    assert len(buckets) <= 25
    assert sum(c * n for c, n, _ in (b.shape for b in buckets)) <= 1.25 * lengths.sum()


def test_a_cell_without_rows_is_padded_with_no_other() -> None:
    for bucket in layout(RAGGED, RAGGED).buckets.buckets:
        lengths = RAGGED[bucket.cells.numpy()]
        assert (lengths == 0).all() or (lengths > 0).all()


@pytest.mark.parametrize("which", ["some", "none", "all"])
def test_hidden_genes_are_counted_by_cell(which: str, make_batch: object) -> None:
    batch: CellBatch = make_batch()  # type: ignore[operator]
    hidden = {"some": batch.genes % 5 == 0, "none": batch.genes < 0, "all": batch.genes >= 0}[which]
    found = HiddenGenes.of(hidden, batch)
    cell = cell_of_gene(batch)
    assert cell.tolist() == np.repeat(np.arange(len(batch)), batch.lengths).tolist()
    assert found.lengths.tolist() == torch.bincount(cell[hidden], minlength=len(batch)).tolist()
    assert torch.equal(found.index, torch.nonzero(hidden).squeeze(1))
    assert torch.equal(found.mask, hidden)
