"""The h5 files of 10x's Cell Ranger: version 3 (one group ``matrix``) and 2 (a group for each genome).

Both hold features x barcodes by column, which is cells x genes by row: a block of cells is contiguous.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from cell_lm.data.formats.cell_file import CellFile
from cell_lm.data.formats.features import is_human, kept_features, select_genes
from cell_lm.data.formats.hdf5 import DAMAGED, guarded, holds, opened
from cell_lm.data.formats.hdf5_survey import survey
from cell_lm.data.formats.rows import compressed_blocks
from cell_lm.data.formats.source import X
from cell_lm.data.formats.text import refuse_repeated
from cell_lm.errors import InputError
from cell_lm.remedies import option

_V3 = "matrix"


def is_tenx(file: h5py.File, name: str) -> bool:
    """Return whether an HDF5 file has the layout of Cell Ranger."""
    return bool(_groups(file, name))


@contextmanager
def open_tenx(path: Path, layer: str | None) -> Iterator[CellFile]:
    """Open a file, to read it in blocks; ``layer`` chooses a genome in a file of version 2."""
    name = str(path)
    with opened(path) as file:
        with guarded(name):
            groups = _groups(file, name)
            key = _choose(groups, layer, name)
            survey(file, [key], name)
            where = f"{name}, {key}"
            obs, var = _read_barcodes(file[key], where), _read_features(file[key], where)
            shape = len(obs), len(var)
            _check_shape(file[key], shape, where)
            kept, remarks = kept_features(var, where)
        with compressed_blocks(file[key], "csr", shape, where) as read:
            elsewhere = tuple(group for group in groups if group != key)
            yield CellFile(name, key, obs, var[kept], elsewhere, select_genes(read, kept), remarks)


def _groups(file: h5py.File, name: str) -> list[str]:
    """Return the groups that hold a matrix; links are refused."""
    found = []
    for key in file:
        group = file[key] if holds(file, key, name) else None
        if isinstance(group, h5py.Group) and {"barcodes", "data", "indices", "indptr"} <= set(group):
            found.append(str(key))
    return found


def _choose(groups: list[str], layer: str | None, name: str) -> str:
    """Return the requested group, the only one, or the one of the human genome."""
    if layer not in (None, X):
        if layer in groups:
            return str(layer)
        fix = f"Choose with {option('layer')}; there is: {', '.join(groups)}"
        raise InputError(f"it has no matrix '{layer}'", where=name, fix=fix)
    human = [group for group in groups if is_human(group)]
    if len(groups) == 1 or len(human) == 1:
        return groups[0] if len(groups) == 1 else human[0]
    fix = f"Choose with {option('layer')}; there is: {', '.join(groups)}"
    raise InputError(f"it holds {len(groups)} genomes, and {len(human)} of them are human by name", where=name, fix=fix)


def _check_shape(group: h5py.Group, shape: tuple[int, int], where: str) -> None:
    stated = tuple(int(n) for n in group["shape"][:]) if "shape" in group else shape[::-1]
    if stated != shape[::-1]:
        size = " x ".join(f"{n:,}" for n in stated)
        found = f"its shape is given as {size}, but it names {shape[1]:,} genes and {shape[0]:,} barcodes"
        raise InputError(found, where=where, fix=DAMAGED)


def _texts(array: h5py.Dataset) -> list[str]:
    return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in array[:]]


def _read_barcodes(group: h5py.Group, where: str) -> pd.DataFrame:
    names = _texts(group["barcodes"])
    refuse_repeated(names, "barcodes", where)
    return pd.DataFrame(index=pd.Index(names, dtype=object))


def _read_features(group: h5py.Group, where: str) -> pd.DataFrame:
    """Return the features, under their symbols; their ids, types and genomes are columns."""
    old = {"gene_names": "name", "genes": "gene_ids"}
    new = {"name": "name", "id": "gene_ids", "feature_type": "feature_types", "genome": "genome"}
    source, columns = (group["features"], new) if "features" in group else (group, old)
    table = {column: _texts(source[node]) for node, column in columns.items() if node in source}
    if ("name" not in table and "gene_ids" not in table) or len({len(values) for values in table.values()}) > 1:
        raise InputError("it does not name its genes", where=where, fix=DAMAGED)
    names = table.pop("name", None) or table["gene_ids"]
    return pd.DataFrame(table, index=pd.Index(np.array(names, object)), dtype=object)
