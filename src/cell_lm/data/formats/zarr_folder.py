"""AnnData in a zarr folder: one matrix with its cells and genes.

The folder is checked first: no links, no codec that could run code (zarr has one that unpickles), no array that
declares far more than is stored. Then the requested parts are read into memory by anndata's element reader.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from cell_lm.data.formats.cell_file import CellFile
from cell_lm.data.formats.hdf5 import guarded
from cell_lm.data.formats.hdf5_survey import LARGE, RATIO
from cell_lm.data.formats.source import RAW, X, choose, plain
from cell_lm.errors import InputError
from cell_lm.reading import MOST_LISTED, read_json_object, reason

_ROOTS = (".zgroup", "zarr.json")
_AGAIN = "Copy the whole folder again, or write it again with anndata"
_CODECS = frozenset(
    {"blosc", "zstd", "lz4", "zlib", "gzip", "bz2", "lzma", "shuffle", "delta", "fixedscaleoffset", "astype", "crc32"}
    | {
        "crc32c",
        "adler32",
        "fletcher32",
        "vlen-utf8",
        "vlen-bytes",
        "bytes",
        "transpose",
        "sharding_indexed",
        "packbits",
    }
)
"""Codecs that only decode numbers and text."""
_PER_TEXT = 100


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a zarr store."""
    return any((path / name).is_file() for name in _ROOTS)


@contextmanager
def open_zarr(path: Path, layer: str | None) -> Iterator[CellFile]:
    """Read one matrix of a folder."""
    import zarr

    name = str(path)
    _survey(path)
    with guarded(name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = zarr.open_group(path, mode="r")
        keys = set(root.keys())
        if not {"obs", "var"} <= keys:
            found = f"it is a zarr folder, but of no AnnData (it holds: {', '.join(sorted(keys)[:5]) or 'nothing'})"
            raise InputError(found, where=name, fix="Name the folder that anndata wrote")
        layers = [str(key) for key in root["layers"]] if "layers" in keys else []
        has_raw = RAW in keys and hasattr(root[RAW], "keys") and X in root[RAW]
        has_x = X in keys and root[X].attrs.get("encoding-type") != "null"
        place, elsewhere = choose(layer, layers, has_x=has_x, has_raw=has_raw, name=name)
        base = f"{RAW}/" if place == RAW else ""
        key = f"{base}X" if place in (X, RAW) else f"layers/{layer}"
        obs, var, matrix = (anndata.io.read_elem(root[part]) for part in ("obs", f"{base}var", key))
    if not isinstance(obs, pd.DataFrame) or not isinstance(var, pd.DataFrame):
        raise InputError("its obs or var is no table of anndata", where=name, fix=_AGAIN)
    whole = plain(matrix, (len(obs), len(var)), where=f"{name}, {place}")
    by_cell = sparse.csr_matrix(whole)

    def blocks(cells: int) -> Iterator[sparse.csr_matrix[Any]]:
        for start in range(0, by_cell.shape[0], cells):
            yield by_cell[start : start + cells]

    yield CellFile(name, place, obs, var, elsewhere, blocks)


def _survey(path: Path) -> None:
    """Refuse links, unknown codecs, and arrays that declare far more than all files hold."""
    stored = announced = 0
    for folder, folders, files in os.walk(path):
        here = Path(folder)
        for entry in (*folders, *files):
            if (here / entry).is_symlink():
                found = f"{(here / entry).relative_to(path)} is a link, not data"
                raise InputError(found, where=str(path), fix="Links are not followed: copy the data into the folder")
        stored += sum((here / file).stat().st_size for file in files)
        for file in {".zarray", "zarr.json"} & set(files):
            announced += _announced(here / file, path)
    if announced > LARGE + RATIO * stored:
        found = f"{stored:,} stored bytes announce {announced:,} bytes, as no counts of cells do"
        raise InputError(found, where=str(path), fix="Check where it comes from")


def _announced(file: Path, path: Path) -> int:
    """Return the bytes of the array that a metadata file describes, after checking its codecs."""
    try:
        array = read_json_object(file, most=MOST_LISTED)
        codecs = {str(codec) for codec in _codecs(array)}
        shape = [int(length) for length in array.get("shape", [])] if "shape" in array else [0]
        kind = array.get("dtype", array.get("data_type"))
        text = not isinstance(kind, str) or kind in ("|O", "string") or kind.startswith("variable")
        size = _PER_TEXT if text else np.dtype(kind).itemsize
    except (OSError, ValueError, TypeError, AttributeError) as error:
        found = f"{file.relative_to(path)} cannot be read ({reason(error)})"
        raise InputError(found, where=str(path), fix=_AGAIN) from None
    unknown = codecs - _CODECS
    if unknown:
        found = f"{file.relative_to(path)} names the codec '{min(unknown)[:40]}', which is not used"
        raise InputError(found, where=str(path), fix="Write it again with anndata's own settings")
    return math.prod(shape) * size


def _codecs(array: Mapping[str, Any]) -> Iterator[object]:
    """Yield the codecs of an array: of version 2 by ``id``, of version 3 by ``name``, also those inside of others."""
    given = [array.get("compressor"), *(array.get("filters") or []), *(array.get("codecs") or [])]
    for codec in given:
        if codec is None:
            continue
        yield codec.get("id", codec.get("name"))
        inner = codec.get("configuration") or {}
        yield from _codecs({"codecs": [*(inner.get("codecs") or []), *(inner.get("index_codecs") or [])]})
