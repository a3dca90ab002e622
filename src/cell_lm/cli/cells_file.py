"""Cells as input of a verb: a store, or a file that is read whole, extended, and written under another name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from cell_lm.cli.console import Messages
from cell_lm.data import ReadOptions, Store, from_anndata, read_anndata
from cell_lm.data.cautions import empty_droplets, selected_genes
from cell_lm.data.formats.writable import check_writable, make_writable
from cell_lm.data.h5ad_writer import write_h5ad
from cell_lm.data.obs.columns import obs_column
from cell_lm.data.opening import is_store, refuse_models
from cell_lm.data.view import store_obs
from cell_lm.errors import CellLMError, InputError
from cell_lm.genes import Vocabulary

_ROW = "_cell_lm_row"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the name of the file to errors about an AnnData, which does not hold it."""
    try:
        yield
    except CellLMError as error:
        where = error.where or ""
        if where.partition(",")[0] != "adata":
            raise
        raise type(error)(error.found, where=f"{path}{where.removeprefix('adata')}", fix=error.fix) from None


def read_file_or_store(
    path: Path, vocabulary: Vocabulary | None, read: ReadOptions, *, verify: bool = True
) -> AnnData | Store:
    """Open a store, whose files are hashed with ``verify``, or read a file as :func:`read_cells_file` does.

    Raises
    ------
    InputError
        As there; or a store is given together with options for reading files.
    """
    if not is_store(path):
        return read_cells_file(path, vocabulary, read)
    if read.changed:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in read.changed)
        found = f"{options} given for a store, whose cells were read by cell-lm prepare"
        raise InputError(found, where=str(path), fix="Leave it out, or prepare the store again with it")
    return Store.open(path, vocabulary=vocabulary, verify=verify)


def read_cells_in_groups(
    path: Path, vocabulary: Vocabulary | None, read: ReadOptions, groupby: str | None, says: Messages
) -> AnnData | Store:
    """Read a file or a store, and refuse it at once if it lacks the column ``groupby``."""
    says.note(f"reading {path}")
    data = read_file_or_store(path, vocabulary, read)
    if groupby is not None:
        obs_column(obs_of(data, groupby), groupby, where=str(path))
    return data


def obs_of(data: AnnData | Store, column: str) -> pd.DataFrame:
    """Return ``obs`` of the cells, with at least ``column`` if it exists."""
    return store_obs(data, [column]) if isinstance(data, Store) else data.obs


def further_files(paths: Sequence[Path] | None, cells: Path, option: str) -> list[Path]:
    """Return files of further cells, each once.

    Raises
    ------
    InputError
        One is the file that the fit is made on, whose cells would count twice.
    """
    found = {path.resolve(): path for path in paths or ()}
    if cells.resolve() in found:
        fix = f"Leave it out of {option}: its cells without a label are learned from anyway"
        raise InputError("it is the reference itself", where=str(cells), fix=fix)
    return list(found.values())


def read_cells_file(path: Path, vocabulary: Vocabulary | None, read: ReadOptions) -> AnnData:
    """Read a file and leave out cells with fewer than ``read.min_genes`` expressed genes of the vocabulary.

    Raises
    ------
    InputError, CountsError, GeneError
        As :func:`cell_lm.data.read_anndata`, and where cells are left out as :func:`cell_lm.data.from_anndata`; or it
        is the folder of a model or a store.
    """
    refuse_models(path)
    if is_store(path):
        raise InputError("it is a store, and a file of cells is needed here", where=str(path), fix="Name a file")
    adata = read_anndata(path, read.layer)
    check_writable(adata, where=str(path))
    if not read.min_genes:
        return adata
    adata.obs[_ROW] = np.arange(adata.n_obs)  # names of cells need not be unique
    try:
        with naming(path):
            kept = from_anndata(adata, vocabulary=vocabulary, read=read)
        rows = kept.obs[_ROW].to_numpy(copy=True)
    finally:
        del adata.obs[_ROW]
    return adata[rows].copy() if kept.dropped else adata


def warn_of(about: Mapping[str, Any], says: Messages) -> None:
    """Warn of empty droplets and selected genes, from the record of a result in ``uns``.

    Never for cells of a store, nor where the fit was made on selected genes (``--genes-of``).
    """
    if "genes_found" not in about or "genes_of_fit" in about:
        return
    found, coverage = int(about["genes_found"]), float(about["coverage"])
    for text in (empty_droplets(float(about["median_genes"]), found), selected_genes(found, coverage)):
        if text is not None:
            says.warn(text)


def write_cells_file(adata: AnnData, path: Path, says: Messages, *, force: bool = False) -> None:
    """Write an h5ad file atomically; a file that appeared since the start is replaced only with ``force``.

    Names and columns that h5ad cannot hold are changed, and a note lists them.
    """
    for note in make_writable(adata, where=str(path)):
        says.note(note)
    write_h5ad(adata, path, replace=force)
