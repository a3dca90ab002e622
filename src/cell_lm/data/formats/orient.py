"""Which axis of a matrix is the genes: the one whose names are in the vocabulary of human genes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cell_lm.errors import GeneError, InputError
from cell_lm.genes import Vocabulary, resolve_genes
from cell_lm.genes.audit import clip

_SAMPLE = 2_000
_ENOUGH = 0.2
"""Least fraction of names that must be genes of the vocabulary; files of 60,000 annotated human genes have 0.3."""


def gene_share(names: Sequence[str]) -> float:
    """Return the fraction of names that are genes of the vocabulary, 0 to 1, from at most 2,000 of them."""
    some = _spread(names)
    try:
        return resolve_genes(some, Vocabulary.human(), min_overlap=0).used / len(some)
    except GeneError:
        return 0.0


def genes_are_rows(rows: Sequence[str], columns: Sequence[str], *, where: str) -> bool:
    """Return whether the rows, not the columns, are the genes.

    Parameters
    ----------
    rows, columns
        Their names, or the first of them.

    Raises
    ------
    InputError
        Both or neither look like genes.
    GeneError
        Neither does, and one of them is recognised as something else (another species, transcripts, peaks).
    """
    by_row, by_column = gene_share(rows), gene_share(columns)
    if max(by_row, by_column) < _ENOUGH:
        _refuse_neither(rows, columns, where)
    if min(by_row, by_column) > 0.5 * max(by_row, by_column):
        found = f"both its rows ({by_row:.0%}, {_some(rows)}) and its columns ({by_column:.0%}, {_some(columns)})"
        fix = "Give the cells names that are not genes, such as their barcodes"
        raise InputError(f"{found} are named as genes", where=where, fix=fix)
    return by_row > by_column


def remark(rows_are_genes: bool, genes: int, cells: int) -> str:
    """Return the remark on the decision."""
    side, other = ("rows", "columns") if rows_are_genes else ("columns", "rows")
    return f"its {side} are genes ({genes:,}), its {other} cells ({cells:,})"


def _refuse_neither(rows: Sequence[str], columns: Sequence[str], where: str) -> None:
    for names in (rows, columns):
        try:
            resolve_genes(_spread(names), Vocabulary.human(), where=where, min_overlap=1)
        except GeneError as error:
            # Of the two sides only the genes are another species; barcodes and numbers are what cells are called.
            if "mouse" in error.found or "Ensembl ids of" in error.found or "transcripts" in error.found:
                raise
    found = f"neither its rows ({_some(rows)}) nor its columns ({_some(columns)}) are named as human genes"
    fix = "Name one side by human gene symbols or Ensembl ids (ENSG…), the other by cell"
    raise InputError(found, where=where, fix=fix)


def _spread(names: Sequence[str]) -> list[str]:
    places = np.unique(np.linspace(0, len(names) - 1, min(len(names), _SAMPLE)).astype(int))
    return [names[int(place)] for place in places]


def _some(names: Sequence[str]) -> str:
    return ", ".join(clip(name) for name in names[:2]) + ", …"
