from __future__ import annotations

import numpy as np
from scipy import sparse

from cell_lm.genes.coexpression import coexpression_vectors


def two_programmes(cells: int = 200, genes: int = 40) -> sparse.csr_matrix:
    """Half of the genes follow one hidden programme, a quarter another; the last quarter is silent."""
    rng = np.random.default_rng(0)
    activity = rng.integers(0, 2, (cells, 2))
    rate = np.zeros((cells, genes))
    rate[:, :20], rate[:, 20:30] = activity[:, :1], activity[:, 1:]
    return sparse.csr_matrix(np.log1p(rng.poisson(rate)).astype(np.float32))


def test_genes_of_one_programme_lie_together() -> None:
    vectors, known = coexpression_vectors(two_programmes(), 4)
    assert known.tolist() == [True] * 30 + [False] * 10
    unit = vectors[:30] / np.linalg.norm(vectors[:30], axis=1, keepdims=True)
    cosine = unit @ unit.T
    within = np.concatenate([cosine[:20, :20].ravel(), cosine[20:, 20:].ravel()])
    assert within.mean() > cosine[:20, 20:].mean() + 0.2
    assert not vectors[30:].any()


def test_the_vectors_are_a_function_of_the_seed_and_have_unit_spread() -> None:
    first, second = (coexpression_vectors(two_programmes(), 4, seed=1)[0] for _ in range(2))
    assert np.array_equal(first, second)
    assert np.isclose(first[:30].std(), 1.0, atol=1e-5)


def test_fewer_cells_than_columns_leave_the_last_columns_zero() -> None:
    vectors, _ = coexpression_vectors(two_programmes(cells=3), 8)
    assert vectors.shape == (40, 8)
    assert not vectors[:, 3:].any()
    assert vectors[:, :3].any()
