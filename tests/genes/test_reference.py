from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from cell_lm.errors import InputError
from cell_lm.genes.reference import compute_reference, extend_reference, gene_loadings, pearson_residuals

GENES, CELLS = 120, 300


def made_counts(*, seed: int = 0, kinds: int = 4, first: int = 0, last: int = GENES) -> sparse.csr_matrix:
    """Cells of some kinds, whose markers are among the genes from ``first`` to ``last``; others are not expressed."""
    rng = np.random.default_rng(seed)
    share = np.zeros((kinds, GENES))
    share[:, first:last] = rng.dirichlet(np.full(last - first, 0.5), kinds)
    counts = rng.poisson(share[rng.integers(0, kinds, CELLS)] * rng.lognormal(6, 0.3, (CELLS, 1)))
    return sparse.csr_matrix(counts.astype(np.float32))


def test_the_components_are_the_principal_ones_of_the_residuals() -> None:
    counts = made_counts()
    dense = counts.toarray().astype(float)
    found = compute_reference(counts, 40, 8)
    assert np.allclose(found.profile, dense.sum(axis=0) / dense.sum(), atol=1e-7)
    depth = dense.sum(axis=1, keepdims=True) * found.profile
    every = np.zeros_like(dense)
    on = found.profile > 0
    every[:, on] = ((dense - depth)[:, on] / np.sqrt(depth + depth**2 / 100)[:, on]).clip(-10, 10)
    enough = dense.sum(axis=0) >= 3
    assert set(found.genes) == set(np.argsort(-np.where(enough, every.var(axis=0), 0))[:40])
    residuals = every[:, found.genes]
    _, strength, right = np.linalg.svd(residuals - residuals.mean(axis=0), full_matrices=False)
    for kind in range(3):  # the kinds; beyond them components are noise of nearly equal strength
        assert found.spread[kind] == pytest.approx(strength[kind] / np.sqrt(CELLS), rel=1e-3)
        assert abs(right[kind] @ found.components[:, kind]) == pytest.approx(1, abs=1e-3)
    assert np.allclose(found.components.T @ found.components, np.eye(8), atol=1e-5)
    assert np.allclose(found.centre, residuals.mean(axis=0) @ found.components, atol=1e-3)
    assert np.allclose(pearson_residuals(counts, found.profile, found.genes), residuals, atol=1e-4)


def test_more_components_than_the_rank_are_zero() -> None:
    found = compute_reference(made_counts(), 20, 32)
    assert found.components.shape == (20, 32)
    assert not found.components[:, 20:].any()
    assert not found.spread[20:].any()


def test_the_reference_is_a_function_of_cells_and_seed() -> None:
    one, two = compute_reference(made_counts(), 30, 6, seed=3), compute_reference(made_counts(), 30, 6, seed=3)
    assert all(np.array_equal(getattr(one, name), getattr(two, name)) for name in one.__dataclass_fields__)


def test_one_cell_is_refused() -> None:
    with pytest.raises(InputError, match="two cells"):
        compute_reference(made_counts()[:1], 30, 6)


def test_a_weight_near_zero_keeps_the_span_and_adds_genes() -> None:
    before = compute_reference(made_counts(last=80), 30, 6)
    new = made_counts(seed=1, first=60)
    after = extend_reference(before, new, 50, weight=1e-7)
    assert set(before.genes) < set(after.genes)
    assert len(after.genes) == 50
    old = np.zeros((GENES, 6))
    old[before.genes] = before.components
    now = after.components.astype(float)
    within = now.T @ old[after.genes]
    assert np.allclose(np.linalg.svd(within)[1], 1, atol=1e-3), "the same span"
    assert np.allclose(after.spread, before.spread, rtol=1e-3)
    assert np.allclose(after.profile, before.profile, atol=1e-6)


def test_a_weight_of_a_half_has_the_covariance_of_both() -> None:
    before, new = compute_reference(made_counts(last=80), 30, 30), made_counts(seed=1, first=60)
    after = extend_reference(before, new, 50, weight=0.5)
    assert np.allclose(after.profile, (before.profile + new.sum(axis=0).A1 / new.sum()) / 2, atol=1e-6)
    residuals = pearson_residuals(new, after.profile, after.genes).astype(float)
    old = np.zeros((50, 30))
    old[np.searchsorted(after.genes, before.genes)] = before.components * before.spread
    both = 0.5 * np.cov(residuals.T, bias=True) + 0.5 * old @ old.T
    strongest = np.linalg.eigvalsh(both)[::-1][:5]
    assert np.allclose(np.sort(after.spread.astype(float))[::-1][:5] ** 2, strongest, rtol=1e-2)
    new_only = extend_reference(before, new, 50, weight=0.999999)
    alone = pearson_residuals(new, new_only.profile, new_only.genes).astype(float)
    assert np.allclose(new_only.spread[:3] ** 2, np.linalg.eigvalsh(np.cov(alone.T, bias=True))[::-1][:3], rtol=1e-2)


def test_loadings_are_covariances_with_the_standardised_components() -> None:
    counts = made_counts(last=100)
    reference = compute_reference(counts, 40, 6)
    found = gene_loadings(counts, reference)
    components = pearson_residuals(counts, reference.profile, reference.genes) @ reference.components
    standard = (components - reference.centre) / reference.spread
    dense = counts.toarray()
    expressed = np.flatnonzero(dense.sum(axis=0))
    residuals = pearson_residuals(counts, reference.profile, expressed)
    assert np.allclose(found[expressed], residuals.T @ standard / CELLS, atol=1e-4)
    assert not found[dense.sum(axis=0) == 0].any()
