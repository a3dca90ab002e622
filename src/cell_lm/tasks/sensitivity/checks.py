"""Checks of parameters, labels and genes before a fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_lm.data.view import CellView
from cell_lm.errors import ConfigError, CountsError, GeneError, InputError
from cell_lm.remedies import option
from cell_lm.tasks.estimator import LEAST_COVERAGE

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


def check_prior(prior: float | None, where: str) -> None:
    """Raise :class:`ConfigError` unless a stated fraction of sensitive cells is one."""
    if prior is not None and not 0 < prior < 1:
        raise ConfigError(f"prior is {prior}", where=where, fix="Give a fraction above 0 and below 1")


def check_certainty(certainty: float, where: str) -> None:
    """Raise :class:`ConfigError` unless this can be the probability of the more probable of two calls."""
    if not 0.5 <= certainty <= 1:
        raise ConfigError(f"certainty is {certainty}", where=where, fix="Give a probability from .5 to 1")


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
