"""Text tables: csv, tsv or blanks, compressed or not, genes x cells or cells x genes.

The text is read once, line by line; non-zero entries go through :mod:`~cell_lm.data.formats.transpose`, so that memory
is bounded for either orientation, and blocks can be read again without reading the text again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data.formats.cell_file import MOST_ENTRIES, CellFile, only_matrix
from cell_lm.data.formats.orient import gene_share, genes_are_rows, remark
from cell_lm.data.formats.table_kinds import refuse_other_tables
from cell_lm.data.formats.table_layout import Layout, Line, explain_line, number
from cell_lm.data.formats.text import decoded, numbers, read_lines, refuse_repeated, split_fields
from cell_lm.data.formats.transpose import Buckets, Chunk, buckets
from cell_lm.errors import InputError

_FIRST_LINES, _FIRST_BYTES = 2_000, 1 << 26
"""Number of lines used to detect the orientation."""
_MOST_LINES = 1 << 21
"""Most lines of a table: more than any dense table of cells has, and less than an archive of one letter a line."""
_HELD = 1 << 12
"""Lines that are held at most before they are handed on."""


@contextmanager
def open_table(path: Path, layer: str | None) -> Iterator[CellFile]:
    """Open a table, and read it into a temporary file."""
    name = str(path)
    only_matrix(layer, name)
    lines = _data_lines(path)
    header, first = next(lines, None), next(lines, None)
    if header is None or first is None:
        found = "it is empty" if header is None else "it has one line only"
        raise InputError(found, where=name, fix="Give a table of counts: names in the first line and column")
    refuse_other_tables(header.text, name)
    layout = Layout.find(header, first, name)
    begin = list(_first_lines(first, lines))
    rows_are_genes = genes_are_rows(_row_names(layout, begin), layout.columns, where=name)
    with buckets(np.dtype(np.float64), where=name) as sorter:
        rows = _Rows(layout, rows_are_genes, sorter)
        for line in itertools.chain(begin, lines):
            rows.read(line)
        rows.flush()
        obs, var = rows.tables()
        remarks = (remark(rows_are_genes, len(var), len(obs)), *layout.remarks)
        yield CellFile(name, "table", obs, var, (), sorter.blocks((len(obs), len(var))), remarks)


def _data_lines(path: Path) -> Iterator[Line]:
    """Yield the non-empty lines, without the comments before the header."""
    begun = False
    for place, text in enumerate(read_lines(path), start=1):
        if text.strip() and (begun or not text.startswith(b"#")):
            begun = True
            yield Line(place, text)


def _first_lines(first: Line, lines: Iterator[Line]) -> Iterator[Line]:
    """Yield some lines, at most so many that they can be held."""
    size = 0
    for line in itertools.chain([first], itertools.islice(lines, _FIRST_LINES)):
        yield line
        size += len(line.text)
        if size > _FIRST_BYTES:
            return


def _row_names(layout: Layout, lines: list[Line]) -> list[str]:
    """Return the first names of the rows: of the columns of text before the numbers, the one that holds most genes."""
    mark, many = None if layout.separator == " " else layout.separator.encode(), len(layout.before)
    fields = [[decoded(field) for field in line.text.split(mark, many)[:many]] for line in lines]
    columns = [[row[place] if place < len(row) else "" for row in fields] for place in range(many)]
    return columns[0] if many == 1 else max(columns, key=gene_share)


@dataclass
class _Rows:
    """The lines of a table as they come in: names, columns of text, and the entries that are not zero."""

    layout: Layout
    are_genes: bool
    sorter: Buckets
    text: list[list[str]] = field(default_factory=list)
    _waiting: list[tuple[int, NDArray[np.intp], NDArray[np.float64]]] = field(default_factory=list)
    _entries: int = 0

    def read(self, line: Line) -> None:
        """Add one line."""
        before, values, after = _parse(self.layout, line)
        place = np.flatnonzero(values)
        self._waiting.append((len(self.text), place, values[place].astype(np.float64)))
        self.text.append([*before, *after])
        self._entries += len(place)
        if self._entries > MOST_ENTRIES or len(self._waiting) > _HELD:
            self.flush()
        if len(self.text) > _MOST_LINES:
            found = f"it has more than {_MOST_LINES:,} lines"
            raise InputError(found, where=self.layout.where, fix="Write so many cells as h5ad, with anndata")

    def flush(self) -> None:
        """Pass on the buffered lines."""
        if self._waiting:
            rows = np.repeat([row for row, _, _ in self._waiting], [len(place) for _, place, _ in self._waiting])
            columns = np.concatenate([place for _, place, _ in self._waiting])
            values = np.concatenate([some for _, _, some in self._waiting])
            self.sorter.add(Chunk(columns, rows, values) if self.are_genes else Chunk(rows, columns, values))
        self._waiting, self._entries = [], 0

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the cells and the genes."""
        names = [*self.layout.before, *self.layout.after]
        text = pd.DataFrame(self.text, columns=_distinct(names), dtype=object)
        rows = text.set_index(text.columns[self._index(text)])
        rows.index.name = None
        columns = pd.DataFrame(index=pd.Index(self.layout.columns, dtype=object))
        obs, var = (columns, rows) if self.are_genes else (rows, columns)
        refuse_repeated(obs.index.tolist(), "names of cells", self.layout.where)
        return obs, var

    def _index(self, text: pd.DataFrame) -> int:
        """Return which column of text names the rows: the first, or for genes the one that holds most of them."""
        if not self.are_genes or text.shape[1] == 1:
            return 0
        shares = [gene_share(text[name].tolist()) for name in text.columns]
        return int(np.argmax(shares))


def _distinct(names: list[str]) -> list[str]:
    """Return names of columns, each different: an unnamed first one is ``name``."""
    given = [name or ("name" if place == 0 else f"column {place + 1}") for place, name in enumerate(names)]
    return [name if given.count(name) == 1 else f"{name} ({place + 1})" for place, name in enumerate(given)]


def _parse(layout: Layout, line: Line) -> tuple[list[str], NDArray[np.float64] | NDArray[np.int64], list[str]]:
    """Split a line; the fast way where it is plain, else field by field."""
    mark = None if layout.separator == " " else layout.separator.encode()
    parts = line.text.split(mark, len(layout.before))
    before, rest = parts[:-1], parts[-1]
    after: list[bytes] = []
    if layout.after:
        rest, *after = rest.rsplit(mark, len(layout.after))
    # Between tabs a blank would part numbers too, and could make up for a field that is missing.
    blank = layout.separator == "\t" and b" " in rest
    plain = len(before) == len(layout.before) and b'"' not in rest and not blank
    if plain and not any(text.count(b'"') % 2 for text in [*before, *after]):
        values = numbers(rest, layout.separator)
        if values is not None and len(values) == len(layout.columns):
            return [decoded(text) for text in before], values, [decoded(text) for text in after]
    return _parse_slowly(layout, line)


def _parse_slowly(layout: Layout, line: Line) -> tuple[list[str], NDArray[np.float64], list[str]]:
    fields = split_fields(line.text, layout.separator)
    begin, end = len(layout.before), len(layout.before) + len(layout.columns)
    try:
        if len(fields) != end + len(layout.after):
            raise ValueError(len(fields))
        values = np.array([number(field) for field in fields[begin:end]])
        return fields[:begin], values, fields[end:]
    except ValueError:
        raise explain_line(layout, line) from None
