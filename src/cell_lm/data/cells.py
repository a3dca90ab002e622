"""Cells aligned to the vocabulary: what every later step takes, whatever file they came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

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
from cell_lm.data.obs.malignancy import Malignancy, MalignancyColumn, read_malignancy
from cell_lm.data.scale.check import Scale, ScaleReport, check_scale
from cell_lm.data.scale.logarithms import to_linear
from cell_lm.errors import InputError
from cell_lm.genes import GeneAudit, Vocabulary, resolve_genes
from cell_lm.remedies import option


@dataclass(frozen=True)
class CellData:
    """Cells by genes of the vocabulary, on a linear scale, with all that was said about the cells.

    Attributes
    ----------
    name : str
        Of the file, for messages and reports.
    X : csr_matrix
        float32 [cells, vocabulary], canonical: sorted, nothing twice, no stored zeros, no empty row. Counts; or, where
        the input was ``log1p``, what undoing it gave, which is proportional to the counts within each cell.
    scale : {"counts", "log1p"}
        What the input was.
    obs : DataFrame
        The user's, as it is, one row per cell.
    audit : GeneAudit
        What became of the input's genes.
    vocabulary : Vocabulary
        The genes that the columns are.
    malignancy : ndarray
        int8 [cells]: ``NORMAL``, ``TUMOUR`` or ``UNKNOWN``.
    report : ScaleReport or None
        What the scan of the input found.
    dropped : int
        Cells that were left out for having too few genes.
    remarks : tuple of str
        What had to be decided to read the file, for the user to see.
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
        """Return a column of ``obs``; :class:`~cell_lm.errors.InputError` where it has none of that name."""
        return find_column(self.obs, name, axis="obs", where=self.name)

    def __getitem__(self, cells: NDArray[Any] | slice) -> CellData:
        """Return some of the cells: a boolean mask, an array of positions, or a slice."""
        rows = np.arange(len(self))[cells]
        return replace(self, X=self.X[rows], obs=self.obs.iloc[rows], malignancy=self.malignancy[rows])

    def keep(self, *, min_genes: int) -> CellData:
        """Leave out cells with fewer than ``min_genes`` expressed genes of the vocabulary; ``dropped`` counts them.

        Raises
        ------
        InputError
            None is left.
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
    layer: str | None = None,
    input: Scale = "counts",  # noqa: A002
    vocabulary: Vocabulary | None = None,
    name: str = "adata",
    malignancy: Malignancy = None,
    gene_column: str | None = None,
    min_genes: int = 0,
    min_overlap: int | None = None,
) -> CellData:
    """Align the cells of an AnnData to the vocabulary. The AnnData is only read.

    Parameters
    ----------
    adata
        Cells by genes; the matrix may be CSR, CSC or dense, of any real dtype, also of a view or backed (it is then
        read).
    layer
        Which matrix: X by default, the name of a layer, or ``"raw"`` for ``adata.raw``.
    input
        What the matrix holds: ``"counts"``, or ``"log1p"`` for the natural log1p of counts scaled per cell to any
        total. Both give the same tokens for the same cells.
    vocabulary
        Default: the human protein-coding genes.
    name
        What messages call the data.
    malignancy
        Which column tells tumour from normal cells (:class:`MalignancyColumn`), ``"tumour"`` or ``"normal"`` if all
        cells are, None if it is unknown.
    gene_column
        Column of ``var`` that holds the gene symbols or Ensembl ids; default: ``var_names``.
    min_genes
        Leave out cells with fewer expressed genes of the vocabulary. By default none are left out, and an empty one is
        an error.
    min_overlap
        Fewest genes of the vocabulary that must be among the input's; default one in twenty.

    Raises
    ------
    InputError
        No such layer or column, a damaged or empty matrix, cells without any count, labels that cannot be understood.
    CountsError
        The matrix is not on the scale it is said to be on.
    GeneError
        The genes are not human, or too few.
    """
    source = select(adata, layer, name=name)
    return align(source, input, vocabulary, malignancy, gene_column, min_genes, min_overlap)


def read_cells(
    path: str | Path,
    *,
    layer: str | None = None,
    input: Scale = "counts",  # noqa: A002
    vocabulary: Vocabulary | None = None,
    malignancy: Malignancy = None,
    gene_column: str | None = None,
    min_genes: int = 0,
    min_overlap: int | None = None,
    samples: SampleSheet | None = None,
) -> CellData:
    """Read a file of any format and align its cells to the vocabulary; see :func:`from_anndata` for the rest.

    Parameters
    ----------
    path
        The file, or the folder of a 10x matrix.
    layer, input, vocabulary, malignancy, gene_column, min_genes, min_overlap
        As of :func:`from_anndata`.
    samples
        What is known of the samples that files are; its ``malignancy`` counts where ``malignancy`` is None.

    Raises
    ------
    InputError
        Also where the file is missing, of no known format, cut off, damaged, or points outside of itself.
    """
    source = read_source(path, layer, samples=samples)
    if malignancy is None and samples is not None and samples.tells_malignancy:
        malignancy = MalignancyColumn(MALIGNANCY)
    cells = align(source, input, vocabulary, malignancy, gene_column, min_genes, min_overlap)
    return replace(cells, name=Path(path).name)


def align(
    source: Source,
    scale: Scale,
    vocabulary: Vocabulary | None,
    malignancy: Malignancy,
    gene_column: str | None,
    min_genes: int,
    min_overlap: int | None,
) -> CellData:
    """Check everything that is quick to check, then scan the matrix, then align it."""
    if scale not in get_args(Scale):
        fix = f"Say one of: {', '.join(get_args(Scale))}"
        raise InputError(f'input="{scale}" is not known', where=source.name, fix=fix)
    vocabulary = vocabulary or Vocabulary.human()
    cell_malignancy = read_malignancy(malignancy, source.obs, where=source.name)
    names = gene_names(source, gene_column)
    audit = resolve_genes(
        names, vocabulary, where=source.where, min_overlap=min_overlap, var=source.var, cells=source.obs.index
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
    if min_genes > 0:
        return cells.keep(min_genes=min_genes)
    refuse_empty(cells.genes_per_cell, cells.obs.index, source.where)
    return cells


def gene_names(source: Source | CellFile, column: str | None) -> list[object]:
    """Return the names of the genes: those of ``var``, or of a column of it; a missing one is empty."""
    names = source.var.index if column is None else find_column(source.var, column, axis="var", where=source.name)
    return ["" if missing else name for name, missing in zip(names, pd.isna(names), strict=True)]


def canonical(X: sparse.csr_matrix[Any]) -> sparse.csr_matrix[np.float32]:
    """Finish, in place, what :meth:`GeneAudit.aggregate` made anew: float32, without stored zeros."""
    X = X.astype(np.float32, copy=False)
    X.eliminate_zeros()
    return X


def refuse_empty(genes_per_cell: NDArray[np.int64], names: pd.Index[Any], where: str) -> None:
    """Raise :class:`InputError` where a cell has no gene."""
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
