"""One compiled pass over a block of cells: genes in the order of the vocabulary, and quality measures."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.compiled import compiled
from cell_lm.genes import GeneAudit

_MITOCHONDRIAL = ("MT-", "MT.", "MT_")


class Gathered(NamedTuple):
    """Cells over the genes of the vocabulary: C cells, E entries.

    Attributes
    ----------
    genes : ndarray
        uint16 [E]: sorted within a cell, each once.
    counts : ndarray
        float32 [E]: above 0.
    lengths : ndarray
        int64 [C]: entries of each cell.
    totals, mitochondrial : ndarray
        float64 [C]: sum over all genes of the file, and over the mitochondrial ones.
    largest : ndarray
        float32 [C]: largest count of a gene of the vocabulary; infinite if not all are integers.
    """

    genes: NDArray[np.uint16]
    counts: NDArray[np.float32]
    lengths: NDArray[np.int64]
    totals: NDArray[np.float64]
    mitochondrial: NDArray[np.float64]
    largest: NDArray[np.float32]


def mitochondrial(audit: GeneAudit) -> NDArray[np.bool_]:
    """Return which genes of a file are mitochondrial, bool [input genes].

    A gene is mitochondrial if its approved symbol or its name in the file starts with ``MT-``, whether it is in the
    vocabulary or not (the ribosomal RNAs MT-RNR1 and MT-RNR2 are not).
    """
    genes, symbols = audit.table["gene"].tolist(), audit.table["symbol"].tolist()
    named = (_bare(gene).upper().startswith(_MITOCHONDRIAL) for gene in genes)
    pairs = zip(named, symbols, strict=True)
    return np.array([name or symbol.startswith("MT-") for name, symbol in pairs], bool)


def _bare(gene: str) -> str:
    """Return a name without the prefix of a human genome."""
    return gene.removeprefix("GRCh38_").removeprefix("hg19_").removeprefix("hg38_").lstrip("_")


class Gatherer:
    """Puts the genes of a file's cells in the order of the vocabulary.

    Parameters
    ----------
    audit
        Audit of the file's genes; those of one gene of the vocabulary are summed.
    """

    def __init__(self, audit: GeneAudit) -> None:
        self._columns, self._mitochondrial = audit.columns, mitochondrial(audit)
        self._buffer = np.zeros(audit.n_genes, np.float32)

    @property
    def mitochondrial_genes(self) -> int:
        """Number of mitochondrial genes of the file."""
        return int(self._mitochondrial.sum())

    def __call__(self, X: sparse.csr_matrix[Any]) -> Gathered:
        """Gather a block: [cells, input genes], non-negative; zeros may be stored. It is not changed."""
        cells, entries = X.shape[0], len(X.data)
        genes, counts = np.empty(entries, np.uint16), np.empty(entries, np.float32)
        lengths, largest = np.empty(cells, np.int64), np.empty(cells, np.float32)
        totals, mito_totals = np.empty(cells), np.empty(cells)
        data = X.data.astype(np.float32, copy=False)
        end = _gather(
            data, X.indices, X.indptr, self._columns, self._mitochondrial, self._buffer,
            genes, counts, lengths, totals, mito_totals, largest,
        )  # fmt: skip
        return Gathered(genes[:end], counts[:end], lengths, totals, mito_totals, largest)


@compiled
def _gather(
    data: NDArray[np.float32],
    indices: NDArray[Any],
    indptr: NDArray[Any],
    columns: NDArray[np.int64],
    mitochondrial: NDArray[np.bool_],
    buffer: NDArray[np.float32],
    genes: NDArray[np.uint16],
    counts: NDArray[np.float32],
    lengths: NDArray[np.int64],
    totals: NDArray[np.float64],
    mito_totals: NDArray[np.float64],
    largest: NDArray[np.float32],
) -> int:
    """Scatter-add each cell into a row of the whole vocabulary and read it in order, which needs no sorting."""
    end = 0
    for cell in range(lengths.size):
        total, mito_total, begin = 0.0, 0.0, end
        low, high = buffer.size, -1
        for k in range(indptr[cell], indptr[cell + 1]):
            value, column = data[k], columns[indices[k]]
            total += value
            if mitochondrial[indices[k]]:
                mito_total += value
            if column >= 0:
                buffer[column] += value
                low, high = min(low, column), max(high, column)
        most = np.float32(0.0)
        for gene in range(low, high + 1):
            value = buffer[gene]
            if value != 0.0:
                genes[end], counts[end] = gene, value
                most = max(most, value if value == np.floor(value) else np.float32(np.inf))
                buffer[gene] = 0.0
                end += 1
        lengths[cell], largest[cell] = end - begin, most
        totals[cell], mito_totals[cell] = total, mito_total
    return end
