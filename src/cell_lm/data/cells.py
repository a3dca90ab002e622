"""Cells aligned to the vocabulary, from a file of any format: the input of every later step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.formats.cell_file import CellFile
from cell_lm.data.formats.readers import read_source
from cell_lm.data.formats.sample_sheet import MALIGNANCY, SampleSheet
from cell_lm.data.formats.source import Source, select
from cell_lm.data.obs.columns import find_column
from cell_lm.data.obs.malignancy import MalignancyColumn, read_malignancy
from cell_lm.data.read_options import ReadKeywords, ReadOptions, read_options
from cell_lm.data.scale.check import Scale, ScaleReport, check_scale
from cell_lm.data.scale.logarithms import to_linear
from cell_lm.errors import InputError
from cell_lm.genes import GeneAudit, Vocabulary, resolve_genes
from cell_lm.remedies import option


@dataclass(frozen=True)
class CellData:
    """Cells by genes of the vocabulary, on a linear scale, with the annotations of the cells.

    Attributes
    ----------
    name : str
        Name of the file, for messages and reports.
    X : csr_matrix
        float32 [cells, vocabulary], canonical: sorted, no duplicates, no stored zeros, no empty row. Counts; or, for
        ``log1p`` input, the inverse of the logarithm, which is proportional to the counts within each cell. For
        ``scaled`` input the z-scores, which may be negative.
    scale : {"counts", "log1p", "log2", "log10", "linear", "scaled"}
        Scale of the input.
    obs : DataFrame
        The user's ``obs``, unchanged, one row per cell.
    audit : GeneAudit
        How the genes of the input were matched.
    vocabulary : Vocabulary
        The genes of the columns.
    malignancy : ndarray
        int8 [cells]: ``NORMAL``, ``TUMOUR`` or ``UNKNOWN``.
    report : ScaleReport or None
        Result of the scan of the input.
    dropped : int
        Number of cells left out because they have too few genes.
    remarks : tuple of str
        Choices made to read the file, to show to the user.
    """

    name: str
    X: sparse.csr_matrix[np.float32]
    scale: Scale
    obs: pd.DataFrame
    audit: GeneAudit
    vocabulary: Vocabulary
    malignancy: NDArray[np.int8]
    report: ScaleReport | None = None
    dropped: int = 0
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = len(self.obs), len(self.vocabulary)
        if self.X.shape != shape or len(self.malignancy) != shape[0]:
            found = f"X is {self.X.shape[0]:,} x {self.X.shape[1]:,} with {len(self.malignancy):,} values of malignancy"
            raise InputError(f"{found}, for {shape[0]:,} cells and {shape[1]:,} genes", where=self.name)

    def __len__(self) -> int:
        return int(self.X.shape[0])

    @property
    def genes_per_cell(self) -> NDArray[np.int64]:
        """Expressed genes of the vocabulary in each cell, int64 [cells]."""
        return np.diff(self.X.indptr).astype(np.int64)

    @property
    def columns(self) -> list[str]:
        """Names of the columns of ``obs``."""
        return [str(name) for name in self.obs.columns]

    def column(self, name: str) -> pd.Series[Any]:
        """Return a column of ``obs``; :class:`~cell_lm.errors.InputError` if there is none of that name."""
        return find_column(self.obs, name, axis="obs", where=self.name)

    def __getitem__(self, cells: NDArray[Any] | slice) -> CellData:
        """Return some of the cells, by a boolean mask, an array of indices, or a slice."""
        rows = np.arange(len(self))[cells]
        return replace(self, X=self.X[rows], obs=self.obs.iloc[rows], malignancy=self.malignancy[rows])

    def keep(self, *, min_genes: int) -> CellData:
        """Leave out cells with fewer than ``min_genes`` expressed genes of the vocabulary; ``dropped`` is their number.

        Raises
        ------
        InputError
            No cell is left.
        """
        enough = self.genes_per_cell >= min_genes
        lost = int(np.count_nonzero(~enough))
        if lost == len(self):
            most = self.genes_per_cell.max()
            found = f"none of its {lost:,} cells has {min_genes:,} expressed genes of the vocabulary (at most {most:,})"
            raise InputError(found, where=self.name, fix=f"Lower {option('min_genes')}")
        return replace(self[enough], dropped=self.dropped + lost) if lost else self


def from_anndata(
    adata: AnnData,
    *,
    vocabulary: Vocabulary | None = None,
    name: str = "adata",
    **how: Unpack[ReadKeywords],
) -> CellData:
    """Align the cells of an AnnData to the vocabulary. The AnnData is only read.

    Parameters
    ----------
    adata
        Cells by genes; the matrix may be CSR, CSC or dense, of any real dtype, also in a view or backed (it is then
        read into memory).
    vocabulary
        Default: the human protein-coding genes.
    name
        Name of the data in messages.
    **how
        The fields of :class:`~cell_lm.data.ReadOptions` (``layer``, ``scale``, ``gene_column``, ``min_overlap``,
        ``min_genes``, ``malignancy``), or ``read=`` with a whole one.

    Raises
    ------
    ConfigError
        An option is unknown, or has a value that cannot be used.
    InputError
        There is no such layer or column, the matrix is damaged or empty, cells have no counts, or labels are not
        recognised.
    CountsError
        The matrix is not on the stated scale.
    GeneError
        The genes are not human, or there are too few.
    """
    read = read_options(**how)
    return align(select(adata, read.layer, name=name), read, vocabulary)


def read_cells(
    path: str | Path,
    *,
    vocabulary: Vocabulary | None = None,
    samples: SampleSheet | None = None,
    **how: Unpack[ReadKeywords],
) -> CellData:
    """Read a file of any format and align its cells to the vocabulary; see :func:`from_anndata` for the rest.

    Parameters
    ----------
    path
        The file, or the folder of a 10x matrix.
    vocabulary, **how
        As in :func:`from_anndata`.
    samples
        Sample sheet, if each file is a sample; its ``malignancy`` is used if ``malignancy`` is None.

    Raises
    ------
    InputError
        Also if the file is missing, of unknown format, truncated, damaged, or links to other files.
    """
    read = read_options(**how)
    source = read_source(path, read.layer, samples=samples)
    if read.malignancy is None and samples is not None and samples.tells_malignancy:
        read = replace(read, malignancy=MalignancyColumn(MALIGNANCY))
    return replace(align(source, read, vocabulary), name=Path(path).name)


def align(source: Source, read: ReadOptions, vocabulary: Vocabulary | None = None) -> CellData:
    """Run the quick checks, then scan the matrix, then align it.

    Raises
    ------
    InputError, CountsError, GeneError
        As :func:`from_anndata`.
    """
    vocabulary, scale = vocabulary or Vocabulary.human(), read.scale
    cell_malignancy = read_malignancy(read.malignancy, source.obs, where=source.name)
    names = gene_names(source, read.gene_column)
    audit = resolve_genes(
        names, vocabulary, where=source.where, min_overlap=read.min_overlap, var=source.var, cells=source.obs.index
    )
    report = check_scale(
        source.X, scale, where=source.where, cells=source.obs.index, genes=names, elsewhere=source.elsewhere
    )
    linear = to_linear(sparse.csr_matrix(source.X), scale) if scale != "counts" else source.X
    X = canonical(audit.aggregate(linear))
    cells = CellData(
        source.name,
        X,
        scale,
        pd.DataFrame(source.obs),
        audit,
        vocabulary,
        cell_malignancy,
        report,
        remarks=source.remarks,
    )
    if read.min_genes > 0:
        return cells.keep(min_genes=read.min_genes)
    refuse_empty(cells.genes_per_cell, cells.obs.index, source.where)
    return cells


def gene_names(source: Source | CellFile, column: str | None) -> list[object]:
    """Return the names of the genes, from ``var_names`` or a column of ``var``; a missing one is empty."""
    names = source.var.index if column is None else find_column(source.var, column, axis="var", where=source.name)
    return ["" if missing else name for name, missing in zip(names, pd.isna(names), strict=True)]


def canonical(X: sparse.csr_matrix[Any]) -> sparse.csr_matrix[np.float32]:
    """Finish the new matrix of :meth:`GeneAudit.aggregate` in place: float32, without stored zeros."""
    X = X.astype(np.float32, copy=False)
    X.eliminate_zeros()
    return X


def refuse_empty(genes_per_cell: NDArray[np.int64], names: pd.Index[Any], where: str) -> None:
    """Raise :class:`InputError` if a cell has no gene."""
    empty, cells = np.flatnonzero(genes_per_cell == 0), len(genes_per_cell)
    if not len(empty):
        return
    if len(empty) == cells:
        found = f"all {cells:,} cells have no count in any gene of the vocabulary"
        raise InputError(
            found, where=where, fix="Check what the matrix holds, and whether another layer holds the counts"
        )
    found = f"{len(empty):,} of {cells:,} cells have no count in any gene of the vocabulary"
    fix = f"Leave them out: say {option('min_genes', 1)}, or scanpy.pp.filter_cells(adata, min_genes=1)"
    raise InputError(f"{found} (the first: '{names[empty[0]]}')", where=where, fix=fix)
