"""Warnings about cells that can be used, but perhaps not as they are meant to be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.remedies import option

USUAL_MIN_GENES = 200
"""Expressed genes below which pretrain and prepare leave out a cell by default."""
_EMPTY, _EMPTY_PART = 20, 0.01
"""Median number of expressed genes, and its fraction of the measured ones, below which most cells are probably empty
droplets; cells of a targeted panel express a larger fraction."""
_FEW = 0.25
"""Fraction of the vocabulary below which genes were probably selected."""
_MANY_LOST = 0.1
"""Fraction of the cells with few genes above which a warning is due."""


def empty_droplets(median: float, found: int) -> str | None:
    """Return a warning if most cells are probably empty droplets.

    Parameters
    ----------
    median
        Median number of expressed genes in a cell.
    found
        Genes of the vocabulary that were measured.
    """
    if median >= min(_EMPTY, _EMPTY_PART * found):
        return None
    return (
        f"half of the cells express {median:,.0f} genes or fewer: this is probably an unfiltered matrix, mostly of "
        f"empty droplets. Use the filtered one (filtered_feature_bc_matrix), or leave them out with "
        f"{option('min_genes', USUAL_MIN_GENES)}"
    )


def selected_genes(found: int, coverage: float) -> str | None:
    """Return a warning if the genes were probably selected.

    Parameters
    ----------
    found
        Genes of the vocabulary that were measured.
    coverage
        The same as a fraction of the vocabulary, 0 to 1.
    """
    if coverage >= _FEW:
        return None
    return (
        f"only {found:,} genes ({coverage:.0%}) of the vocabulary are there, as in a selection of highly variable "
        "genes or a targeted panel: the rest of each cell is unseen. Give all measured genes if you have them "
        f"(adata.raw is read with {option('layer', 'raw')})"
    )


def few_genes(genes_per_cell: NDArray[np.int64]) -> str | None:
    """Return a warning if pretraining would leave out many cells.

    Parameters
    ----------
    genes_per_cell
        Expressed genes of the vocabulary in each cell, int64 [cells].
    """
    lost, cells = int((genes_per_cell < USUAL_MIN_GENES).sum()), len(genes_per_cell)
    if lost <= _MANY_LOST * cells:
        return None
    return (
        f"pretrain and prepare would leave out {lost:,} of {cells:,} cells, which express fewer than "
        f"{USUAL_MIN_GENES:,} genes of the vocabulary. Lower it there with --min-genes if that is not meant"
    )


def repeated_names(names: pd.Index[Any]) -> str | None:
    """Return a warning if names of cells are not unique."""
    again = names.duplicated()
    if not again.any():
        return None
    first = str(names[again][0])
    return (
        f"{int(names.duplicated(keep=False).sum()):,} cells share their name with another one (the first: '{first}'). "
        "cell-lm goes by position, but joining results by name would mix them: adata.obs_names_make_unique()"
    )


def cautions(
    genes_per_cell: NDArray[np.int64] | None, found: int, coverage: float, names: pd.Index[Any]
) -> Iterator[str]:
    """Yield all warnings about cells; None: their genes are unknown."""
    texts = [repeated_names(names)]
    if genes_per_cell is not None and len(genes_per_cell):
        median = float(np.median(genes_per_cell))
        texts = [empty_droplets(median, found), selected_genes(found, coverage), few_genes(genes_per_cell), *texts]
    yield from (text for text in texts if text is not None)
