from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from cell_lm.data import from_anndata
from cell_lm.data.scale.logarithms import guess_scale, to_linear


def logged(X: sparse.csr_matrix, factors: np.ndarray, dtype: type = np.float32) -> sparse.csr_matrix:
    return np.log1p(sparse.diags_array(factors) @ X).tocsr().astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_counts_come_back_exactly_from_any_scaling_within_cells(dtype: type, counts: sparse.csr_matrix) -> None:
    factors = np.random.default_rng(1).lognormal(1.0, 1.0, counts.shape[0])
    back = to_linear(sparse.csr_matrix(logged(counts, factors, dtype)), "log1p")
    assert back.dtype == np.float32
    assert np.array_equal(back.toarray(), counts.toarray())


def test_a_cell_without_a_gene_counted_once_keeps_its_proportions(counts: sparse.csr_matrix) -> None:
    even = (2 * counts).tocsr()
    back = to_linear(sparse.csr_matrix(logged(even, np.full(counts.shape[0], 3.0))), "log1p")
    assert np.array_equal(back.toarray(), counts.toarray())
    odd = sparse.csr_matrix(np.array([[2.0, 3.0, 7.0]]))
    assert to_linear(np.log1p(odd), "log1p").toarray()[0] == pytest.approx([2, 3, 7])


def test_what_was_never_counts_is_undone_as_it_is() -> None:
    tpm = sparse.csr_matrix(np.random.default_rng(0).uniform(0.1, 900, (5, 40)))
    np.testing.assert_allclose(to_linear(np.log1p(tpm), "log1p").toarray(), tpm.toarray(), rtol=1e-5)
    assert guess_scale(np.log1p(tpm)) is None


def test_undoing_leaves_the_input_alone(counts: sparse.csr_matrix) -> None:
    X = np.log1p(counts)
    before = X.copy()
    back = to_linear(X, "log1p")
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


@pytest.mark.parametrize("base", [2.0, 10.0])
def test_counts_come_back_from_another_base_though_the_natural_one_was_stated(
    base: float, counts: sparse.csr_matrix
) -> None:
    X = sparse.csr_matrix(logged(counts, np.full(counts.shape[0], 3.0), np.float64)) / np.log(base)
    assert np.array_equal(to_linear(sparse.csr_matrix(X), "log1p").toarray(), counts.toarray())


@pytest.mark.parametrize(("scale", "base"), [("log1p", np.e), ("log2", 2.0), ("log10", 10.0), ("linear", None)])
def test_every_scale_is_undone_by_its_base(scale: str, base: float | None) -> None:
    tpm = sparse.csr_matrix(np.random.default_rng(0).uniform(0.1, 900, (5, 40)))
    X = tpm if base is None else np.log1p(tpm) / np.log(base)
    np.testing.assert_allclose(to_linear(sparse.csr_matrix(X), scale).toarray(), tpm.toarray(), rtol=1e-5)


def test_counts_are_returned_as_they_are(counts: sparse.csr_matrix) -> None:
    assert to_linear(counts, "counts") is counts


@pytest.mark.parametrize("base", [2.0, 10.0])
def test_cells_are_read_alike_from_whatever_logarithm_of_their_counts(
    base: float, make_adata: Callable[..., AnnData]
) -> None:
    adata = make_adata()
    expected = from_anndata(adata).X
    scaled = sparse.diags_array(1e4 / np.asarray(adata.X.sum(axis=1)).ravel()) @ adata.X
    adata.X = sparse.csr_matrix((np.log1p(scaled) / np.log(base)).astype(np.float32))
    assert (expected != from_anndata(adata, scale="log1p").X).nnz == 0
    assert (expected != from_anndata(adata, scale=f"log{base:.0f}").X).nnz == 0


def test_cells_of_tpm_are_read_alike_whether_logged_or_not(make_adata: Callable[..., AnnData]) -> None:
    adata = make_adata()
    lengths = np.random.default_rng(1).uniform(0.5, 9.0, adata.n_vars)
    tpm = adata.X.toarray() / lengths
    tpm *= 1e6 / tpm.sum(axis=1, keepdims=True)
    found = {}
    for scale, base in (("linear", None), ("log1p", np.e), ("log2", 2.0), ("log10", 10.0)):
        adata.X = tpm if base is None else np.log1p(tpm) / np.log(base)
        found[scale] = from_anndata(adata, scale=scale).X.toarray()
    for scale in ("log1p", "log2", "log10"):
        np.testing.assert_allclose(found[scale], found["linear"], rtol=1e-4, atol=1e-12)
