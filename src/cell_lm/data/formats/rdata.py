"""Sparse matrices in R's own files (``.RData``, ``.rda``, ``.rds``), as PanglaoDB has them: a ``dgCMatrix``.

They are read by the pure Python parser of the package ``rdata``, which builds plain data and executes nothing; only
matrices of that class are used. R's format can only be read sequentially, so such a file is held in memory (PanglaoDB's
have at most some ten thousand cells each).

References
----------
R Internals, section "Serialization Formats"; the class ``dgCMatrix`` of R's package Matrix: ``x``, ``i`` and ``p`` are
data, indices and indptr of a CSC matrix of size ``Dim``, named by ``Dimnames``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rdata.parser import RObject, RObjectType
from scipy import sparse

from cell_lm.data.formats.cell_file import CellFile
from cell_lm.data.formats.orient import genes_are_rows, remark
from cell_lm.data.formats.rdata_parser import parse_bounded
from cell_lm.data.formats.source import X, sparse_damage
from cell_lm.data.formats.text import archive, intact, opened_bytes, refuse_repeated
from cell_lm.errors import CellLMError, InputError
from cell_lm.remedies import option

_CLASS, _PREFERRED = "dgCMatrix", "sm"
_AGAIN = "Copy or download it again"
_SAVE = "Save one sparse matrix with its names from R: sm <- as(counts, 'dgCMatrix'); save(sm, file='my.RData')"
_OBJECT_FIXES = {
    "Seurat": "In R: sm <- SeuratObject::LayerData(x, assay = 'RNA', layer = 'counts'); save(sm, file = 'my.RData')",
    "SingleCellExperiment": "In R: sm <- as(SingleCellExperiment::counts(x), 'dgCMatrix'); save(sm, file = 'my.RData')",
    "matrix": "In R: sm <- as(x, 'dgCMatrix'); save(sm, file = 'my.RData')",
    "data.frame": "In R: write.csv(x, 'my.csv'), with genes or cells as the names of its rows",
}
"""Advice for an object of another class, by class."""
_PIECE = 1 << 24
_OBJECTS = 1 << 16
"""Objects (a name is one) that any file may hold, in addition to one per 16 bytes."""
_LARGE, _RATIO = 1 << 26, 100
"""An archive that unpacks to more than 64 MB, and 100 times its size, holds no counts: those pack 10 to 40 times."""


class Matrix(NamedTuple):
    """A matrix of R: CSC, with row and column names."""

    values: sparse.csc_matrix[np.float64]
    rows: list[str]
    columns: list[str]


@contextmanager
def open_rdata(path: Path, layer: str | None) -> Iterator[CellFile]:
    """Open a matrix of a file; ``layer`` chooses it by name if there are several."""
    name = str(path)
    objects = _parse(path)
    chosen = _choose(objects, layer, name)
    where = f"{name}, {chosen}" if chosen else name
    matrix = _read_matrix(objects[chosen], where)
    matrices = [key for key, value in objects.items() if _class(value) == _CLASS and key != chosen]
    rows_are_genes = genes_are_rows(matrix.rows, matrix.columns, where=where)
    by_cell = sparse.csr_matrix(matrix.values.T if rows_are_genes else matrix.values)
    genes, cells = (matrix.rows, matrix.columns) if rows_are_genes else (matrix.columns, matrix.rows)
    refuse_repeated(cells, "names of cells", where)
    obs, var = (pd.DataFrame(index=pd.Index(names, dtype=object)) for names in (cells, genes))
    remarks = (remark(rows_are_genes, len(genes), len(cells)),)
    yield CellFile(name, chosen or "matrix", obs, var, tuple(matrices), lambda most: _blocks(by_cell, most), remarks)


def _blocks(matrix: sparse.csr_matrix[Any], cells: int) -> Iterator[sparse.csr_matrix[Any]]:
    for start in range(0, matrix.shape[0], cells):
        yield matrix[start : start + cells]


def _parse(path: Path) -> dict[str, RObject]:
    """Return the objects of a file by name; that of an ``.rds`` file has none."""
    name, data = str(path), _unpacked(path)
    named = data[:3] in (b"RDX", b"RDA", b"RDB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the parser does not know: only a dgCMatrix is looked at
            parsed = parse_bounded(data, most_objects=_OBJECTS + path.stat().st_size // 16)
    except MemoryError:
        raise InputError("it does not fit into memory", where=name, fix="Cut it into several files") from None
    except CellLMError:
        raise
    except Exception as error:  # a damaged file can break the parser in any way
        found = f"it is no whole file of R, or one of a kind that is not read ({type(error).__name__}: {error})"
        raise InputError(found[:300], where=name, fix=_AGAIN) from None
    return _members(parsed) if named else {"": parsed}


def _unpacked(path: Path) -> bytes:
    """Read a whole file, with a size limit."""
    pieces, size = list[bytes](), 0
    with opened_bytes(path, large=_LARGE, ratio=_RATIO) as file:
        while True:
            with intact(str(path), f" after {size:,} bytes"):
                piece = file.read(_PIECE)
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
    if archive(pieces[0] if pieces else b""):
        raise InputError("it is an archive inside an archive", where=str(path), fix="Unpack it once (gunzip)")
    return b"".join(pieces)


def _members(node: RObject) -> dict[str, RObject]:
    """Return the members of a pairlist by their tags: the objects of a file, or the attributes of an object."""
    members = {}
    while node is not None and node.info.type == RObjectType.LIST:
        if node.tag is not None:
            members[_symbol(node.tag)] = node.value[0]
        node = node.value[1]
    return members


def _symbol(node: RObject) -> str:
    node = _dereferenced(node)
    return _text(node.value) if node.info.type == RObjectType.SYM else ""


def _dereferenced(node: RObject) -> RObject:
    return node.referenced_object if node.info.type == RObjectType.REF else node


def _text(node: RObject) -> str:
    return node.value.decode("utf-8", errors="replace") if isinstance(node.value, bytes) else ""


def _texts(node: RObject) -> list[str]:
    return [_text(item) for item in node.value] if node.info.type == RObjectType.STR else []


_KINDS = {
    RObjectType.NILVALUE: "nothing",
    RObjectType.CLO: "a function",
    RObjectType.ENV: "an environment",
    RObjectType.LGL: "truth values",
    RObjectType.INT: "whole numbers",
    RObjectType.REAL: "numbers",
    RObjectType.STR: "text",
    RObjectType.VEC: "a list",
    RObjectType.LIST: "a pairlist",
    RObjectType.S4: "an S4 object",
}


def _class(node: RObject) -> str:
    """Return the class of an object, or a description of it."""
    given = _members(node.attributes).get("class") if node.attributes is not None else None
    names = _texts(given) if given is not None else []
    return names[0] if names else _KINDS.get(node.info.type, f"an object of type {node.info.type.name}")


def _choose(objects: dict[str, RObject], layer: str | None, name: str) -> str:
    """Return the name of the requested matrix, the only one, or PanglaoDB's."""
    matrices = [key for key, node in objects.items() if _class(node) == _CLASS]
    if not matrices:
        held = ", ".join(f"{key}: {_class(node)}" if key else _class(node) for key, node in objects.items())
        found = f"it holds no sparse matrix ({_CLASS}) but {held[:300] or 'nothing'}"
        kinds = {_class(node) for node in objects.values()}
        fix = next((fix for kind, fix in _OBJECT_FIXES.items() if kind in kinds), _SAVE)
        raise InputError(found, where=name, fix=fix)
    wanted = None if layer in (None, X) else layer
    if wanted in matrices:
        return str(wanted)
    if wanted is None and (len(matrices) == 1 or _PREFERRED in matrices):
        return matrices[0] if len(matrices) == 1 else _PREFERRED
    found = f"it has no matrix '{wanted}'" if wanted else f"it holds {len(matrices)} matrices"
    raise InputError(found, where=name, fix=f"Choose with {option('layer')}; there is: {', '.join(matrices)}")


