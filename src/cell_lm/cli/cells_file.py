"""A file of cells that a verb reads whole, adds something to, and writes again under another name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from anndata import AnnData

from cell_lm.data import Scale, from_anndata, read_anndata
from cell_lm.data.h5ad_writer import write_h5ad
from cell_lm.errors import CellLMError
from cell_lm.genes import Vocabulary

_ROW = "_cell_lm_row"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors about an AnnData, which knows nothing of its file, name the file."""
    try:
        yield
    except CellLMError as error:
        where = error.where or ""
        if where.partition(",")[0] != "adata":
            raise
        raise type(error)(error.found, where=f"{path}{where.removeprefix('adata')}", fix=error.fix) from None


def read_cells_file(
    path: Path, vocabulary: Vocabulary, *, layer: str | None, scale: Scale, gene_column: str | None, min_genes: int
) -> AnnData:
    """Read a file, without its cells that have fewer than ``min_genes`` expressed genes of the vocabulary.

    Raises
    ------
    InputError, CountsError, GeneError
        As :func:`cell_lm.data.read_anndata`, and where cells are left out as :func:`cell_lm.data.from_anndata`.
    """
    adata = read_anndata(path, layer)
    if not min_genes:
        return adata
    adata.obs[_ROW] = np.arange(adata.n_obs)  # names of cells need not be unique
    try:
        with naming(path):
            kept = from_anndata(
                adata, layer=layer, input=scale, gene_column=gene_column, vocabulary=vocabulary, min_genes=min_genes
            )
        rows = kept.obs[_ROW].to_numpy(copy=True)
    finally:
        del adata.obs[_ROW]
    return adata[rows].copy() if kept.dropped else adata


def write_cells_file(adata: AnnData, path: Path, *, force: bool = False) -> None:
    """Write an h5ad file, whole or not at all; one that appeared since the work began is replaced only by force."""
    write_h5ad(adata, path, replace=force)


def device() -> torch.device:
    """Return where to compute: CUDA where there is one, else the CPU (``ACCELERATE_USE_CPU=true`` forces it)."""
    forced = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return torch.device("cuda" if torch.cuda.is_available() and not forced else "cpu")
