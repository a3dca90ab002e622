"""Vectors of cell lines from bulk expression: of genes, of CellLM, or both.

=============  =========================================================================================================
``genes``      log2 of 1 + expression, one feature per gene of the vocabulary that the lines of the fit have
``cell_lm``    embedding of the encoder. Bulk is read as one cell: linear expression (2^x - 1 of RMA or log2 TPM, counts
               as they are) is tokenised like counts; of more genes than the encoder reads, the most expressed are kept
``both``       both, side by side, each feature standardised
=============  =========================================================================================================

The user states what the matrix holds, and it is checked: ``rma`` (log2 intensities: no zeros, at most 20), ``log2_tpm``
(log2 of 1 + TPM: zeros, non-negative), or ``counts``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cell_lm.config import Precision
from cell_lm.data.read_options import ReadOptions
from cell_lm.data.scale.check import Scale
from cell_lm.data.view import CellView
from cell_lm.errors import CountsError, ModelError
from cell_lm.model import CellLM
from cell_lm.remedies import option
from cell_lm.tasks.estimator import Progress
from cell_lm.tasks.features import CACHE, Device, embed_cells

Expression: TypeAlias = Literal["rma", "log2_tpm", "counts"]
Vectors: TypeAlias = Literal["genes", "cell_lm", "both"]
Floats = NDArray[np.float64]

SCALES: dict[Expression, Scale] = {"rma": "log2", "log2_tpm": "log2", "counts": "counts"}
_LARGEST_RMA = 20.0
_RMA_ZEROS = 0.01
"""Largest fraction of entries that are zero in log2 intensities; TPM and counts have many more."""


def reading(read: ReadOptions, expression: Expression) -> ReadOptions:
    """Return the options with the scale that belongs to a kind of expression."""
    return replace(read, scale=SCALES[expression])


@contextmanager
def explained() -> Iterator[None]:
    """Name ``expression`` as the remedy where a matrix is on another scale: nothing else is stated here."""
    try:
        yield
    except CountsError as error:
        told = option("expression")
        if error.fix is not None and told in error.fix:
            raise
        fix = f"State what it holds by {told}: rma, log2_tpm or counts"
        raise CountsError(error.found, where=error.where, fix=fix) from None


def gene_values(cells: CellView, genes: NDArray[np.int64], expression: Expression) -> Floats:
    """Return log2(1 + expression), float64 [lines, genes]; counts and TPM are scaled to a million per line before.

    Genes that the cells lack are NaN.

    Raises
    ------
    CountsError
        The values are not what they are said to be.
    """
    X = cells.X
    if expression == "rma":
        _check_rma(X.nnz, len(cells) * len(cells.genes), float(X.data.max(initial=0.0)), cells.name)
        linear = X[:, genes].toarray().astype(np.float64)
    else:
        if expression == "log2_tpm":
            _check_tpm(X.nnz, len(cells) * len(cells.genes), cells.name)
        totals = np.maximum(np.asarray(X.sum(axis=1), np.float64).ravel(), 1e-12)
        linear = X[:, genes].toarray().astype(np.float64) * (1e6 / totals)[:, None]
    values = np.log2(1.0 + linear)
    values[:, ~np.isin(genes, cells.genes)] = np.nan
    return np.asarray(values)


def _check_rma(stored: int, entries: int, largest: float, where: str) -> None:
    zeros = 1 - stored / max(entries, 1)
    if zeros > _RMA_ZEROS:
        found = f"said to be RMA (log2 of intensities), but {zeros:.0%} of its entries are zero"
        raise CountsError(found, where=where, fix=f"If it is log2 of 1 + TPM, say {option('expression', 'log2_tpm')}")
    if np.log2(1 + largest) > _LARGEST_RMA:
        found = f"said to be RMA, but its largest value is {np.log2(1 + largest):.3g}"
        raise CountsError(found, where=where, fix="Give log2 of intensities, which are at most 16 or so")


def _check_tpm(stored: int, entries: int, where: str) -> None:
    if stored >= entries * (1 - _RMA_ZEROS / 10):
        found = "said to be log2 of 1 + TPM, but hardly any of its entries is zero"
        raise CountsError(found, where=where, fix=f"If it is RMA, say {option('expression', 'rma')}")


def embeddings(
    cells: CellView, model: CellLM | None, device: Device, precision: Precision, progress: Progress = None
) -> Floats:
    """Return the embedding of every line by the encoder, float64 [lines, width].

    Raises
    ------
    ModelError
        There is no model.
    """
    if model is None:
        fix = 'Pass the model, or choose cells="genes"'
        raise ModelError("vectors of CellLM were asked for, but there is no model", where="cells", fix=fix)
    return embed_cells(model, cells, device=device, precision=precision, cache=CACHE, progress=progress).astype(
        np.float64
    )
