"""Layout of a text table of counts: its separator, names, and text columns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from cell_lm.data.formats.orient import gene_share
from cell_lm.data.formats.text import decoded, split_fields
from cell_lm.errors import InputError

_SEPARATORS = ("\t", ",", ";", " ")
_WORDS = {"\t": "tabs", ",": "commas", ";": "semicolons", " ": "blanks"}
_MISSING = re.compile(r"\s*|na|nan|n/a|null|none", re.IGNORECASE)
_SHOWN = 3
_MOST_COLUMNS = 1 << 20
ANNOTATIONS = frozenset(
    {"chr", "chrom", "chromosome", "seqname", "start", "end", "stop", "gene_start", "gene_end", "strand", "width"}
    | {"length", "gene_length", "genelength", "effectivelength", "effective_length", "eff_length"}
    | {"entrez", "entrezid", "entrez_id"}
)
"""Columns of numbers that are no counts, in lower case: those of featureCounts and of tables made from it."""


class Line(NamedTuple):
    """A line and its number in the file, from 1 on."""

    number: int
    text: bytes


@dataclass(frozen=True)
class Layout:
    """The columns of a table: a name, columns of text, numbers, columns of text.

    Attributes
    ----------
    where : str
        The file, for messages.
    separator : str
        Separator of the fields; a blank stands for any number of blanks.
    before, after : tuple of str
        Names of the columns of text before the numbers (the first of them names the row) and after them.
    columns : tuple of str
        Names of the columns of numbers.
    """

    where: str
    separator: str
    before: tuple[str, ...]
    columns: tuple[str, ...]
    after: tuple[str, ...]

    @classmethod
    def find(cls, header: Line, first: Line, where: str) -> Layout:
        """Detect the layout from the header and the first line of data.

        Raises
        ------
        InputError
            No separator fits both, there is no header, or no column of numbers.
        """
        separator, names, fields = _split_both(header, first, where)
        numbers = [
            place
            for place, (title, field) in enumerate(zip(names, fields, strict=True))
            if place and title.casefold() not in ANNOTATIONS and _is_number_or_missing(field)
        ]
        if not numbers:
            found = f"line {first.number:,} holds no number: {_some(fields)}"
            raise InputError(found, where=where, fix="Give a table of counts: names in the first line and column")
        _refuse_no_header(names, fields, header, where)
        begin, end = numbers[0], numbers[-1] + 1
        columns = set(numbers)
        inside = [names[place] for place in range(begin, end) if place not in columns]
        if inside:
            what = f"{len(inside):,} columns between those of counts ({_some(inside)})"
            found = f"{what} hold no number in line {first.number:,}"
            raise InputError(found, where=where, fix="Remove them, or move them to the front, next to the names")
        return cls(where, separator, tuple(names[:begin]), tuple(names[begin:end]), tuple(names[end:]))

    @property
    def remarks(self) -> tuple[str, ...]:
        """Description of the further text columns."""
        text = [*self.before[1:], *self.after]
        return (f"columns without counts, kept as annotation: {', '.join(text)}",) if text else ()


def _split_both(header: Line, first: Line, where: str) -> tuple[str, list[str], list[str]]:
    """Find the separator by which the two lines have as many fields, or the header one fewer, as R writes it."""
    likely = sorted(_SEPARATORS, key=lambda mark: -header.text.count(mark.encode()))
    if header.text.count(likely[0].encode()) > _MOST_COLUMNS:
        found = f"line {header.number:,} has more than {_MOST_COLUMNS:,} fields"
        raise InputError(found, where=where, fix="Write a table of this size as h5ad, with anndata")
    tried = []
    for separator in likely:
        names, fields = split_fields(header.text, separator), split_fields(first.text, separator)
        if len(fields) > 1 and len(names) == len(fields) - 1:
            return separator, ["", *names], fields
        if len(fields) > 1 and len(names) == len(fields):
            return separator, names, fields
        tried.append((separator, len(names), len(fields)))
    separator, in_header, in_first = tried[0]
    found = (
        f"line {header.number:,}, the header, has {in_header:,} fields separated by {_WORDS[separator]}, "
        f"line {first.number:,} has {in_first:,}"
    )
    raise InputError(found, where=where, fix="Every line must have one field for every name of the header")


def _refuse_no_header(names: list[str], fields: list[str], header: Line, where: str) -> None:
    """Refuse a first line that is data already: numbers that repeat, as names do not, or a gene and one count."""
    given = names[1:]
    alone = len(given) == 1 and gene_share(names[:1]) > 0
    if given and all(_is_number(name) for name in given) and (alone or len(set(given)) < len(given)):
        found = f"it has no header: line {header.number:,} holds numbers ({_some(fields)})"
        raise InputError(found, where=where, fix="Put a first line with the names of the columns")


def number(field: str) -> float:
    """Read a number as other programs write it; ``1_000`` is valid only in Python."""
    if "_" in field:
        raise ValueError(field)
    return float(field)


def _is_number(field: str) -> bool:
    try:
        number(field)
    except ValueError:
        return False
    return True


def _is_number_or_missing(field: str) -> bool:
    return _is_number(field) or _MISSING.fullmatch(field) is not None


def explain_line(layout: Layout, line: Line) -> InputError:
    """Return what is wrong with a line that could not be read as names and numbers."""
    fields = split_fields(line.text, layout.separator)
    expected = len(layout.before) + len(layout.columns) + len(layout.after)
    if len(fields) != expected:
        found = f"line {line.number:,} has {len(fields):,} fields, the header {expected:,}"
        return InputError(found, where=layout.where, fix="The file is cut off or damaged: download or write it again")
    numbers = fields[len(layout.before) : len(layout.before) + len(layout.columns)]
    wrong = [(name, field) for name, field in zip(layout.columns, numbers, strict=True) if not _is_number(field)]
    name, field = wrong[0]
    what = "nothing" if not field else f"'{field[:40]}'"
    more = f", and so in {len(wrong) - 1:,} more columns" if len(wrong) > 1 else ""
    found = f"line {line.number:,}, column '{name}' holds {what}, not a number{more}"
    fix = "Write 0 for no count" if _MISSING.fullmatch(field) else "Give counts only, as plain numbers"
    return InputError(found, where=layout.where, fix=fix)


def _some(names: list[str]) -> str:
    return ", ".join(f"'{decoded(name.encode())[:30]}'" for name in names[:_SHOWN]) + (", …" if len(names) > 3 else "")