def _read_matrix(node: RObject, where: str) -> Matrix:
    """Read the slots of a matrix, after checking that they are consistent."""
    slots = _members(node.attributes)
    x, i, p, dim = (_numbers(slots, key, where) for key in ("x", "i", "p", "Dim"))
    if len(dim) != 2 or min(dim, default=-1) < 0:
        raise InputError(f"its {_CLASS} has no size", where=where, fix=_SAVE)
    shape = int(dim[0]), int(dim[1])
    if 0 in shape:
        raise InputError(f"it holds {shape[0]:,} rows and {shape[1]:,} columns", where=where, fix=_SAVE)
    indices, indptr = i.astype(np.int32), p.astype(np.int32)
    damage = sparse_damage(x, indices, indptr, shape[::-1])
    if damage:
        raise InputError(f"its sparse index is damaged: {damage}", where=where, fix=_AGAIN)
    rows, columns = _names(slots.get("Dimnames"), shape, where)
    return Matrix(sparse.csc_matrix((x, indices, indptr), shape=shape), rows, columns)


def _numbers(slots: dict[str, RObject], key: str, where: str) -> NDArray[Any]:
    value = slots[key].value if key in slots else None
    if not isinstance(value, np.ndarray) or np.any(np.ma.getmaskarray(value)):
        raise InputError(f"its {_CLASS} has no slot {key} of plain numbers", where=where, fix=_SAVE)
    return np.asarray(value)


def _names(node: RObject | None, shape: tuple[int, int], where: str) -> tuple[list[str], list[str]]:
    lists = [_texts(item) for item in node.value] if node is not None and node.info.type == RObjectType.VEC else []
    if len(lists) != 2 or [len(names) for names in lists] != list(shape):
        named = " and ".join(f"{len(names):,}" for names in lists) or "no"
        found = f"its {_CLASS} is {shape[0]:,} x {shape[1]:,}, with {named} names of rows and columns"
        raise InputError(found, where=where, fix="Name them in R first: dimnames(sm) <- list(genes, cells)")
    return lists[0], lists[1]
