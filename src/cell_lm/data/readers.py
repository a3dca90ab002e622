"""Reading h5ad files that may be anything: cut off, damaged, hostile, or no h5ad at all. Each ends in one clear line.

Only the parts that are asked for are read, by anndata's own element reader. Before that, each part is walked: data that
lies outside the file (links, external storage, virtual datasets) is refused, so that a file can never make us read
another one.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata
import h5py
import pandas as pd

from cell_lm.data.source import RAW, Source, X, choose, plain
from cell_lm.errors import CellLMError, InputError

_FORMATS = {
    b"\x1f\x8b": ("a gzip archive", "Unpack it with gunzip first"),
    b"PK": ("a zip archive", "Unpack it first"),
    b"%%MatrixMarket": ("a Matrix Market file", "Read it with scanpy.read_10x_mtx and write it as .h5ad"),
}
_MATRICES = ("array", "csr_matrix", "csc_matrix")
_DAMAGED = "Copy or download the file again, or write it again with anndata"


def read_source(path: str | Path, layer: str | None = None) -> Source:
    """Read one matrix of an h5ad file with its cells and genes, and nothing else.

    Parameters
    ----------
    path
        The file.
    layer
        ``None`` or ``"X"``: X; the name of a layer; ``"raw"``: ``raw/X`` with the genes of ``raw/var``.

    Raises
    ------
    InputError
        The file is missing, no HDF5, cut off, damaged, not written by anndata, points outside of itself, does not hold
        the matrix, or holds no cells or genes.
    """
    name = str(path)
    with _opened(Path(path)) as file:
        layers = list(file["layers"]) if _holds(file, "layers", name) else []
        has_raw = _holds(file, RAW, name) and _holds(file[RAW], X, name)
        has_x = _holds(file, X, name) and _encoding(file[X]) != "null"
        place, elsewhere = choose(layer, layers, has_x=has_x, has_raw=has_raw, name=name)
        root = f"{RAW}/" if place == RAW else ""
        obs, var = (_read_frame(file, key, name) for key in ("obs", f"{root}var"))
        matrix = _read_matrix(file, f"{root}X" if place in (X, RAW) else f"layers/{layer}", name)
    matrix = plain(matrix, (len(obs), len(var)), where=f"{name}, {place}")
    return Source(name, place, matrix, obs, var, elsewhere)


def read_h5ad(path: str | Path) -> anndata.AnnData:
    """Read a whole h5ad file, with the same checks, for a command that adds to it and writes it again.

    Raises
    ------
    InputError
        As :func:`read_source`; a damaged matrix is found when it is used.
    """
    with _opened(Path(path)) as file:
        _refuse_outside(file, str(path), set())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*names are not unique", category=UserWarning)
            return anndata.read_h5ad(path)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open an h5ad file; whatever a damaged one makes the libraries raise becomes an :class:`InputError`."""
    name = str(path)
    _refuse_other_formats(path)
    try:
        with h5py.File(path, "r") as file:
            _refuse_other_layouts(file, name)
            yield file
    except CellLMError:
        raise
    except MemoryError:
        raise InputError("it does not fit into memory", where=name, fix="Cut it into several files") from None
    except Exception as error:  # a damaged file can break h5py and anndata in any way
        cut = re.search(r"truncated file: eof = (\d+).*stored_eof = (\d+)", str(error))
        if cut:
            have, want = (int(number) for number in cut.groups())
            raise InputError(f"it is cut off: {have:,} of {want:,} bytes are there", where=name, fix=_DAMAGED) from None
        raise _unreadable("it", error, name) from None


def _unreadable(what: str, error: Exception, name: str) -> InputError:
    reason = " ".join(str(error).split())[:200] or "no reason given"
    return InputError(f"{what} cannot be read ({type(error).__name__}: {reason})", where=name, fix=_DAMAGED)


def _refuse_other_formats(path: Path) -> None:
    name = str(path)
    if not path.exists():
        raise InputError("there is no such file", where=name, fix="Check the path")
    if not path.is_file():
        raise InputError("it is a folder or device, not a file", where=name, fix="Name the .h5ad file itself")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise InputError(f"it cannot be opened ({error.strerror})", where=name, fix="Check its permissions") from None
    if not head:
        raise InputError("it is empty (0 bytes)", where=name, fix=_DAMAGED)
    for start, (what, fix) in _FORMATS.items():
        if head.startswith(start):
            raise InputError(f"it is {what}, not an h5ad file", where=name, fix=fix)
    if not h5py.is_hdf5(path):
        fix = "Give an .h5ad file; scanpy reads many other formats and writes it"
        raise InputError("it is not an HDF5 file", where=name, fix=fix)


