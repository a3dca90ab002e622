"""Whether the linear path of an encoder covers the tissue of some cells: the genes that vary among them.

The linear path reads the genes of its reference, which vary among the cells of its corpus. Genes that vary only in
another tissue are not among them, and CLS then misses what separates the types of that tissue.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

VARIABLE = 200
"""Genes whose variance counts: those that vary most."""
LEAST = 0.8
"""Below this fraction CLS is not trusted: ``python -m studies.foreign_tissue`` measures what it brings by fraction. Set
with the five data sets of that study in sight."""


def covered_variance(log_expression: sparse.csr_matrix, genes: NDArray[np.int64]) -> float:
    """Return the fraction of the variance of the most variable genes that is of given genes.

    Parameters
    ----------
    log_expression
        [cells, vocabulary].
    genes
        int64: genes of the vocabulary.

    Returns
    -------
    float
        0 to 1; 1 if no gene varies.
    """
    mean = np.asarray(log_expression.mean(axis=0), np.float64).ravel()
    variance = np.asarray(log_expression.multiply(log_expression).mean(axis=0), np.float64).ravel() - mean**2
    most = np.argsort(-variance, kind="stable")[:VARIABLE]
    total = float(variance[most].sum())
    return float(variance[most][np.isin(most, genes)].sum()) / total if total > 0 else 1.0
