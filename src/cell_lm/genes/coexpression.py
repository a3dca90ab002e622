"""Gene vectors from co-expression: genes whose expression varies together over cells get similar vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def coexpression_vectors(
    expression: sparse.csr_matrix[np.float32], width: int, *, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    r"""Factorise the matrix of cells by genes and return the factors of the genes.

    With the truncated singular value decomposition :math:`X \approx U S V^\top` the vector of gene g is
    :math:`V_g S^{1/2}`, scaled to standard deviation 1 over all numbers; the inner product of two genes
    is their co-expression :math:`X^\top X`, damped. This is latent semantic analysis of cells as documents (Deerwester
    et al. 1990).

    Parameters
    ----------
    expression
        [cells, genes]: log1p of counts per 10,000.
    width
        Width of the vectors. With fewer cells or expressed genes the last columns are 0.
    seed
        Random seed of the decomposition.

    Returns
    -------
    vectors, known
        float32 [genes, width], and bool [genes]: genes that any cell expresses; the others' vectors are 0.
    """
    from sklearn.utils.extmath import randomized_svd  # costs 40 MB and a second, and is needed only here

    known = np.bincount(expression.indices, minlength=expression.shape[1]) > 0
    rank = min(width, expression.shape[0], int(known.sum()))
    _, strength, right = randomized_svd(expression, rank, random_state=seed)
    vectors = np.zeros((expression.shape[1], width), np.float32)
    vectors[:, :rank] = right.T * np.sqrt(strength)
    return vectors / vectors[known, :rank].std(), known
