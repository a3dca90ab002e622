"""Matrix Market with its two lists of names: 10x folders, and the prefixed files of GEO.

Genes x cells, as 10x writes it; cells x genes if only that matches the lists. The text is read once, and sorted by cell
in a temporary file (:mod:`~cell_lm.data.formats.transpose`), since the entries may come in any order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cell_lm.data.formats.cell_file import CellFile, only_matrix
from cell_lm.data.formats.features import kept_features, select_genes
from cell_lm.data.formats.mtx_entries import Header, read_entries, read_header
from cell_lm.data.formats.text import opened_bytes, read_lines, refuse_repeated, split_fields
from cell_lm.data.formats.transpose import buckets
from cell_lm.errors import InputError

_MATRIX = re.compile(r"\.mtx(\.gz|\.bz2|\.xz)?$", re.IGNORECASE)
_LISTS = {"genes": ("features", "genes", "all_genes"), "barcodes": ("barcodes", "cell_metadata")}
_HEADERS = {"gene_id": "gene_ids", "gene_name": "name", "genome": "genome", "gene_names": "name"}
_BARCODES = ("bc_wells", "barcode", "barcodes", "cell_barcode", "cell_id", "cell")
"""First fields of lists with a header, such as those of Parse Biosciences (split-pipe)."""
_ENDS = (".tsv", ".txt", ".csv")
_PACKED = ("", ".gz", ".bz2", ".xz")
_MANY, _FEW = 100_000, 1_000
_MOST_GENES, _MOST_CELLS = 1 << 20, 1 << 23
"""Most lines of the lists: 10x writes 6.8 million barcodes where no cell was left out."""


class _Files(NamedTuple):
    matrix: Path
    genes: Path
    barcodes: Path


@contextmanager
def open_mtx(path: Path, layer: str | None) -> Iterator[CellFile]:
    """Open a folder with a matrix, or the matrix itself, and read it into a temporary file."""
    name = str(path)
    only_matrix(layer, name)
    files = _find(path)
    where = str(files.matrix)
    with opened_bytes(files.matrix) as text, buckets(np.dtype(np.float64), where=where) as sorter:
        header = read_header(text, where)
        most = 2 * max(header.rows, header.columns) + _FEW
        var, obs = _read_genes(files.genes, most), _read_barcodes(files.barcodes, most)
        transposed = _is_transposed(header, len(var), len(obs), files)
        for chunk in read_entries(text, header, where, transposed=transposed):
            sorter.add(chunk)
        read = sorter.blocks((len(obs), len(var)))
        orientation = ["its rows are cells, its columns genes"] if transposed else []
        kept, remarks = kept_features(var, where)
        yield CellFile(name, "matrix", obs, var[kept], (), select_genes(read, kept), (*orientation, *remarks))


def find_matrices(folder: Path) -> list[Path]:
    """Return the matrices in a folder."""
    return sorted(item for item in folder.iterdir() if item.is_file() and _MATRIX.search(item.name))


def _find(path: Path) -> _Files:
    matrix = _find_matrix(path) if path.is_dir() else path
    prefixes = _prefixes(matrix.name)
    found = {what: _find_list(matrix, prefixes, words) for what, words in _LISTS.items()}
    for what, file in found.items():
        if file is None:
            looked = ", ".join(f"{prefixes[0]}{word}.tsv[.gz]" for word in _LISTS[what])
            fix = f"Put {looked} beside the matrix"
            raise InputError(f"the file that lists its {what} is missing", where=str(matrix), fix=fix)
    genes, barcodes = (Path(str(found[what])) for what in ("genes", "barcodes"))
    return _Files(matrix, genes, barcodes)


def _find_matrix(folder: Path) -> Path:
    found = find_matrices(folder)
    if len(found) == 1:
        return found[0]
    names = ", ".join(item.name for item in found[:3])
    if found:
        what = f"the folder holds {len(found):,} matrices ({names}{', …' if len(found) > 3 else ''})"
        raise InputError(what, where=str(folder), fix="Name one of the .mtx files")
    below = sorted(item.parent for item in folder.glob("*/**/*") if item.is_file() and _MATRIX.search(item.name))
    fix = f"Name {below[0]}, which holds one" if below else "Name the folder that holds matrix.mtx"
    raise InputError("the folder holds no matrix (.mtx)", where=str(folder), fix=fix)


def _prefixes(name: str) -> list[str]:
    """Return the possible prefixes of the lists: ``GSM1_a_`` of ``GSM1_a_matrix.mtx.gz``, and nothing."""
    stem = _MATRIX.sub("", name)
    before, word, _ = stem.rpartition("matrix")
    return list(dict.fromkeys([before] if word else [f"{stem}.", f"{stem}_", ""]))


def _find_list(matrix: Path, prefixes: list[str], words: tuple[str, ...]) -> Path | None:
    packed = matrix.name[len(_MATRIX.sub(".mtx", matrix.name)) :]
    for prefix in prefixes:
        for word in words:
            for end in _ENDS:
                for archive in dict.fromkeys((packed, *_PACKED)):  # rather the list that is packed as the matrix is
                    path = matrix.with_name(f"{prefix}{word}{end}{archive}")
                    if path.is_file():
                        return path
    return None


def _read_fields(path: Path, most: int) -> Iterator[list[str]]:
    """Yield the fields of each line of a list."""
    separator = "," if ".csv" in path.name else "\t"
    for number, line in enumerate(read_lines(path), start=1):
        if number > most:
            found = f"it has more than {most:,} lines, far more than its matrix has rows or columns"
            raise InputError(found, where=str(path), fix="Put the three files of one sample together")
        yield split_fields(line, separator)


def _read_genes(path: Path, most: int) -> pd.DataFrame:
    """Return the genes: the index is the symbol (the second column), or the only column."""
    rows = list(_read_fields(path, min(most, _MOST_GENES)))
    if not rows:
        raise InputError("it is empty", where=str(path), fix="Copy or download it again")
    header = [field.casefold() for field in rows[0]]
    width = len(rows[0])
    for number, row in enumerate(rows, start=1):
        if len(row) != width:
            found = f"line {number:,} has {len(row)} columns, line 1 has {width}"
            raise InputError(found, where=str(path), fix="Copy or download it again")
    if header[0] in _HEADERS and len(header) > 1 and len(rows) > 1:
        table = pd.DataFrame(rows[1:], columns=[_HEADERS.get(name, name) for name in header], dtype=object)
        return table.set_index(table["name" if "name" in table else "gene_ids"].rename(None)).drop(
            columns="name", errors="ignore"
        )
    table = pd.DataFrame(rows, dtype=object)
    if width == 1:
        return pd.DataFrame(index=pd.Index(table[0].tolist(), dtype=object))
    columns = {"gene_ids": table[0].tolist()}
    if width > 2:
        columns["feature_types"] = table[2].tolist()
    return pd.DataFrame(columns, index=pd.Index(table[1].tolist(), dtype=object))


def _read_barcodes(path: Path, most: int) -> pd.DataFrame:
    names, header, others = list[str](), list[str](), list[list[str]]()
    for row in _read_fields(path, min(most, _MOST_CELLS)):
        if not names and not header and len(row) > 1 and row[0].casefold() in _BARCODES:
            header = row
            continue
        if header and len(row) == len(header):
            others.append(row[1:])
        names.append(row[0] if row else "")
        if len(names) == _MANY:  # what repeats in a million lines does so in the first ones, too
            refuse_repeated(names, "barcodes", str(path))
    refuse_repeated(names, "barcodes", str(path))
    index = pd.Index(names, dtype=object)
    if header and len(others) == len(names) and len(set(header)) == len(header):
        return pd.DataFrame(others, index=index, columns=header[1:], dtype=object)
    return pd.DataFrame(index=index)


def _is_transposed(header: Header, genes: int, cells: int, files: _Files) -> bool:
    """Return whether the rows are cells; refuse a matrix whose shape does not match the lists."""
    if (header.rows, header.columns) == (genes, cells):
        return False
    if (header.rows, header.columns) == (cells, genes):
        return True
    found = (
        f"it is {header.rows:,} x {header.columns:,} (line {header.line:,}), "
        f"but {files.genes.name} has {genes:,} lines and {files.barcodes.name} {cells:,}"
    )
    off_by_one = {header.rows, header.columns} & {genes - 1, cells - 1}
    fix = "Remove the header line of the lists" if off_by_one else "Put the three files of one sample together"
    raise InputError(found, where=str(files.matrix), fix=fix)
