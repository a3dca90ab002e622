from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from cell_lm.data.scale.logarithms import guess_scale, undo_log1p


def logged(X: sparse.csr_matrix, factors: np.ndarray, dtype: type = np.float32) -> sparse.csr_matrix:
    return np.log1p(sparse.diags_array(factors) @ X).tocsr().astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_counts_come_back_exactly_from_any_scaling_within_cells(dtype: type, counts: sparse.csr_matrix) -> None:
    factors = np.random.default_rng(1).lognormal(1.0, 1.0, counts.shape[0])
    back = undo_log1p(sparse.csr_matrix(logged(counts, factors, dtype)))
    assert back.dtype == np.float32
    assert np.array_equal(back.toarray(), counts.toarray())


def test_a_cell_without_a_gene_counted_once_keeps_its_proportions(counts: sparse.csr_matrix) -> None:
    even = (2 * counts).tocsr()
    back = undo_log1p(sparse.csr_matrix(logged(even, np.full(counts.shape[0], 3.0))))
    assert np.array_equal(back.toarray(), counts.toarray())
    odd = sparse.csr_matrix(np.array([[2.0, 3.0, 7.0]]))
    assert undo_log1p(np.log1p(odd)).toarray()[0] == pytest.approx([2, 3, 7])


def test_what_was_never_counts_is_undone_as_it_is() -> None:
    tpm = sparse.csr_matrix(np.random.default_rng(0).uniform(0.1, 900, (5, 40)))
    assert undo_log1p(np.log1p(tpm)).toarray() == pytest.approx(tpm.toarray(), rel=1e-5)
    assert guess_scale(np.log1p(tpm)) is None


def test_undoing_leaves_the_input_alone(counts: sparse.csr_matrix) -> None:
    X = np.log1p(counts)
    before = X.copy()
    back = undo_log1p(X)
    assert all(
        not np.shares_memory(a, b) for a, b in [(back.data, X.data), (back.indices, X.indices), (back.indptr, X.indptr)]
    )
    assert (before != X).nnz == 0


def test_an_overflowing_base_is_passed_over_in_silence() -> None:
    X = sparse.csr_matrix(np.random.default_rng(0).uniform(0, 2_000, (10, 30)))
    assert guess_scale(X) is None


def test_a_total_shared_by_two_cells_only_proves_nothing() -> None:
    X = np.random.default_rng(0).uniform(1, 900, (6, 50))
    X *= 1e6 / X.sum(axis=1, keepdims=True)
    assert guess_scale(sparse.csr_matrix(X[:2])) is None
    guess = guess_scale(sparse.csr_matrix(X))
    assert guess is not None
    assert guess.base is None
    assert guess.total == pytest.approx(1e6)
    assert not guess.are_counts
