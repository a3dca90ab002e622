"""Tables that programs of bulk RNA sequencing write for one sample: no matrix of cells, so they are refused by name."""

from __future__ import annotations

from typing import NamedTuple

from cell_lm.data.formats.text import split_fields
from cell_lm.errors import InputError

_JOIN = "Join the samples into one table of counts first: genes in rows, and a header with the name of each sample"
_TXIMPORT = "Sum it to genes first (R's tximport), and write the counts of all samples as one table with a header"


class _Kind(NamedTuple):
    """A program's table, known by the names in its first line or by what that line begins with."""

    what: str
    columns: frozenset[str]
    begins: str
    fix: str


_KINDS = (
    _Kind("salmon's quant.sf: the transcripts of one sample", frozenset({"tpm", "numreads"}), "", _TXIMPORT),
    _Kind("kallisto's abundance.tsv: the transcripts of one sample", frozenset({"est_counts", "tpm"}), "", _TXIMPORT),
    _Kind("RSEM's results of one sample", frozenset({"expected_count", "tpm"}), "", _TXIMPORT),
    _Kind("StringTie's abundances of one sample", frozenset({"coverage", "fpkm", "tpm"}), "", _TXIMPORT),
    _Kind("STAR's ReadsPerGene.out.tab of one sample, which has no header", frozenset(), "N_unmapped", _JOIN),
    _Kind("HTSeq's counts of one sample, without a header", frozenset(), "__no_feature", _JOIN),
)


def refuse_other_tables(header: bytes, name: str) -> None:
    """Refuse a table of another kind, by its first line.

    Raises
    ------
    InputError
        It is one; the message names it and how to make a matrix of it.
    """
    begin = header[:4096]
    names = {field.casefold() for mark in "\t," for field in split_fields(begin, mark)}
    for kind in _KINDS:
        if (kind.columns and kind.columns <= names) or (kind.begins and begin.startswith(kind.begins.encode())):
            raise InputError(f"it is {kind.what}, no matrix of cells", where=name, fix=kind.fix)
