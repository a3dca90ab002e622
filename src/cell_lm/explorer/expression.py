"""Genes for the explorer: found by any of their names, log-normalised, and chosen where none are named."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.cells import gene_names
from cell_lm.data.formats.source import Source, select
from cell_lm.data.read_options import ReadOptions
from cell_lm.data.scale.check import check_scale
from cell_lm.data.scale.logarithms import to_linear
from cell_lm.errors import GeneError
from cell_lm.explorer.content import GENE_LEVELS, Gene, quantise
from cell_lm.genes import Vocabulary, resolve_genes
from cell_lm.genes.nomenclature import Nomenclature
from cell_lm.genes.reader import NameReader
from cell_lm.genes.spelling import as_text

if TYPE_CHECKING:
    from anndata import AnnData

MOST_GENES = 50
TOTAL = 10_000
"""Counts of each cell after normalisation."""
CELLS_TO_CHOOSE_ON = 5_000
FEWEST_CELLS = 3
"""Fewest cells that express a gene for it to be chosen."""


class Expression:
    """Expression of the cells that are drawn, in ln(1 + counts per 10,000); the AnnData is only read.

    Parameters
    ----------
    adata
        The cells.
    rows
        Those that are drawn.
    read
        Matrix, scale and names of genes.
    where
        The input, for messages.

    Raises
    ------
    InputError, CountsError
        The matrix cannot be read, or is not on the stated scale (all entries are checked).
    """

    def __init__(self, adata: AnnData, rows: NDArray[np.int64], read: ReadOptions, *, where: str) -> None:
        source = select(adata, read.layer, name=where)
        self.where = source.where
        self.names = [as_text(name) for name in gene_names(source, read.gene_column)]
        check_scale(
            source.X,
            read.scale,
            where=source.where,
            cells=source.obs.index,
            genes=self.names,
            elsewhere=source.elsewhere,
        )
        self.symbols = _symbols(source, self.names)
        drawn = sparse.csr_matrix(source.X[rows])
        linear = to_linear(drawn, read.scale)
        self._totals = np.asarray(linear.sum(axis=1), np.float64).ravel()
        self._linear: sparse.csc_matrix[Any] = linear.tocsc()

    def find(self, wanted: str) -> str:
        """Return the symbol of a gene by any of its names.

        Raises
        ------
        GeneError
            It is not among the genes of the input; close names are suggested.
        """
        name = as_text(wanted).strip()
        if name in self._columns:
            return name
        if name in self.names:
            return self.symbols[self.names.index(name)]
        account = NameReader(Vocabulary.human(), [name]).account(name)
        if account.symbol in self._columns:
            return account.symbol
        close = difflib.get_close_matches(name.upper()[:60], self._columns, n=3, cutoff=0.6)
        fix = f"Close names: {', '.join(close)}" if close else "Name genes of the file, by symbol, alias or Ensembl id"
        known = f" ({name[:60]} is {account.symbol})" if account.symbol and account.symbol != name else ""
        raise GeneError(f"no gene '{name[:60]}'{known} among its {len(self.names):,}", where=self.where, fix=fix)

    def genes(self, asked: Mapping[str, str]) -> tuple[Gene, ...]:
        """Return genes by symbol, each with the name that was asked for and all its others."""
        others = Nomenclature.human().other_names(asked)
        return tuple(self._gene(symbol, [name, *others[symbol]]) for symbol, name in asked.items())

    def _gene(self, symbol: str, others: Sequence[str]) -> Gene:
        """Return a gene, quantised; columns of the same gene are added up."""
        values = self._values(self._columns[symbol])
        high = float(values.max(initial=0.0))
        also = [self.names[column] for column in self._columns[symbol]]
        names = dict.fromkeys(name for name in (*others[:1], *also, *others[1:]) if name and name != symbol)
        return Gene(symbol, tuple(names), high, quantise(values, 0.0, high, GENE_LEVELS).astype(np.uint8))

    def markers(self, codes: NDArray[np.uint16], seed: int, most: int = MOST_GENES) -> list[str]:
        """Return the genes that are most specific to one label, in turn for each label.

        A gene belongs to the label with its highest mean. It is the more specific, the further that mean is above the
        next label's, in standard deviations within labels (plus their median, against genes that hardly vary).
        """
        rows = self._some_cells(seed)
        X, columns = self._candidates(rows)
        here, groups = np.unique(codes[rows], return_inverse=True)
        if len(here) < 2 or not len(columns):
            return self.variable(seed, most)
        sizes = np.bincount(groups)[:, None]
        member = sparse.csr_matrix((np.ones(len(rows)), (groups, np.arange(len(rows)))), (len(here), len(rows)))
        means = (member @ X).toarray() / sizes
        squares = np.asarray(X.multiply(X).sum(axis=0)).ravel() - (sizes * means**2).sum(axis=0)
        deviation = np.sqrt(np.maximum(squares, 0.0) / max(1, len(rows) - len(here)))
        second, first = np.partition(means, -2, axis=0)[-2:]
        score = (first - second) / np.maximum(deviation + np.median(deviation), np.finfo(np.float64).tiny)
        order, home = np.argsort(-score, kind="stable"), means.argmax(axis=0)
        turn = np.empty(len(order), np.int64)
        for group in range(len(here)):
            own = order[home[order] == group]
            turn[own] = np.arange(len(own))
        return self._symbols_of(columns[np.lexsort((-score, turn))], most)

    def variable(self, seed: int, most: int = MOST_GENES) -> list[str]:
        """Return the genes with the largest variance."""
        from sklearn.utils.sparsefuncs import mean_variance_axis

        X, columns = self._candidates(self._some_cells(seed))
        if not len(columns):
            return []
        variance = mean_variance_axis(X, axis=0)[1]
        return self._symbols_of(columns[np.argsort(-variance, kind="stable")], most)

    @cached_property
    def _columns(self) -> dict[str, list[int]]:
        """Columns of the matrix by symbol."""
        found: dict[str, list[int]] = {}
        for column, symbol in enumerate(self.symbols):
            if symbol:
                found.setdefault(symbol, []).append(column)
        return found

    def _symbols_of(self, columns: NDArray[np.int64], most: int) -> list[str]:
        names = dict.fromkeys(self.symbols[column] for column in columns.tolist())
        return [name for name in names if name][:most]

    def _values(self, columns: list[int]) -> NDArray[np.float64]:
        counts = np.asarray(self._linear[:, columns].sum(axis=1), np.float64).ravel()
        return np.log1p(TOTAL * counts / np.maximum(self._totals, np.finfo(np.float64).tiny))

    def _some_cells(self, seed: int) -> NDArray[np.int64]:
        cells = self._linear.shape[0]
        chosen = np.random.default_rng(seed).permutation(cells)[:CELLS_TO_CHOOSE_ON]
        return np.sort(chosen)

    def _candidates(self, rows: NDArray[np.int64]) -> tuple[sparse.csr_matrix[Any], NDArray[np.int64]]:
        """Return the log-normalised expression of some cells, and the columns: genes of at least three of them."""
        some = self._linear[rows].astype(np.float64).tocsr()
        expressed = np.asarray((some > 0).sum(axis=0)).ravel()
        columns = np.flatnonzero(expressed >= min(FEWEST_CELLS, max(1, len(rows))))
        totals = np.maximum(self._totals[rows], np.finfo(np.float64).tiny)
        normal = sparse.csr_matrix(sparse.diags(TOTAL / totals) @ some[:, columns])
        normal.data = np.log1p(normal.data)
        return normal, columns


def _symbols(source: Source, names: Sequence[str]) -> list[str]:
    """Return the approved symbol of each gene, or its own name where it has none or the genes are not human."""
    try:
        table = resolve_genes(names, where=source.where, min_overlap=1).table
    except GeneError:
        return list(names)
    return [str(symbol) or name for symbol, name in zip(table["symbol"], names, strict=True)]
