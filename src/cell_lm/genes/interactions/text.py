"""Tables of text or parquet, read strictly: what separates their columns, what these are called, and what they hold."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import InputError
from cell_lm.reading import BoundedReader, refuse_irregular

_GZIP, _ZIP, _PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
_HEAD = 1 << 16
_LARGE, _RATIO = 1 << 26, 40
"""A text that unpacks to more than 64 MB, and 40 times its size, is no network: those pack 4 to 12 times."""
_ROWS = 1 << 22
"""Rows that any parquet may have, beside four for every byte of it."""
_AGAIN = "Make it, or fetch it, again"


@dataclass(frozen=True)
class Table:
    """A table whose columns are known and not read yet.

    Attributes
    ----------
    path : Path
        The file.
    columns : tuple of str
        Their names.
    separator : str
        Between the columns; ``""``: the file is parquet.
    above : int
        Lines over the first row: comments (``##``) and the names of the columns.
    headed : bool
        Whether the names are those of the file.
    quoted : bool
        Whether fields may stand in quotes: in CSV, and where the first line has some.
    """

    path: Path
    columns: tuple[str, ...]
    separator: str = ""
    above: int = 0
    headed: bool = True
    quoted: bool = False

    def without_header(self) -> Table:
        """Return the same table with its first line as a row: gene_1, gene_2, score if that is a number, 4, 5, …."""
        third = "score" if len(self.columns) > 2 and _is_number(self.columns[2]) else "3"
        columns = ("gene_1", "gene_2", third, *(str(i) for i in range(4, len(self.columns) + 1)))
        return replace(self, columns=columns[: len(self.columns)], above=self.above - 1, headed=False)

    def read(self, columns: Sequence[str]) -> Rows:
        """Read some of the columns.

        Raises
        ------
        InputError
            A row has more or fewer fields than there are columns, or the file cannot be read to its end.
        """
        with explained(self.path):
            return self._read_text(columns) if self.separator else self._read_parquet(columns)

    def _read_parquet(self, columns: Sequence[str]) -> Rows:
        from pyarrow import parquet

        with parquet.ParquetFile(self.path) as file:
            _refuse_too_many_rows(self.path, file.metadata.num_rows)
        table = parquet.read_table(self.path, columns=list(dict.fromkeys(columns)))
        return Rows({name: table.column(name) for name in columns}, table.num_rows, 1, "row")

    def _read_text(self, columns: Sequence[str]) -> Rows:
        import pyarrow as pa
        from pyarrow import compute
        from pyarrow import csv as reader

        wrong = _WrongRows()
        with unpacked(self.path) as file, pa.PythonFile(file, mode="r") as stream:
            table = reader.read_csv(
                stream,
                # one thread, or the handler is not told which row it is
                reader.ReadOptions(use_threads=False, skip_rows=self.above, column_names=list(self.columns)),
                self._parsing(wrong),
                reader.ConvertOptions(
                    include_columns=list(dict.fromkeys(columns)),
                    column_types={name: pa.string() for name in columns},
                    strings_can_be_null=False,
                ),
            )
        wrong.refuse(str(self.path))
        columns_read = {name: table.column(name) for name in dict.fromkeys(columns)}
        blank = np.logical_and.reduce([compute.equal(column, "").to_numpy() for column in columns_read.values()])
        rows = {name: column.filter(~blank) for name, column in columns_read.items()}
        lines = np.flatnonzero(blank) + self.above + 1
        return Rows(rows, len(blank) - len(lines), self.above + 1, "line", lines)

    def _parsing(self, wrong: _WrongRows) -> Any:
        from pyarrow import csv as reader

        quote: str | bool = '"' if self.quoted else False
        return reader.ParseOptions(
            delimiter=self.separator, quote_char=quote, ignore_empty_lines=False, invalid_row_handler=wrong.see
        )


@dataclass(frozen=True)
class Rows:
    """Columns of a table.

    Attributes
    ----------
    columns : dict
        Name to pyarrow's chunked array.
    count : int
        Rows.
    start : int
        Number of the first one in the file, from 1.
    unit : str
        What is counted: ``"line"`` or ``"row"``.
    blank : ndarray
        int64, numbers of lines without anything, which are no rows.
    """

    columns: dict[str, Any]
    count: int
    start: int
    unit: str
    blank: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def place(self, row: int) -> str:
        """Say in words where a row stands: ``"line 12"``."""
        numbers = np.setdiff1d(np.arange(self.start, self.start + row + len(self.blank) + 1), self.blank)
        return f"{self.unit} {int(numbers[row]):,}"


@dataclass
class _WrongRows:
    """Counts rows that do not have as many fields as there are columns."""

    count: int = 0
    first: str = ""

    def see(self, row: Any) -> str:
        if not self.count:
            self.first = f"line {row.number:,} has {row.actual_columns:,} of {row.expected_columns:,}"
        self.count += 1
        return "skip"

    def refuse(self, where: str) -> None:
        if self.count:
            found = f"{self.count:,} rows have more or fewer fields than there are columns (the first: {self.first})"
            raise InputError(found, where=where, fix="Separate the columns by tabs or commas, the same in every line")


def open_table(path: Path) -> Table:
    """Find out what a file of rows and columns is: parquet, or text, gzipped or not, and what separates its columns.

    Raises
    ------
    InputError
        It is missing, empty, binary, or has a single column.
    """
    refuse_irregular(path, fix="Name the file in it" if path.is_dir() else "Name a file")
    with explained(path):
        return _open_parquet(path) if _starts_with(path, _PARQUET) else _open_text(path)


def _open_parquet(path: Path) -> Table:
    from pyarrow import parquet

    names = [name for name in parquet.read_schema(path).names if not name.startswith("__index_level_")]
    return Table(path, tuple(names))


def _open_text(path: Path) -> Table:
    lines = _first_lines(path)
    comments = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("##")), None)
    if comments is None:
        raise InputError("it is empty", where=str(path), fix="Give a file of one interaction per line")
    line = lines[comments]
    separator = next((sign for sign in "\t,; " if sign in line.strip()), None)
    if separator is None:
        found = f"it has a single column, '{line.strip()[:60]}'"
        raise InputError(found, where=str(path), fix="Give two columns of genes, separated by tabs or commas")
    if separator == " " and "  " in line.strip():
        fix = "Separate them by tabs or commas"
        raise InputError("its columns are apart by several spaces", where=str(path), fix=fix)
    first = tuple(name.strip() for name in next(csv.reader([line], delimiter=separator)))
    names = (first[0].lstrip("#").strip(), *first[1:])
    return Table(path, names, separator, comments + 1, quoted=separator in ",;" or '"' in line)


def _first_lines(path: Path) -> list[str]:
    """Return the lines that the first bytes of a text hold, without their ends."""
    with unpacked(path) as file:
        head = file.read(_HEAD)
    if head.startswith(_ZIP):
        fix = "Save the sheet as CSV, or unpack the archive"
        raise InputError("it is an Excel workbook or a zip archive", where=str(path), fix=fix)
    if b"\0" in head:
        fix = "Give text in UTF-8 (CSV, TSV; may be gzipped) or parquet"
        raise InputError("it is binary, not a table of text", where=str(path), fix=fix)
    return head.decode("utf-8-sig", errors="replace").splitlines()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a text to be read, gzipped or not; one that unpacks to far more than networks do is refused on the way."""
    with gzip.open(path) if is_gzipped(path) else path.open("rb") as file:
        inside, most = cast("IO[bytes]", file), max(_LARGE, _RATIO * path.stat().st_size)
        packed = isinstance(file, gzip.GzipFile)
        yield cast("IO[bytes]", BoundedReader(inside, str(path), most)) if packed else inside


def _refuse_too_many_rows(path: Path, rows: int) -> None:
    most = _ROWS + 4 * path.stat().st_size
    if rows > most:
        found = f"it announces {rows:,} rows, more than {most:,}: no network packs so well"
        raise InputError(found, where=str(path), fix="Check where it comes from")


def is_gzipped(path: Path) -> bool:
    """Tell whether a file is gzipped, by its first bytes."""
    return _starts_with(path, _GZIP)


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say in one line why a file cannot be read."""
    try:
        yield
    except InputError:
        raise
    except (OSError, EOFError, zlib.error, ValueError, KeyError) as error:  # those of pyarrow are of these kinds
        reason = " ".join(str(error).split())[:160]
        found = f"it cannot be read ({type(error).__name__}: {reason})"
        raise InputError(found, where=str(path), fix=f"It is damaged or cut off. {_AGAIN}") from None
