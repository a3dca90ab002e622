"""A sample sheet: properties of whole files of cells, one line per sample, as for CancerSCEM and GEO series.

CancerSCEM publishes one table of counts a sample, named by it (``LUAD-003-01-1A.counts.matrix.tsv.gz``), and a list of
the samples with them. The cells of a file get all values of their sample's line as columns of ``obs``, and
``malignancy`` if a column of the sheet separates tumour from normal. It is then a property of the *sample*, as in
CellLM: every cell of a tumour sample is labelled as a tumour cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cell_lm.data.formats.text import read_lines, refuse_repeated, split_fields
from cell_lm.data.obs.columns import find_column
from cell_lm.data.obs.malignancy import UNKNOWN, MalignancyColumn
from cell_lm.errors import InputError

SAMPLE, MALIGNANCY = "sample", "malignancy"
_SAMPLE_COLUMNS = ("sample", "sampleid", "samplename", "sampleaccession", "samplenumber", "sampletitle")
_MOST_BYTES = 1 << 24
_MALIGNANCY_NAMES = {1: "tumour", 0: "normal", UNKNOWN: "unknown"}


@dataclass(frozen=True)
class SampleSheet:
    """The samples of a sheet.

    Attributes
    ----------
    name : str
        The file, for messages.
    table : DataFrame
        One row per sample, indexed by name; all columns of the sheet, as text, and ``malignancy`` if the sheet has it.
    """

    name: str
    table: pd.DataFrame

    @classmethod
    def read(
        cls, path: str | Path, *, sample_column: str | None = None, malignancy: MalignancyColumn | None = None
    ) -> SampleSheet:
        """Read a sheet: csv or tsv, compressed or not, with a header.

        Parameters
        ----------
        path
            The file.
        sample_column
            The column that names the samples; default: the one called sample, sample ID or the like.
        malignancy
            The column that separates tumour from normal, and the meaning of its values; default: the only column whose
            values are all recognised.

        Raises
        ------
        InputError
            It is not a table, a sample is duplicated, or no column (or more than one) names the samples.
        """
        name, table = str(path), _read_table(Path(path))
        column = sample_column or _only_sample_column(table, name)
        names = find_column(table, column, axis="the sheet", where=name)
        refuse_repeated(names.tolist(), "samples", name)
        table = table.set_index(names.rename(None))
        malignancy_words = _sample_malignancy(table, malignancy, name)
        return cls(name, table if malignancy_words is None else table.assign(**{MALIGNANCY: malignancy_words}))

    @property
    def tells_malignancy(self) -> bool:
        """Whether the sheet separates tumour from normal."""
        return MALIGNANCY in self.table

    def sample_of(self, path: str | Path) -> str:
        """Return the sample of a file: its name is the file name, or the start of it.

        Raises
        ------
        InputError
            There is no such sample.
        """
        file = Path(path).name
        fits = [name for name in self.table.index if name and re.match(re.escape(name) + r"(?![A-Za-z0-9])", file)]
        if not fits:
            shown = ", ".join(self.table.index[:3])
            found = f"none of the {len(self.table):,} samples of {self.name} ({shown}, …) is what its name begins with"
            raise InputError(found, where=str(path), fix="Name the file by its sample, or add the sample to the sheet")
        return str(max(fits, key=len))

    def describe(self, obs: pd.DataFrame, path: str | Path) -> pd.DataFrame:
        """Return the cells of a file with the columns of their sample; columns of the cells take precedence."""
        sample = self.sample_of(path)
        columns = {SAMPLE: sample, **{str(key): value for key, value in self.table.loc[sample].items()}}
        return obs.assign(**{key: value for key, value in columns.items() if key not in obs})


def _read_table(path: Path) -> pd.DataFrame:
    lines = list(_lines(path))
    separator = max("\t,;", key=lambda mark: lines[0].count(mark.encode())) if lines else ","
    rows = [split_fields(line, separator) for line in lines]
    if len(rows) < 2 or len(rows[0]) < 2:
        found = f"it is no sheet of samples: {len(rows):,} lines of {len(rows[0]) if rows else 0} columns"
        raise InputError(found, where=str(path), fix="Give a csv or tsv with a header, one line a sample")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            found = f"line {number:,} has {len(row)} columns, the header {len(rows[0])}"
            raise InputError(found, where=str(path), fix="Quote the fields that hold the separator")
    return pd.DataFrame(rows[1:], columns=rows[0], dtype=object)


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines that hold something, of a text of ordinary size."""
    size = 0
    for number, line in enumerate(read_lines(path), start=1):
        size += len(line)
        if b"\0" in line:
            fix = "Save the sheet as csv or tsv, in UTF-8"
            raise InputError(f"it is no text: line {number:,} holds null bytes", where=str(path), fix=fix)
        if size > _MOST_BYTES:
            found = f"it has more than {_MOST_BYTES:,} bytes, as no sheet of samples has"
            raise InputError(found, where=str(path), fix="Name the sheet, not the cells")
        if line.strip():
            yield line


def _only_sample_column(table: pd.DataFrame, name: str) -> str:
    plain = {str(column): re.sub(r"[^a-z]", "", str(column).casefold()) for column in table.columns}
    found = [column for column, word in plain.items() if word in _SAMPLE_COLUMNS]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} columns name samples ({', '.join(found)})" if found else "no column is called sample"
    fix = f"Say which column names them; there is: {', '.join(plain)}"
    raise InputError(what, where=name, fix=fix)


def _sample_malignancy(table: pd.DataFrame, malignancy: MalignancyColumn | None, name: str) -> list[str] | None:
    """Return in words which samples are tumours, by the column that was named or the only one that is understood."""
    if malignancy is not None:
        return _words(table, malignancy, name)
    understood = []
    for column in table.columns:
        try:
            words = _words(table, MalignancyColumn(str(column)), name)
        except InputError:
            continue
        if {"tumour", "normal"} & set(words):
            understood.append(words)
    return understood[0] if len(understood) == 1 else None


def _words(table: pd.DataFrame, malignancy: MalignancyColumn, name: str) -> list[str]:
    return [_MALIGNANCY_NAMES[int(value)] for value in malignancy.read(table, where=name)]
