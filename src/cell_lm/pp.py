"""Checks before anything is computed: what would be read from the cells, and every problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar, Unpack

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from cell_lm.data.cautions import cautions
from cell_lm.data.cells import CellData
from cell_lm.data.cells import align as align
from cell_lm.data.cells import gene_names as gene_names
from cell_lm.data.formats.readers import find_faults, read_source
from cell_lm.data.formats.sample_sheet import MALIGNANCY, SampleSheet
from cell_lm.data.formats.source import Matrix, Source, select
from cell_lm.data.obs.columns import find_column
from cell_lm.data.obs.labels import read_labels
from cell_lm.data.obs.malignancy import NORMAL, TUMOUR, UNKNOWN, MalignancyColumn, read_malignancy
from cell_lm.data.opening import is_store, refuse_models
from cell_lm.data.read_options import ReadKeywords, ReadOptions, read_options
from cell_lm.data.scale.check import ScaleReport, check_scale
from cell_lm.errors import CellLMError, InputError
from cell_lm.genes import GeneAudit, Vocabulary, resolve_genes

__all__ = [
    "CheckReport",
    "audit_genes",
    "check",
]

_T = TypeVar("_T")

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class CheckReport:
    """What would be read from the cells, and every problem found.

    Attributes
    ----------
    name : str
        The file, or ``adata``.
    problems : list of str
        Every problem, in the words of the error it would raise; empty if there is none.
    cells, genes : int or None
        Size of the matrix; None where it cannot be read at all.
    place : str or None
        Which matrix was checked: ``X``, ``raw`` or a layer.
    layers : tuple of str
        The other matrices, each as a value for ``layer=``.
    remarks : tuple of str
        Choices made to read the file.
    warnings : tuple of str
        What may not be meant: empty droplets, few genes, repeated names of cells.
    obs_columns : tuple of str
        Columns of ``obs``.
    audit : GeneAudit or None
        How the genes are matched; None where they are refused.
    scale : ScaleReport or None
        The scale of the matrix, with the evidence for it; None where it is refused.
    genes_per_cell : tuple of int or None
        Expressed genes of the vocabulary in a cell: least, lower quartile, median, upper quartile, most.
    empty_cells : int or None
        Cells that express no gene of the vocabulary, among those not left out.
    left_out : int or None
        Cells with fewer genes than ``min_genes``; None where the cells cannot be read.
    labels : dict or None
        Number of cells by label, most frequent first; None where no column was named, or it was refused.
    unlabelled : int or None
        Cells without label.
    malignancy_counts : dict or None
        Cells that are ``tumour``, ``normal`` and ``unknown``; None where it was not given, or was refused.
    """

    name: str
    problems: list[str] = field(default_factory=list)
    cells: int | None = None
    genes: int | None = None
    place: str | None = None
    layers: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    obs_columns: tuple[str, ...] = ()
    audit: GeneAudit | None = None
    scale: ScaleReport | None = None
    genes_per_cell: tuple[int, ...] | None = None
    empty_cells: int | None = None
    left_out: int | None = None
    labels: dict[str, int] | None = None
    unlabelled: int | None = None
    malignancy_counts: dict[str, int] | None = None

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def __str__(self) -> str:
        """Return the report as a few lines of text."""
        size = "" if self.cells is None else f"{self.cells:,} cells x {self.genes:,} genes, {self.place}"
        lines = [
            ("cells", size),
            *(("read as", remark) for remark in self.remarks),
            ("genes", self.audit.summary() if self.audit else ""),
            ("scale", self.scale.evidence if self.scale else ""),
            ("genes per cell", " / ".join(f"{n:,}" for n in self.genes_per_cell or ())),
            ("labels", _listed(self.labels)),
            ("malignancy", _listed(self.malignancy_counts)),
            *(("warning", warning) for warning in self.warnings),
            *(("problem", problem) for problem in self.problems),
        ]
        return "\n".join([self.name, *(f"  {what}: {text}" for what, text in lines if text)])


def check(
    adata: AnnData | str | Path,
    *,
    label: str | None = None,
    vocabulary: Vocabulary | None = None,
    samples: SampleSheet | None = None,
    **how: Unpack[ReadKeywords],
) -> CheckReport:
    """Check cells before use: report what would be read, and every problem instead of only the first.

    Parameters
    ----------
    adata
        Cells by human genes, or the path of a file in any supported format. It is not changed.
    label
        Column of ``obs`` to fit an annotation on; it must hold at least two labels.
    vocabulary
        Default: the human protein-coding genes.
    samples
        As in :func:`cell_lm.data.read_cells`; for files only.
    **how
        How the cells are read: see :func:`cell_lm.data.from_anndata`.

    Returns
    -------
    CheckReport
        Problems of the cells are listed in it and raise no error.

    Raises
    ------
    ConfigError
        An option of reading is unknown, or has a value that cannot be used.
    """
    read = read_options(**how)
    problems: list[str] = []
    name = "adata" if isinstance(adata, AnnData) else str(adata)
    source = _attempt(problems, lambda: _source(adata, read.layer, name, samples))
    if read.malignancy is None and samples is not None and samples.tells_malignancy:
        read = replace(read, malignancy=MalignancyColumn(MALIGNANCY))
    if source is None:
        return CheckReport(name, problems)
    faults, notes = ([], ()) if isinstance(adata, AnnData) else find_faults(adata)
    problems += faults
    trial = _Trial(source, read, vocabulary or Vocabulary.human())
    cells = _attempt(problems, trial.align)
    parts = _Parts(cells.audit, cells.report, cells.malignancy) if cells else trial.apart(problems)
    expressed = cells.genes_per_cell if cells else parts.expressed(source.X)
    labels = None if label is None else _attempt(problems, lambda: _count_labels(source, label))
    return CheckReport(
        name,
        problems,
        cells=source.X.shape[0],
        genes=source.X.shape[1],
        place=source.place,
        layers=source.elsewhere,
        remarks=(*source.remarks, *notes),
        warnings=parts.warnings(expressed, source),
        obs_columns=tuple(map(str, source.obs.columns)),
        audit=parts.audit,
        scale=parts.scale,
        genes_per_cell=None if expressed is None else tuple(int(n) for n in np.quantile(expressed, QUANTILES)),
        empty_cells=None if expressed is None else int((expressed == 0).sum()),
        left_out=None if cells is None else cells.dropped,
        labels=None if labels is None else labels[0],
        unlabelled=None if labels is None else labels[1],
        malignancy_counts=None
        if read.malignancy is None or parts.malignancy is None
        else _count_malignancy(parts.malignancy),
    )


def audit_genes(
    adata: AnnData,
    *,
    gene_column: str | None = None,
    vocabulary: Vocabulary | None = None,
) -> pd.DataFrame:
    """Return how each gene of the cells is matched, whether or not the cells could be used.

    Parameters
    ----------
    adata
        Cells by genes; only ``var`` is read.
    gene_column
        Column of ``var`` with the gene symbols or Ensembl ids; default: ``var_names``.
    vocabulary
        Default: the human protein-coding genes.

    Returns
    -------
    DataFrame
        One row per gene: ``gene``, ``symbol``, ``index``, ``status``, ``how`` (:class:`cell_lm.genes.GeneAudit`).

    Raises
    ------
    GeneError
        The genes are not human, or hardly any of them is in the vocabulary.
    """
    names = adata.var_names if gene_column is None else find_column(adata.var, gene_column, axis="var", where="adata")
    return resolve_genes(names, vocabulary, where="adata", min_overlap=0, var=adata.var).table


class _Parts(NamedTuple):
    """What could be read; None where it was refused."""

    audit: GeneAudit | None
    scale: ScaleReport | None
    malignancy: NDArray[np.int8] | None

    def warnings(self, expressed: NDArray[np.int64] | None, source: Source) -> tuple[str, ...]:
        """Return what may not be meant; ``expressed`` is the number of genes in each cell, where it is known."""
        found, coverage = (len(self.audit.found), self.audit.coverage) if self.audit else (0, 0.0)
        return tuple(cautions(expressed, found, coverage, source.obs.index))

    def expressed(self, X: Matrix) -> NDArray[np.int64] | None:
        """Return the number of expressed genes of the vocabulary in each cell; None where it is undefined."""
        if self.audit is None or self.scale is None:
            return None
        return np.asarray(self.audit.aggregate(X).count_nonzero(axis=1), np.int64)


class _Trial(NamedTuple):
    """The cells, and how they are read."""

    source: Source
    read: ReadOptions
    vocabulary: Vocabulary

    def align(self) -> CellData:
        """Read them; the first problem raises an error."""
        return align(self.source, self.read, self.vocabulary)

    def apart(self, problems: list[str]) -> _Parts:
        """Check genes, scale and malignancy separately after a failed read; add what is wrong to the problems."""
        source, more = self.source, list[str]()
        names = _attempt(more, lambda: gene_names(source, self.read.gene_column))
        audit = None if names is None else _attempt(more, lambda: self._audit(names))
        scale = _attempt(more, lambda: self._prove(names))
        malignancy = _attempt(more, lambda: read_malignancy(self.read.malignancy, source.obs, where=source.name))
        problems += [problem for problem in more if problem not in problems]
        return _Parts(audit, scale, malignancy)

    def _audit(self, names: list[object]) -> GeneAudit:
        source = self.source
        least, cells = self.read.min_overlap, source.obs.index
        return resolve_genes(names, self.vocabulary, where=source.where, min_overlap=least, var=source.var, cells=cells)

    def _prove(self, names: list[object] | None) -> ScaleReport:
        source, cells = self.source, self.source.obs.index
        return check_scale(
            source.X, self.read.scale, where=source.where, cells=cells, genes=names, elsewhere=source.elsewhere
        )


def _attempt(problems: list[str], function: Callable[[], _T]) -> _T | None:
    """Return the result of the function; on an error, note the problem and return None."""
    try:
        return function()
    except CellLMError as error:
        problems.append(str(error))
        return None


def _source(adata: AnnData | str | Path, layer: str | None, name: str, samples: SampleSheet | None) -> Source:
    if isinstance(adata, AnnData):
        return select(adata, layer, name=name)
    path = Path(adata)
    refuse_models(path)
    if is_store(path):
        raise InputError("it is a store", where=name, fix=f"Look into it with cell-lm inspect {name}")
    return read_source(path, layer, samples=samples)


def _count_labels(source: Source, column: str) -> tuple[dict[str, int], int]:
    """Return the number of cells by label, most frequent first, and the number of cells without a label."""
    text, known = read_labels(source.obs, column, where=source.name, classes=2)
    counted = Counter(text[known].tolist())
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0]))), int((~known).sum())


def _count_malignancy(malignancy: NDArray[np.int8]) -> dict[str, int]:
    names = {"tumour": TUMOUR, "normal": NORMAL, "unknown": UNKNOWN}
    return {name: int((malignancy == value).sum()) for name, value in names.items()}


def _listed(counts: dict[str, int] | None) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in (counts or {}).items())
