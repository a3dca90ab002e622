"""The audit of a file's genes: how each was matched or dropped, and the counts in the order of the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.errors import GeneError
from cell_lm.files import JSON, write_csv

Status = Literal["matched", "renamed", "merged", "non-coding", "unknown", "ambiguous"]
"""The result for an input gene.

matched
    used; the input has its approved symbol.
renamed
    used; the input has an Ensembl id, a previous or withdrawn symbol, an alias or another spelling.
merged
    used; another input gene is the same gene of the vocabulary, and their counts are summed.
non-coding
    dropped; in HGNC, but not as a protein-coding gene (RNA genes, pseudogenes, and the segments of
    immunoglobulins and T-cell receptors such as IGKC or TRAC, which HGNC lists as a separate group).
unknown
    dropped; not the name of a human gene (or of a gene outside this vocabulary: then ``how`` says so).
ambiguous
    dropped; the name of several genes, listed in ``how``.
"""
STATUSES: tuple[Status, ...] = get_args(Status)
USED: tuple[Status, ...] = ("matched", "renamed", "merged")
Matrix: TypeAlias = "sparse.csr_matrix | sparse.csc_matrix | sparse.csr_array | sparse.csc_array | NDArray[Any]"
LISTED = 200
"""Most genes of each status that a summary lists."""
_SHOWN = 3
_CLIP = 40


@dataclass(frozen=True)
class AuditSummary:
    """A short form of an audit, for a report or a log: counts, and the first genes of each status but ``matched``.

    Attributes
    ----------
    genes : int
        Input genes.
    vocabulary : int
        Genes of the vocabulary.
    found : int
        Different genes of the vocabulary that were found.
    counts : dict
        Input genes by :data:`Status`; all statuses are present.
    listed : dict
        Status to at most :data:`LISTED` of ``(gene, symbol, how)``; for all but ``matched``.
    """

    genes: int
    vocabulary: int
    found: int
    counts: dict[str, int]
    listed: dict[str, list[tuple[str, str, str]]]

    @property
    def coverage(self) -> float:
        """Fraction of the vocabulary that was found, 0 to 1."""
        return self.found / self.vocabulary if self.vocabulary else 0.0

    def __str__(self) -> str:
        """Return one line: genes used and how they were found, genes dropped, coverage."""
        used = sum(self.counts[status] for status in USED)
        dropped = self.genes - used
        parts = [f"{used:,} of {self.genes:,} genes used: {self._phrases(USED)}"]
        if dropped:
            parts.append(f"dropped {dropped:,}: {self._phrases(tuple(s for s in STATUSES if s not in USED))}")
        return "; ".join([*parts, f"{100 * self.coverage:.1f} % of the vocabulary"])

    def _phrases(self, statuses: tuple[Status, ...]) -> str:
        counted = [
            f"{self.counts[status]:,} {status}{self._examples(status)}" for status in statuses if self.counts[status]
        ]
        return ", ".join(counted) or "none"

    def _examples(self, status: Status) -> str:
        if status in ("matched", "non-coding"):
            return ""
        told = [(gene, symbol) for gene, symbol, _ in self.listed[status] if gene != symbol][:_SHOWN]
        names = [f"{clip(gene)} -> {symbol}" if symbol else clip(gene) for gene, symbol in told]
        if not names:
            return ""
        more = ", …" if self.counts[status] > len(names) else ""
        return f" ({', '.join(names)}{more})"

    def to_json(self) -> JSON:
        """Return it as JSON, at most some 60 kB."""
        listed: JSON = {status: [list(row) for row in rows] for status, rows in self.listed.items()}
        counts: JSON = dict(self.counts)
        return {
            "genes": self.genes,
            "vocabulary": self.vocabulary,
            "found": self.found,
            "counts": counts,
            "listed": listed,
        }

    @classmethod
    def from_json(cls, value: JSON) -> AuditSummary:
        """Read what :meth:`to_json` returned; raise :class:`~cell_lm.errors.GeneError` for anything else."""
        try:
            fields: Any = value
            listed = {
                str(status): [(str(a), str(b), str(c)) for a, b, c in fields["listed"][status]]
                for status in STATUSES[1:]
            }
            counts = {str(status): int(fields["counts"][status]) for status in STATUSES}
            return cls(int(fields["genes"]), int(fields["vocabulary"]), int(fields["found"]), counts, listed)
        except (KeyError, TypeError, ValueError) as error:
            raise GeneError(f"it is no summary of a gene audit ({type(error).__name__}: {error})") from None


@dataclass(frozen=True)
class GeneAudit:
    """The result for every gene of an input.

    Attributes
    ----------
    table : DataFrame
        One row per input gene, in the order of the input: ``gene`` (as given), ``symbol`` (approved, ``""`` where there
        is no single one), ``index`` (in the vocabulary, -1 if dropped), ``status`` (:data:`Status`), ``how`` (by what
        kind of name it was found; for dropped genes why, or the candidates).
    n_genes : int
        Size of the vocabulary.
    """

    table: pd.DataFrame
    n_genes: int

    def __len__(self) -> int:
        return len(self.table)

    @property
    def columns(self) -> NDArray[np.int64]:
        """Index in the vocabulary of every input gene, int64 [input genes]; -1 if it is dropped."""
        return self.table["index"].to_numpy(np.int64)

    @property
    def used(self) -> int:
        """Input genes that are used."""
        return int((self.columns >= 0).sum())

    @property
    def found(self) -> NDArray[np.int64]:
        """Indices of the genes of the vocabulary that were found, sorted, each once."""
        columns = self.columns
        return np.unique(columns[columns >= 0])

    @property
    def coverage(self) -> float:
        """Fraction of the vocabulary that was found, 0 to 1."""
        return len(self.found) / self.n_genes if self.n_genes else 0.0

    def counts(self) -> dict[str, int]:
        """Count the input genes by :data:`Status`; all statuses are present, in a fixed order."""
        counted = self.table["status"].value_counts()
        return {status: int(counted.get(status, 0)) for status in STATUSES}

    def shorten(self) -> AuditSummary:
        """Return the short form of the audit."""
        listed = {str(status): self._rows(status) for status in STATUSES if status != "matched"}
        return AuditSummary(len(self), self.n_genes, len(self.found), self.counts(), listed)

    def _rows(self, status: str) -> list[tuple[str, str, str]]:
        rows = self.table.loc[self.table["status"] == status, ["gene", "symbol", "how"]].head(LISTED)
        return [(gene, symbol, how) for gene, symbol, how in rows.itertuples(index=False)]

    def summary(self) -> str:
        """Return the audit in one line."""
        return str(self.shorten())

    def to_json(self) -> JSON:
        """Return counts and the first genes of each status as JSON; :meth:`AuditSummary.from_json` reads it."""
        return self.shorten().to_json()

    def write_csv(self, path: Path, *, replace: bool = True) -> None:
        """Write the whole table, one line per gene, atomically; see :func:`cell_lm.files.write_csv`."""
        write_csv(self.table, path, replace=replace)

    def aggregate(self, X: Matrix) -> sparse.csr_matrix:
        """Put the columns of a matrix in the order of the vocabulary; sum those of one gene, leave out dropped ones.

        Parameters
        ----------
        X
            [cells, input genes]: CSR, CSC or dense. It is not changed.

        Returns
        -------
        csr_matrix
            [cells, vocabulary] with sorted indices, a copy. Floats become float32. Integers keep their type,
            unless genes are merged and a sum does not fit: then int64.

        Raises
        ------
        GeneError
            If ``X`` does not have one column per input gene.
        """
        if X.ndim != 2 or X.shape[1] != len(self):
            raise GeneError(
                f"a matrix of shape {X.shape} does not have one column for each of {len(self):,} audited genes"
            )
        cells = sparse.csr_matrix(X)
        result = sparse.csr_matrix(cells @ self._selection(cells.dtype))
        result.sort_indices()
        return _narrow(result, cells.dtype)

    def _selection(self, dtype: np.dtype[Any]) -> sparse.csr_matrix:
        """Return the matrix [input genes, vocabulary] with a one at the target of each gene."""
        columns = self.columns
        rows = np.flatnonzero(columns >= 0)
        merges = len(rows) > len(self.found)
        if dtype == np.bool_ or dtype == np.float16:
            dtype = np.dtype(np.float32)
        elif merges and dtype.kind in "iu" and dtype.itemsize < 8:
            dtype = np.dtype(np.int64)  # the sum of two uint8 may not fit a uint8
        return sparse.csr_matrix((np.ones(len(rows), dtype), (rows, columns[rows])), shape=(len(self), self.n_genes))


def _narrow(result: sparse.csr_matrix, dtype: np.dtype[Any]) -> sparse.csr_matrix:
    """Convert floats and booleans to float32, and integers to the input's type if every sum fits."""
    if dtype.kind not in "iu":
        return result.astype(np.float32, copy=False)
    if result.dtype == dtype:
        return result
    limits = np.iinfo(dtype)
    fits = result.nnz == 0 or (result.data.min() >= limits.min and result.data.max() <= limits.max)
    return result.astype(dtype) if fits else result


def clip(name: str) -> str:
    """Return a name for a message: printable, quoted where it is empty or odd, cut after 40 characters."""
    text = name if name.isprintable() and name.strip() == name and name else repr(name)
    return text if len(text) <= _CLIP else f"{text[:_CLIP]}…"
