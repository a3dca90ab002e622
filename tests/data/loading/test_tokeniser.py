from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scanpy as sc
import torch
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from cell_lm.data import CellBatch, CellData, Tokeniser, from_anndata
from cell_lm.errors import ConfigError

Make = Callable[..., CellData]
Tokens = tuple[list[int], list[int], list[float]]


def reference(row: np.ndarray, bins: int, max_genes: int) -> Tokens:
    """The definition, in numpy: order by count and then by index, cut, put back into the order of the vocabulary."""
    expressed = np.flatnonzero(row)
    kept = np.sort(expressed[np.lexsort((expressed, -row[expressed]))][:max_genes])
    values = np.log1p(row[kept] * (1e4 / row.sum(dtype=np.float64))).astype(np.float32)
    return kept.tolist(), np.minimum(np.rint(values), bins - 1).astype(int).tolist(), values.tolist()


def tokens(batch: CellBatch, cell: int) -> Tokens:
    part = batch[cell : cell + 1]
    return part.genes.tolist(), part.bins.tolist(), part.values.tolist()


def same(one: CellBatch, other: CellBatch) -> bool:
    pairs = [
        (one.genes, other.genes),
        (one.bins, other.bins),
        (one.values, other.values),
        (one.malignancy, other.malignancy),
    ]
    return all(torch.equal(a, b) for a, b in pairs) and np.array_equal(one.offsets, other.offsets)


@pytest.mark.parametrize("max_genes", [1, 50, 200, 5_000])
@pytest.mark.parametrize("bins", [2, 6])
def test_tokens_are_those_of_the_definition(
    bins: int, max_genes: int, make_cells: Make, make_counts: Callable[..., sparse.csr_matrix]
) -> None:
    X = make_counts(cells=25)
    batch = Tokeniser(bins, max_genes)(make_cells(X), np.arange(25))
    for cell in range(25):
        genes, expected_bins, values = reference(X[[cell]].toarray()[0], bins, max_genes)
        assert tokens(batch, cell)[:2] == (genes, expected_bins)
        assert tokens(batch, cell)[2] == pytest.approx(values, rel=1e-6)


matrices = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 12)),
    elements=st.sampled_from([0, 0, 1, 1, 2, 3, 40, 5000, 0.25, 31.5, 32]),
).map(lambda X: np.where(X.sum(axis=1, keepdims=True) == 0, np.float32(1), X))


@settings(max_examples=300, deadline=None)
@given(X=matrices, bins=st.integers(2, 9), max_genes=st.integers(1, 14), data=st.data())
def test_any_cells_in_any_batch_give_the_tokens_of_the_definition(
    X: np.ndarray, bins: int, max_genes: int, data: st.DataObject, make_cells: Make
) -> None:
    index = np.array(data.draw(st.lists(st.integers(0, len(X) - 1), max_size=8)), np.int64)
    batch = Tokeniser(bins, max_genes)(make_cells(X), index)
    assert len(batch) == len(index)
    for place, row in enumerate(index):
        genes, expected_bins, values = reference(X[row], bins, max_genes)
        assert tokens(batch, place)[:2] == (genes, expected_bins)
        assert tokens(batch, place)[2] == pytest.approx(values, rel=1e-6)


def test_types_slots_and_states(make_cells: Make) -> None:
    cells = make_cells(np.tril(np.ones((4, 4))), np.array([0, 1, -1, 1], np.int8))
    batch = Tokeniser(6, 3)(cells, np.array([3, 0, 2]))
    assert (batch.genes.dtype, batch.bins.dtype, batch.values.dtype) == (torch.int64, torch.int64, torch.float32)
    assert (batch.malignancy.dtype, batch.slots.dtype, batch.offsets.dtype) == (torch.int64, torch.int64, np.int64)
    assert batch.offsets.tolist() == [0, 3, 4, 7]
    assert batch.malignancy.tolist() == [1, 0, -1]
    assert batch.slots.tolist() == [0, 1, 2]
    assert Tokeniser(6, 3).lengths(cells).tolist() == [1, 2, 3, 3]


def test_a_cell_is_the_same_bitwise_alone_and_in_company(make_cells: Make, counts: sparse.csr_matrix) -> None:
    cells, tokenise = make_cells(counts[:30]), Tokeniser(6, 150)
    whole = tokenise(cells, np.arange(30))
    for order in (np.arange(30)[::-1], np.random.default_rng(0).permutation(30)):
        batch = tokenise(cells, order)
        for place, cell in enumerate(order):
            assert tokens(batch, place) == tokens(whole, int(cell)) == tokens(tokenise(cells, np.array([cell])), 0)


def test_of_equally_expressed_genes_the_first_are_kept(make_cells: Make) -> None:
    batch = Tokeniser(6, 3)(make_cells([[1, 1, 7, 1, 1, 1]]), np.array([0]))
    assert batch.genes.tolist() == [0, 1, 2]


def test_bins_round_to_the_nearest_not_down_and_end_at_the_ceiling(make_cells: Make) -> None:
    counts = np.array([[1, 4, 9, 40, 90, 9_000, 856]], np.float32)
    batch = Tokeniser(6, 100)(make_cells(counts), np.array([0]))
    assert batch.values.tolist() == pytest.approx(np.log1p(counts[0]).tolist(), rel=1e-6)
    assert batch.bins.tolist() == [1, 2, 2, 4, 5, 5, 5]


@pytest.mark.parametrize("total", [1e4, 1e6, None])
@pytest.mark.parametrize("max_genes", [150, 5_000])
def test_log1p_of_counts_on_any_total_gives_the_tokens_of_the_counts(
    total: float | None, max_genes: int, adata: AnnData
) -> None:
    logged = adata.copy()
    sc.pp.normalize_total(logged, target_sum=total)
    sc.pp.log1p(logged)
    tokenise, index = Tokeniser(6, max_genes), np.arange(adata.n_obs)
    assert same(tokenise(from_anndata(adata), index), tokenise(from_anndata(logged, scale="log1p"), index))


def test_a_row_that_is_not_there_is_refused_before_compiled_code_reads_it(make_cells: Make) -> None:
    for row in (-1, 3, 10**9):
        with pytest.raises(IndexError, match="of the 3 cells of toy"):
            Tokeniser(6, 10)(make_cells(np.eye(3)), np.array([0, row]))


def test_a_tokeniser_of_nothing_is_refused() -> None:
    for bins, max_genes in ((1, 10), (6, 0)):
        with pytest.raises(ConfigError):
            Tokeniser(bins, max_genes)
