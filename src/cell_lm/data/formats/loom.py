"""Loom files: a dense matrix genes x cells, its attributes by gene (``row_attrs``) and by cell (``col_attrs``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import pandas as pd

from cell_lm.data.formats.cell_file import CellFile
from cell_lm.data.formats.dense import dense_blocks
from cell_lm.data.formats.hdf5 import guarded, holds, opened
from cell_lm.data.formats.hdf5_survey import survey
from cell_lm.data.formats.orient import gene_share
from cell_lm.data.formats.source import X, choose
from cell_lm.data.formats.text import refuse_repeated
from cell_lm.errors import InputError

_GENES = ("Gene", "gene_names", "gene_symbols", "gene_name", "GeneName", "Symbol", "var_names", "Accession", "gene_ids")
_CELLS = ("CellID", "obs_names", "cell_names", "Cell_ID", "cell_id", "barcode", "barcodes", "Barcode")
_MATRIX = "matrix"


def is_loom(file: h5py.File, name: str) -> bool:
    """Return whether an HDF5 file has the parts of a loom file."""
    parts = all(holds(file, key, name) for key in (_MATRIX, "row_attrs", "col_attrs"))
    return parts and isinstance(file[_MATRIX], h5py.Dataset)


@contextmanager
def open_loom(path: Path, layer: str | None) -> Iterator[CellFile]:
    """Open the matrix, or a layer, to read it in blocks."""
    name = str(path)
    with opened(path) as file:
        with guarded(name):
            layers = [str(key) for key in file["layers"]] if holds(file, "layers", name) else []
            place, elsewhere = choose(layer, layers, has_x=True, has_raw=False, name=name)
            key = _MATRIX if place == X else f"layers/{layer}"
            survey(file, (key, "row_attrs", "col_attrs"), name)
            array = file[key]
            genes, cells = (int(n) for n in array.shape)
            var, obs = _read_table(file["row_attrs"], genes), _read_table(file["col_attrs"], cells)
            var, obs = _named_genes(var, name), _named_cells(obs, name)
            place = _MATRIX if place == X else place
        with dense_blocks(array, (cells, genes), where=f"{name}, {place}", transposed=True) as read:
            yield CellFile(name, place, obs, var, elsewhere, read)


def _read_table(group: h5py.Group, size: int) -> pd.DataFrame:
    """Return the attributes with one value per row; embeddings and the like are left out."""
    columns = {}
    for key, array in group.items():
        if isinstance(array, h5py.Dataset) and array.shape == (size,):
            values = array[:]
            text = values.dtype.kind in "SO"
            columns[str(key)] = [_text(value) for value in values] if text else values
    return pd.DataFrame(columns, index=pd.RangeIndex(size).astype(str))


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _named_genes(var: pd.DataFrame, name: str) -> pd.DataFrame:
    """Name the genes by the conventional attribute, else by the one with the most genes."""
    texts = {str(column): list(var[column]) for column in var.columns if var[column].dtype == object}
    best = next((key for key in _GENES if key in texts), "")
    best = best or max(texts, key=lambda column: gene_share(texts[column]), default="")
    if not best:
        found = f"no row attribute names its genes (there is: {', '.join(map(str, var.columns)) or 'nothing'})"
        raise InputError(found, where=name, fix="Add the row attribute Gene")
    return _indexed(var, best)


def _named_cells(obs: pd.DataFrame, name: str) -> pd.DataFrame:
    """Name the cells by the conventional attribute, else by number."""
    best = next((key for key in _CELLS if key in obs), None)
    if best is None:
        return obs
    obs = _indexed(obs, best)
    refuse_repeated(obs.index.tolist(), f"values of {best}", name)
    return obs


def _indexed(table: pd.DataFrame, column: str) -> pd.DataFrame:
    table = table.set_index(table[column].astype(str).astype(object))
    table.index.name = None
    return table.drop(columns=column)
