"""Undo changes that programs make to gene names: genome prefixes, ids joined to symbols, dates, numbered duplicates.

This module looks only at the form of a name; :mod:`~cell_lm.genes.reader` finds out whether the result is a gene.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_HUMAN_PREFIX = re.compile(r"(?:GRCh3[78]|hg(?:19|38)|human|homo[_ ]sapiens)[_\-.]+(?=.)", re.IGNORECASE)
_OTHER_PREFIX = re.compile(
    r"(?:GRCm3[89]|mm(?:9|10|39)|mouse|mus[_ ]musculus|mRatBN7|Rnor[_ ]6|rn[67]|rat|GRCz11|danRer\d+)[_\-.]+(?=.)",
    re.IGNORECASE,
)
_JOIN = r"[|_:;,/ .\-]+"
_WITH_ENSEMBL = re.compile(
    rf"(?:(?P<left>.+?){_JOIN})?(?P<id>ENSG\d{{11}})(?:\.\d+)?(?:_PAR_Y)?(?:{_JOIN}(?P<right>.+))?"
)
_MADE_UNIQUE = re.compile(r"(?P<base>.+)[.\-](?P<number>[1-9]\d?)")
_READING_FRAME = re.compile(r"C(?:\d+|X|Y)orf\d+", re.IGNORECASE)

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_STEMS = {"mar": ("MARCH", "MARC", "MAR"), "sep": ("SEPT", "SEP")}
"""Stems of gene names that a spreadsheet reads as a month, unless equal to the month (DEC1, OCT1, …)."""
_DATE = re.compile(
    rf"(?P<day>0?[1-9]|[12]\d|3[01])[-. /](?P<month>{'|'.join(_MONTHS)})"
    rf"|(?P<month2>{'|'.join(_MONTHS)})[-. /](?P<day2>0?[1-9]|[12]\d|3[01])"
    r"|(?:19|20)\d\d-(?P<month3>0[1-9]|1[0-2])-(?P<day3>0[1-9]|[12]\d|3[01])(?:[ T]00:00:00)?",
    re.IGNORECASE,
)


class Compound(NamedTuple):
    """The Ensembl gene id in a name, and the rest of the name (``""`` if nothing)."""

    ensembl: str
    rest: str


def as_text(name: object) -> str:
    """Return a name as text, whatever it is; ``""`` for None, NaN and other missing values."""
    if isinstance(name, str):
        return name
    if isinstance(name, bytes):
        return name.decode("utf-8", errors="replace")
    # Only NaN and NaT differ from themselves; comparing pd.NA gives neither true nor false.
    try:
        return "" if name is None or name != name else str(name)
    except (TypeError, ValueError):
        return ""


def human_prefix(name: str) -> str:
    """Return the prefix of the human genome (``GRCh38_``, ``hg19-``), ``""`` if there is none."""
    found = _HUMAN_PREFIX.match(name)
    return found.group() if found else ""


def other_prefix(name: str) -> str:
    """Return the prefix of another genome (``mm10___``), ``""`` if there is none."""
    found = _OTHER_PREFIX.match(name)
    return found.group() if found else ""


def compound(name: str) -> Compound | None:
    """Find the Ensembl gene id in ``ENSG00000167286.9``, ``CD3D|ENSG00000167286``, ``ENSG00000167286_CD3D``."""
    if "ENSG" not in name:
        return None
    found = _WITH_ENSEMBL.fullmatch(name)
    return Compound(found["id"], found["left"] or found["right"] or "") if found else None


def before_the_date(name: str) -> tuple[str, ...]:
    """Return the gene names that a spreadsheet may have turned into this date: ``2-Sep`` was SEPT2 or SEP2.

    Both orders (``2-Sep``, ``Sep-02``) and ISO dates (``2021-09-02``) are read; ``()`` if it is no date.
    """
    found = _DATE.fullmatch(name)
    if not found:
        return ()
    month, day = found["month"] or found["month2"], found["day"] or found["day2"] or found["day3"]
    month = month.lower() if month else _MONTHS[int(found["month3"]) - 1]
    return tuple(f"{stem}{int(day)}" for stem in _STEMS.get(month, (month.upper(),)))


def made_unique_from(name: str) -> str:
    """Return the name before a number of ``make.unique`` (R: ``CD3D.1``) or AnnData (``CD3D-1``), or ``""``."""
    found = _MADE_UNIQUE.fullmatch(name)
    return found["base"] if found else ""


def plainly_human(name: str) -> bool:
    """Return whether a name has the case of a human symbol: all capitals (C1ORF112), or an open reading frame.

    Mouse and rat genes are in title case (``Cd3d``), zebrafish genes in lower case: these are not human.
    """
    return name == name.upper() or _READING_FRAME.fullmatch(name) is not None
