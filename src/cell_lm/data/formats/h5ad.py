"""AnnData's own files: one matrix with its cells and genes, whole or in blocks, and nothing else.

Only the requested parts are read, obs and var by anndata's own element reader; each part is checked first, so that
nothing outside the file is read. Backed files are not opened by anndata, which would follow links.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata.experimental import read_dispatched
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.formats.cell_file import CellFile
from cell_lm.data.formats.dense import dense_blocks
from cell_lm.data.formats.hdf5 import DAMAGED, guarded, holds, opened, unreadable
from cell_lm.data.formats.hdf5_survey import survey
from cell_lm.data.formats.numbers import number_type, plain_index, plain_numbers
from cell_lm.data.formats.rows import compressed_blocks
from cell_lm.data.formats.source import RAW, Place, Source, X, choose, plain
from cell_lm.errors import InputError

_MATRICES = ("array", "csr_matrix", "csc_matrix")
_SAMPLE = 1 << 14
_PARTS = ("X", "obs", "var", "obsm", "varm", "obsp", "varp", "layers", "uns", "raw")
_COMPRESSED = {"csr_matrix": "csr", "csr": "csr", "csc_matrix": "csc", "csc": "csc"}


class _Parts(NamedTuple):
    """One matrix of a file, not yet read, and its tables."""

    place: str
    key: str
    obs: pd.DataFrame
    var: pd.DataFrame
    elsewhere: tuple[str, ...]


def read_h5ad_source(path: Path, layer: str | None) -> Source:
    """Read one matrix with its cells and genes into memory."""
    name = str(path)
    with opened(path) as file, guarded(name):
        parts = _find(file, layer, name)
        matrix = _read_element(file, parts.key, name)
    matrix = plain(matrix, (len(parts.obs), len(parts.var)), where=f"{name}, {parts.place}")
    return Source(name, parts.place, matrix, parts.obs, parts.var, parts.elsewhere)


@contextmanager
def open_h5ad(path: Path, layer: str | None) -> Iterator[CellFile]:
    """Open one matrix, to read it in blocks."""
    with opened(path) as file, open_h5ad_in(file, str(path), layer) as cells:
        yield cells


@contextmanager
def open_h5ad_in(file: h5py.Group, name: str, layer: str | None) -> Iterator[CellFile]:
    """Open one matrix of an AnnData that is all of a file, or a group in it."""
    with guarded(name):
        parts = _find(file, layer, name)
        where, shape = f"{name}, {parts.place}", (len(parts.obs), len(parts.var))
        node = file[parts.key]
    form = _COMPRESSED.get(encoding(node))
    blocks = dense_blocks(node, shape, where=where) if form is None else compressed_blocks(node, form, shape, where)
    with blocks as read:
        yield CellFile(name, parts.place, parts.obs, parts.var, parts.elsewhere, read)


def read_h5ad_whole(path: Path) -> anndata.AnnData:
    """Read all of a file, with the same checks; a damaged matrix is found when it is used."""
    with opened(path) as file, guarded(str(path)):
        _refuse_other_layouts(file, str(path))
        survey(file, "/", str(path))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*names are not unique", category=UserWarning)
            warnings.filterwarnings("ignore", message=".*without encoding metadata")  # old files are as good
            return _read_all(file) if _has_odd_types(file) else anndata.read_h5ad(path)


def _has_odd_types(file: h5py.File) -> bool:
    """Tell whether a sparse matrix of the file is of a type that scipy has not, so that anndata could not read it."""
    odd = False

    def look(_: str, node: object) -> None:
        nonlocal odd
        if isinstance(node, h5py.Group) and encoding(node) in _COMPRESSED and "data" in node:
            odd = odd or node["data"].dtype != number_type(node["data"].dtype)

    file.visititems(look)
    return odd


def _read_all(file: h5py.File) -> anndata.AnnData:
    """Read all of a file by anndata, but sparse matrices by :func:`_read_compressed`."""

    def read(func: Callable[[Any], Any], name: str, node: Any, iospec: Any) -> Any:
        if iospec.encoding_type in _COMPRESSED:
            return _read_compressed(node)
        if name in ("", "/"):
            parts = {key: read_dispatched(node[key], read) for key in node}
            return anndata.AnnData(**{key: part for key, part in parts.items() if key in _PARTS})
        return func(node)

    return read_dispatched(file, read)


def _read_compressed(group: h5py.Group) -> sparse.csr_matrix[Any] | sparse.csc_matrix[Any]:
    """Read a sparse matrix of any type of numbers."""
    rows, columns = group.attrs.get("shape", group.attrs.get("h5sparse_shape"))
    build = sparse.csr_matrix if _COMPRESSED[encoding(group)] == "csr" else sparse.csc_matrix
    parts = plain_numbers(group["data"][:]), plain_index(group["indices"][:]), plain_index(group["indptr"][:])
    return build(parts, shape=(int(rows), int(columns)))


def is_h5ad(file: h5py.File, name: str) -> bool:
    """Return whether an HDF5 file has the parts of an AnnData."""
    return any(holds(file, key, name) for key in ("obs", "var"))


def encoding(node: Any) -> str:
    """Return how anndata says that an element is stored, ``""`` where it does not."""
    value = node.attrs.get("encoding-type", node.attrs.get("h5sparse_format", ""))
    return value.decode() if isinstance(value, bytes) else str(value)


def _find(file: h5py.Group, layer: str | None, name: str) -> _Parts:
    """Choose a matrix, check it without reading it, and read its tables."""
    _refuse_other_layouts(file, name)
    layers = list(file["layers"]) if holds(file, "layers", name) else []
    has_raw = holds(file, RAW, name) and holds(file[RAW], X, name)
    has_x = holds(file, X, name) and encoding(file[X]) != "null"
    place, elsewhere = choose(layer, layers, has_x=has_x, has_raw=has_raw, name=name)
    root = f"{RAW}/" if place == RAW else ""
    key = f"{root}X" if place in (X, RAW) else f"layers/{layer}"
    survey(file, ("obs", f"{root}var", key), name)
    obs, var = (_read_frame(file, key, name) for key in ("obs", f"{root}var"))
    _check_matrix(file, key, name)
    seen = tuple(Place.seen(other, _some_entries(file, other, layers, name)) for other in elsewhere)
    return _Parts(place, key, obs, var, seen)


def _some_entries(file: h5py.Group, place: str, layers: Sequence[str], name: str) -> NDArray[Any] | None:
    """Return some entries of a matrix; None if it cannot be read, since another matrix may be the one to read."""
    key = f"layers/{place}" if place in layers else {X: "X", RAW: "raw/X"}[place]
    try:
        survey(file, [key], name)
        node = file[key]
        if isinstance(node, h5py.Dataset):
            return np.asarray(node[: max(1, _SAMPLE // max(node.shape[1], 1))]).ravel()
        return np.asarray(node["data"][:_SAMPLE])
    except Exception:  # a damaged part can raise any error in h5py
        return None


def _refuse_other_layouts(file: h5py.Group, name: str) -> None:
    """Recognise files from before 2020, and files that lack a part."""
    for key in ("obs", "var"):
        if not holds(file, key, name):
            found = f"it is an HDF5 file but no h5ad file: it has no {key} (it holds: {', '.join(list(file)[:5])})"
            raise InputError(found, where=name, fix="Write it again with anndata")
        if isinstance(file[key], h5py.Dataset):
            fix = "Write it again: anndata.read_h5ad(old).write_h5ad(new)"
            raise InputError("it was written by an anndata before 0.7", where=name, fix=fix)


def _read_frame(file: h5py.Group, key: str, name: str) -> pd.DataFrame:
    frame = _read_element(file, key, name)
    if not isinstance(frame, pd.DataFrame):
        found = f"its {key} is no table of anndata ({encoding(file[key]) or 'unmarked'})"
        raise InputError(found, where=name, fix=DAMAGED)
    return frame


def _check_matrix(file: h5py.Group, key: str, name: str) -> None:
    kind = encoding(file[key])
    if kind not in (*_MATRICES, *_COMPRESSED) and not isinstance(file[key], h5py.Dataset):
        found = f"its {key} is stored as '{kind or 'something unmarked'}'"
        raise InputError(found, where=name, fix=f"It must be one of {', '.join(_MATRICES)}")


def _read_element(file: h5py.Group, key: str, name: str) -> object:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*without encoding metadata")  # old files are as good
        try:
            odd = encoding(file[key]) in _COMPRESSED and file[key]["data"].dtype != number_type(file[key]["data"].dtype)
            return _read_compressed(file[key]) if odd else anndata.io.read_elem(file[key])
        except MemoryError:
            raise
        except Exception as error:  # a damaged file can break h5py and anndata in any way
            raise unreadable(f"its {key}", error, name) from None
