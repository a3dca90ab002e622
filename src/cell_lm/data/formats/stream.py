"""Cells of files larger than memory: any supported format, read in blocks of cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from cell_lm.data.formats.cell_file import CellFile
from cell_lm.data.formats.detect import Format, detect
from cell_lm.data.formats.h5ad import open_h5ad
from cell_lm.data.formats.h5mu import open_h5mu
from cell_lm.data.formats.loom import open_loom
from cell_lm.data.formats.mtx import open_mtx
from cell_lm.data.formats.rdata import open_rdata
from cell_lm.data.formats.sample_sheet import SampleSheet
from cell_lm.data.formats.table import open_table
from cell_lm.data.formats.tenx import open_tenx
from cell_lm.data.formats.zarr_folder import open_zarr

__all__ = ["CellFile", "open_cells"]

_OPENERS: dict[Format, Callable[[Path, str | None], AbstractContextManager[CellFile]]] = {
    "h5ad": open_h5ad,
    "h5mu": open_h5mu,
    "zarr": open_zarr,
    "10x h5": open_tenx,
    "10x mtx": open_mtx,
    "loom": open_loom,
    "table": open_table,
    "RData": open_rdata,
}


@contextmanager
def open_cells(path: str | Path, *, layer: str | None = None, samples: SampleSheet | None = None) -> Iterator[CellFile]:
    """Open the cells of a file of any format, to read them in blocks.

    Parameters
    ----------
    path
        The file, or the folder of a 10x matrix. The format is detected from the content.
    layer
        Which matrix: ``None`` or ``"X"`` for the main one; the name of a layer (h5ad, loom), ``"raw"`` for ``raw/X`` of
        an h5ad file with the genes of ``raw/var``, a modality (h5mu: ``rna``, ``rna/counts``), a genome (10x h5 of
        version 2), an object (RData).
    samples
        Sample sheet, if each file is a sample: columns for ``obs``.

    Yields
    ------
    CellFile
        Valid only within the context. Text, and matrices stored by gene, are read once on opening, into a temporary
        file.

    Raises
    ------
    InputError
        The file is missing, of unknown format, truncated or damaged, links to other files, lacks the matrix, has no
        cells or genes, or is not a sample of the sheet. Damage deep in an HDF5 file is found when its block is read.
    GeneError
        No names in a table are human genes.
    """
    with _OPENERS[detect(path)](Path(path), layer) as cells:
        yield cells if samples is None else replace(cells, obs=samples.describe(cells.obs, path))
