"""Checks of labels and genes before a fit, and of arrays that are read back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.preprocessing import normalize

from cell_lm.data.view import CellView
from cell_lm.errors import CountsError, GeneError, InputError
from cell_lm.remedies import option
from cell_lm.tasks.estimator import LEAST_COVERAGE, Arrays, checked
from cell_lm.tasks.sensitivity.components import Components

FEWEST = 2
"""Fewest labelled cells of each kind."""


def check_labels(labels: NDArray[Any], column: str, sensitive: str, where: str) -> None:
    """Raise :class:`InputError` unless there are two labels, one of them ``sensitive``, with two cells each."""
    names, sizes = np.unique(labels.astype(str), return_counts=True)
    told = ", ".join(f"'{name}' ({size:,})" for name, size in zip(names[:5], sizes, strict=False))
    if len(names) > 2:
        fix = "Leave two labels; cells with a blank are learned from as unlabelled"
        raise InputError(f"obs column '{column}' holds {len(names):,} labels: {told}", where=where, fix=fix)
    if sensitive not in names:
        found = f"none of the labels of obs column '{column}' is '{sensitive}': {told}"
        raise InputError(found, where=where, fix=f"Say which label means sensitive: {option('sensitive')}")
    if sizes.min() < FEWEST:
        found = f"obs column '{column}' labels too few cells: {told}"
        raise InputError(found, where=where, fix=f"Label at least {FEWEST} cells of each kind")


def restored(arrays: Arrays, name: str) -> Components | None:
    """Return components that were saved under a name; None if there are none."""
    if f"{name}.genes" not in arrays:
        return None
    genes = arrays[f"{name}.genes"]
    if genes.dtype != np.int64 or genes.ndim != 1:
        raise ValueError(f"'{name}.genes' are not whole numbers in a row")
    mean = checked(arrays, f"{name}.mean", (len(genes),))
    return Components(genes, mean, checked(arrays, f"{name}.directions", (-1, len(genes))))


def common_genes(parts: list[CellView]) -> NDArray[np.int64]:
    """Return the genes that all parts have; refuse parts that do not fit together."""
    first = parts[0]
    genes = first.genes
    for other in parts[1:]:
        if other.z_scored != first.z_scored:
            found = "the unlabelled cells are on another kind of scale than the labelled ones"
            raise CountsError(found, where=other.name, fix="Read both as expression, or both as z-scores")
        genes = np.intersect1d(genes, other.genes, assume_unique=True)
        if len(genes) < LEAST_COVERAGE * len(first.genes):
            found = f"only {len(genes):,} of the {len(first.genes):,} genes of the labelled cells were measured"
            raise GeneError(found, where=other.name, fix="Give unlabelled cells with the same genes")
    return np.asarray(genes, np.int64)


def spreads_of(values: sparse.csr_matrix[np.float32]) -> NDArray[np.float64]:
    """Return the standard deviation of each gene over cells of length 1."""
    unit = normalize(values)
    mean = np.asarray(unit.mean(axis=0)).ravel()
    squares = np.asarray(unit.multiply(unit).mean(axis=0)).ravel()
    return np.asarray(np.sqrt(np.maximum(squares - mean**2, 0.0)), np.float64)
