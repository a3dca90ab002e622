"""Open any source of cells: an AnnData, a file of any format, a store, or cells that have been read already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from cell_lm.data.backed import BackedCells, open_backed
from cell_lm.data.cells import CellData, align, gene_names
from cell_lm.data.formats.readers import read_source
from cell_lm.data.formats.source import Source, select
from cell_lm.data.formats.stream import CellFile, open_cells
from cell_lm.data.read_options import ReadOptions
from cell_lm.data.store import Store
from cell_lm.data.store.layout import MANIFEST, SHARDS
from cell_lm.data.view import CellView, store_obs
from cell_lm.errors import InputError
from cell_lm.genes import Vocabulary, resolve_genes

Data: TypeAlias = AnnData | CellData | BackedCells | Store | CellView | str | Path
"""Any source of cells. A path is that of a file of any format, of the folder of a 10x matrix, or of a store."""

BACKED_ABOVE = 4.0
"""h5ad files above this size in GB stay on disk by default."""
_MODEL_FILES = ("config.json", "model/config.json", "estimator.json")


def is_store(path: Path) -> bool:
    """Return whether a path is that of a store, finished or not, rather than of a file or another folder."""
    return path.is_dir() and ((path / MANIFEST).exists() or (path / SHARDS).is_dir())


def stays_on_disk(path: Path, above: float = BACKED_ABOVE) -> bool:
    """Return whether the cells of a file are read on demand: an h5ad file of more than ``above`` GB."""
    return path.suffix == ".h5ad" and path.is_file() and path.stat().st_size > above * 1e9


def refuse_models(path: Path) -> None:
    """Raise :class:`InputError` for a folder that holds a model or a run rather than cells."""
    held = next((name for name in _MODEL_FILES if (path / name).is_file()), None)
    if held is not None:
        fix = "Give a file of cells, or a store of cell-lm prepare"
        raise InputError(f"it holds a model ({held}), not cells", where=str(path), fix=fix)


class Opened:
    """Data whose columns are available before the counts are checked and aligned, which takes longer.

    Parameters
    ----------
    data
        Any source of cells; it is not changed.
    read
        How to read it. Cells that have been read already take no options.

    Raises
    ------
    InputError
        It is not a source of cells, cannot be read, or is a model folder; or options were given for cells that have
        been read already.
    """

    def __init__(self, data: Data, read: ReadOptions) -> None:
        self._read, self._path = read, Path()
        self._held: Source | CellData | BackedCells | Store | CellView | pd.DataFrame
        match data:
            case AnnData():
                self._held, self.name = select(data, read.layer, name="adata"), "adata"
            case str() | Path():
                self._open_path(Path(data))
            case CellData() | BackedCells() | Store() | CellView():
                self._held, self.name = data, data.name
                self._refuse_options()
            case _:
                found = f"expected cells, found {type(data).__name__}"
                fix = "Give an AnnData, the path of a file of cells, or of a store"
                raise InputError(found, fix=fix)

    def _open_path(self, path: Path) -> None:
        self._path, self.name = path, path.name
        refuse_models(path)
        if is_store(path):
            self._held = Store.open(path)
            self._refuse_options()
        elif stays_on_disk(path):
            with open_cells(path, layer=self._read.layer) as file:
                self._held = pd.DataFrame(file.obs)
        else:
            self._held = replace(read_source(path, self._read.layer), name=path.name)

    def _refuse_options(self) -> None:
        given = self._read.changed
        if given:
            found = f"{' and '.join(given)} given for cells that have been read already"
            raise InputError(found, where=self.name, fix="Give it where they are read, or pass the AnnData or file")

    def obs(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return ``obs``: at least the named columns that exist."""
        match self._held:
            case pd.DataFrame():
                return self._held
            case CellView():
                return self._held.obs(columns)
            case Store():
                return store_obs(self._held, columns)
            case _:
                return pd.DataFrame(self._held.obs)

    def genes(self, vocabulary: Vocabulary | None = None) -> NDArray[np.int64]:
        """Return the genes of a vocabulary in the data, int64, ascending; the counts are not looked at.

        Raises
        ------
        GeneError
            None of its names is a gene of the vocabulary.
        """
        match self._held:
            case CellView():
                return self._held.genes
            case Source():
                return self._found(self._held, vocabulary)
            case pd.DataFrame():
                with open_cells(self._path, layer=self._read.layer) as file:
                    return self._found(file, vocabulary)
            case _:
                return CellView.of(self._held).genes

    def _found(self, file: Source | CellFile, vocabulary: Vocabulary | None) -> NDArray[np.int64]:
        names = gene_names(file, self._read.gene_column)
        least = self._read.min_overlap or 1
        where, vocabulary = file.where, vocabulary or Vocabulary.human()
        return resolve_genes(names, vocabulary, where=where, min_overlap=least, var=file.var).found

    def cells(self, vocabulary: Vocabulary | None = None) -> CellView:
        """Check the counts and align them to a vocabulary (default: the human protein-coding genes).

        Raises
        ------
        InputError, CountsError, GeneError
            The cells cannot be read as they are; see :func:`cell_lm.data.from_anndata`.
        """
        match self._held:
            case CellView():
                return self._held
            case Source():
                return CellView.of(align(self._held, self._read, vocabulary))
            case pd.DataFrame():
                return CellView.of(open_backed(self._path, vocabulary=vocabulary, read=self._read))
            case _:
                return CellView.of(self._held)


def genes_in(data: Data | Opened, vocabulary: Vocabulary | None, read: ReadOptions) -> NDArray[np.int64]:
    """Return the genes of a vocabulary that any source of cells has, int64, ascending.

    Options are applied to an AnnData or a file; what has been opened or read already, and a store, take none.
    """
    if isinstance(data, Opened):
        return data.genes(vocabulary)
    plain = isinstance(data, AnnData) or (isinstance(data, str | Path) and not is_store(Path(data)))
    return Opened(data, read if plain else ReadOptions()).genes(vocabulary)


def open_data(data: Data, vocabulary: Vocabulary | None = None, read: ReadOptions | None = None) -> CellView:
    """Return the cells of any source, aligned to a vocabulary; see :class:`Opened`."""
    return Opened(data, read or ReadOptions()).cells(vocabulary)


def open_each(
    data: Data | Sequence[Data] | None, vocabulary: Vocabulary | None = None, read: ReadOptions | None = None
) -> list[CellView]:
    """Return the cells of one source, or of each in a list; none for None."""
    sources = data if isinstance(data, list | tuple) else [] if data is None else [data]
    return [open_data(source, vocabulary, read) for source in sources]
