"""The text of a Matrix Market file: its header, and its entries in blocks of a few hundred thousand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell_lm.data.formats.text import intact, numbers
from cell_lm.data.formats.transpose import Chunk
from cell_lm.errors import InputError

_BYTES = 1 << 23
_AGAIN = "Copy or download it again"


class Header(NamedTuple):
    """Size of the matrix, its entries, and the line that says so."""

    rows: int
    columns: int
    entries: int
    line: int
    whole: bool


def read_header(text: IO[bytes], where: str) -> Header:
    """Read the first lines, up to the one with the size.

    Raises
    ------
    InputError
        The file is not a sparse matrix of real numbers.
    """
    with intact(where):
        banner = text.readline(1 << 16).decode("utf-8", errors="replace").lower().split()
    kind = banner[1:] if banner[:1] == ["%%matrixmarket"] else []
    if kind[:2] != ["matrix", "coordinate"] or kind[2:3] not in (["real"], ["integer"]) or kind[3:] != ["general"]:
        found = f"it is a Matrix Market file of another kind: {' '.join(kind) or 'unmarked'}"
        raise InputError(found, where=where, fix="It must be 'matrix coordinate integer general' (or real)")
    number = 1
    while True:
        with intact(where, f" after line {number:,}"):
            line = text.readline(1 << 20)
        number += 1
        if line.strip() and not line.startswith(b"%"):
            break
        if not line:
            raise InputError("it ends before its size is told", where=where, fix=_AGAIN)
    fields = line.split()
    if len(fields) != 3 or not all(field.isdigit() for field in fields):
        found = f"line {number:,} is no size (rows, columns, entries): {line[:60].decode(errors='replace').strip()!r}"
        raise InputError(found, where=where, fix=_AGAIN)
    rows, columns, entries = (int(field) for field in fields)
    return Header(rows, columns, entries, number, kind[2] == "integer")


def read_entries(text: IO[bytes], header: Header, where: str, *, transposed: bool) -> Iterator[Chunk]:
    """Yield the entries, as cell, gene and value.

    Raises
    ------
    InputError
        A line is not an entry or lies outside the matrix, or the number of entries differs from the header.
    """
    number, done, rest = header.line, 0, b""
    while True:
        with intact(where, f" after line {number:,}"):
            block = text.read(_BYTES)
        lines, rest = _whole_lines(rest + block, last=not block)
        if lines:
            table = _parse(lines, number, where)
            _refuse_outside(table, header, number, where)
            done += len(table)
            number += lines.count(b"\n") + (not lines.endswith(b"\n"))
            genes, cells = table[:, 0].astype(np.int64) - 1, table[:, 1].astype(np.int64) - 1
            yield Chunk(genes, cells, table[:, 2]) if transposed else Chunk(cells, genes, table[:, 2])
        if not block:
            break
    if done != header.entries:
        cut = "it is cut off" if done < header.entries else "it goes on too long"
        found = f"{cut}: {done:,} of {header.entries:,} entries are there (line {header.line:,} says how many)"
        raise InputError(found, where=where, fix=_AGAIN)


def _whole_lines(text: bytes, *, last: bool) -> tuple[bytes, bytes]:
    end = len(text) if last else text.rfind(b"\n") + 1
    return text[:end], text[end:]


def _parse(lines: bytes, number: int, where: str) -> NDArray[np.int64] | NDArray[np.float64]:
    """Read whole lines into rows of three numbers."""
    table = numbers(lines, " ") if _is_plain(lines) else None
    if table is not None and len(table) == 3 * (lines.count(b"\n") + (not lines.endswith(b"\n"))):
        return table.reshape(-1, 3)
    return _parse_slowly(lines, number, where)


def _is_plain(lines: bytes) -> bool:
    """Return whether every line has two single blanks: then a missing number cannot be taken from the next line."""
    letters = np.frombuffer(lines, np.uint8)
    ends = np.flatnonzero(letters == ord("\n"))
    blanks = np.searchsorted(np.flatnonzero((letters == ord(" ")) | (letters == ord("\t"))), ends)
    return bool((np.diff(blanks, prepend=0) == 2).all())


def _parse_slowly(lines: bytes, number: int, where: str) -> NDArray[np.float64]:
    """Read line by line, to find the wrong one; blank lines are allowed."""
    table = []
    for place, line in enumerate(lines.splitlines(), start=number + 1):
        fields = line.split()
        try:
            if fields:
                row, column, value = (float(field) for field in fields)
                table.append((row, column, value))
        except ValueError:
            shown = line[:60].decode(errors="replace").strip()
            found = f"line {place:,} is no entry (row, column, value): {shown!r}"
            raise InputError(found, where=where, fix=_AGAIN) from None
    return np.array(table, np.float64).reshape(-1, 3)


def _refuse_outside(table: NDArray[np.int64] | NDArray[np.float64], header: Header, number: int, where: str) -> None:
    for column, size, what in ((0, header.rows, "row"), (1, header.columns, "column")):
        index = table[:, column]
        wrong = np.flatnonzero(~((index >= 1) & (index <= size) & (index == np.floor(index))))
        if len(wrong):
            line, value = number + 1 + int(wrong[0]), index[wrong[0]]
            found = f"the entry in line {line:,} is in {what} {value:,.12g}, which is not one of 1 to {size:,}"
            raise InputError(found, where=where, fix=_AGAIN)