def _refuse_other_layouts(file: h5py.File, name: str) -> None:
    """Recognise HDF5 files of other programs, and h5ad files from before 2020, by what they hold."""
    for key in ("obs", "var"):
        if not _holds(file, key, name):
            holds = ", ".join(list(file)[:5]) or "nothing"
            fix = "Give an .h5ad file"
            if "matrix" in file:
                fix = "Read a 10x or loom file with scanpy.read_10x_h5 or scanpy.read_loom, and write it as .h5ad"
            found = f"it is an HDF5 file but no h5ad file: it has no {key} (it holds: {holds})"
            raise InputError(found, where=name, fix=fix)
        if isinstance(file[key], h5py.Dataset):
            fix = "Write it again: anndata.read_h5ad(old).write_h5ad(new)"
            raise InputError("it was written by an anndata before 0.7", where=name, fix=fix)


def _encoding(node: Any) -> str:
    value = node.attrs.get("encoding-type", node.attrs.get("h5sparse_format", ""))
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_frame(file: h5py.File, key: str, name: str) -> pd.DataFrame:
    _refuse_outside_at(file, key, name)
    frame = _read_element(file, key, name)
    if not isinstance(frame, pd.DataFrame):
        found = f"its {key} is no table of anndata ({_encoding(file[key]) or 'unmarked'})"
        raise InputError(found, where=name, fix=_DAMAGED)
    return frame


def _read_matrix(file: h5py.File, key: str, name: str) -> object:
    _refuse_outside_at(file, key, name)
    encoding = _encoding(file[key])
    if encoding not in (*_MATRICES, "csr", "csc") and not isinstance(file[key], h5py.Dataset):
        found = f"its {key} is stored as '{encoding or 'something unmarked'}'"
        raise InputError(found, where=name, fix=f"It must be one of {', '.join(_MATRICES)}")
    _refuse_unwritten(file[key], name)
    return _read_element(file, key, name)


def _read_element(file: h5py.File, key: str, name: str) -> object:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*without encoding metadata")  # old files are as good
        try:
            return anndata.io.read_elem(file[key])
        except MemoryError:
            raise
        except Exception as error:  # a damaged file can break h5py and anndata in any way
            raise _unreadable(f"its {key}", error, name) from None


def _refuse_outside_at(file: h5py.File, key: str, name: str) -> None:
    """Check every step of a path, then all that hangs below it."""
    parent: h5py.Group = file
    for part in key.split("/"):
        if not _holds(parent, part, name):
            raise InputError(f"it has no {key}", where=name, fix=_DAMAGED)
        parent = parent[part]
    _refuse_outside(parent, name, set())


def _holds(parent: h5py.Group, key: str, name: str) -> bool:
    """Tell whether a group has a member, without following a link; a link is refused."""
    links, member = parent.id.links, key.encode()
    if not links.exists(member):
        return False
    if links.get_info(member).type != h5py.h5l.TYPE_HARD:
        value = links.get_val(member)
        target = ":".join(part.decode(errors="replace") for part in (value if isinstance(value, tuple) else (value,)))
        found = f"{parent.name.rstrip('/')}/{key} is a link to {target}, not data"
        raise InputError(found, where=name, fix="Links are not followed: write the file again with its data inside")
    return True


def _refuse_outside(node: h5py.Group | h5py.Dataset, name: str, seen: set[Any]) -> None:
    """Refuse links, external storage and virtual datasets anywhere below a node."""
    if node in seen:
        return
    seen.add(node)
    if isinstance(node, h5py.Group):
        for key in node:
            if _holds(node, key, name):
                _refuse_outside(node[key], name, seen)
    elif isinstance(node, h5py.Dataset) and (node.external or node.is_virtual):
        found = f"the data of {node.name} lie in another file"
        raise InputError(found, where=name, fix="Write the file again with its data inside")


def _refuse_unwritten(matrix: h5py.Group | h5py.Dataset, name: str) -> None:
    """Refuse arrays that were announced, at any size, but have no bytes: HDF5 would make up zeros."""
    for array in matrix.values() if isinstance(matrix, h5py.Group) else [matrix]:
        if isinstance(array, h5py.Dataset) and array.size and not array.id.get_storage_size():
            raise InputError(f"the data of {array.name} were never written", where=name, fix=_DAMAGED)
