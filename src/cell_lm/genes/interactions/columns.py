"""Which columns of a table hold the two genes of an interaction, and which its score: found by their usual names.

Names are compared without case and without punctuation. Nothing is guessed: what has no usual name, or several, is
refused with the list of columns and the option that names the right one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from cell_lm.errors import InputError
from cell_lm.genes.interactions.options import GENES, NO_SCORES, SCORE

_GENES = ("gene", "symbol", "genesymbol", "genename", "officialsymbolinteractor", "preferredname", "hgncsymbol")
_IDENTIFIERS = ("ensembl", "ensemblid", "ensemblgene", "ensemblgeneid", "geneid")
_PROTEINS = ("protein", "interactor", "partner", "node", "vertex", "name", "id")
_ENDS = (("1", "2"), ("a", "b"), ("x", "y"))
_DIRECTIONS = (
    ("source", "target"),
    ("from", "to"),
    ("head", "tail"),
    ("ligand", "receptor"),
    ("sourcegenesymbol", "targetgenesymbol"),
    ("sourcesymbol", "targetsymbol"),
)


def _numbered(stems: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple(
        pair
        for stem in stems
        for one, two in _ENDS
        for pair in ((stem + one, stem + two), (one + stem, two + stem))
        if not pair[0][0].isdigit()
    )


_TIERS = (
    _numbered(_GENES) + _DIRECTIONS[-2:],
    _numbered(_IDENTIFIERS),
    _numbered(_PROTEINS),
    _DIRECTIONS[:-2],
)
"""Pairs of names; those of symbols come before those of ids, of anything that interacts, and of a graph's ends."""
_SCORES = (
    "score",
    "scores",
    "weight",
    "weights",
    "edgeweight",
    "combinedscore",
    "confidence",
    "confidencescore",
    "miscore",
    "probability",
)
_WHICH = f"Say which: {GENES} name the columns"
_LIKE_A_SCORE = re.compile(r"score|weight|confidence|probab")


class Columns(NamedTuple):
    """The columns of an interaction; ``score`` is None where the file has none, or none is wanted."""

    gene_a: str
    gene_b: str
    score: str | None


def find_genes(columns: Sequence[str], where: str) -> tuple[str, str] | None:
    """Return the columns of the two genes by their usual names, None where there are none.

    Raises
    ------
    InputError
        Several pairs have names that are equally usual, or that differ in case and punctuation alone.
    """
    alike: dict[str, list[str]] = {}
    for name in columns:
        alike.setdefault(_plain(name), []).append(name)
    for tier in _TIERS:
        found = [pair for a, b in tier for pair in product(alike.get(a, ()), alike.get(b, ()))]
        if len(found) > 1:
            pairs = " or ".join(f"{a}, {b}" for a, b in found)
            raise InputError(f"several pairs of columns may be the genes: {pairs}", where=where, fix=_WHICH)
        if found:
            return found[0]
    return None


def choose_columns(
    columns: Sequence[str], gene_a: str | None, gene_b: str | None, score: str | None, where: str, *, no_scores: bool
) -> Columns:
    """Return the columns that were named, those with usual names where none were.

    Raises
    ------
    InputError
        One that was named is not there, none has a usual name, or several have.
    """
    genes = _choose_genes(columns, gene_a, gene_b, where)
    others = [name for name in columns if name not in genes]
    return Columns(*genes, _choose_score(others, score, where, no_scores=no_scores))


def _choose_genes(columns: Sequence[str], gene_a: str | None, gene_b: str | None, where: str) -> tuple[str, str]:
    if gene_a is not None and gene_b is not None and gene_a != gene_b:
        return _named(columns, gene_a, where), _named(columns, gene_b, where)
    if gene_a is not None or gene_b is not None:
        found = f"gene_a is {_quoted(gene_a)} and gene_b {_quoted(gene_b)}"
        raise InputError(found, where=where, fix=f"Name both by {GENES}, two different columns, or neither")
    genes = find_genes(columns, where)
    if genes is None:
        found = f"no two of its columns have usual names of genes (gene_a and gene_b, …); it has {listed(columns)}"
        raise InputError(found, where=where, fix=_WHICH)
    return genes


def _choose_score(columns: Sequence[str], score: str | None, where: str, *, no_scores: bool) -> str | None:
    """Return the column that was named, else the only one with a usual name; None where there is none at all."""
    if no_scores:
        if score is not None:
            fix = f"Say {SCORE} or {NO_SCORES}, not both"
            raise InputError(f"score is '{score}', but no scores are wanted", where=where, fix=fix)
        return None
    if score is not None:
        return _named(columns, score, where)
    usual = [name for name in columns if _plain(name) in _SCORES]
    if len(usual) == 1:
        return usual[0]
    close = usual or [name for name in columns if _LIKE_A_SCORE.search(_plain(name))]
    if close:
        found = f"{'this column' if len(close) == 1 else f'{len(close)} columns'} may be the score: {listed(close)}"
        raise InputError(found, where=where, fix=f"Say which with {SCORE}, or {NO_SCORES} to weigh all alike")
    return None


def listed(columns: Sequence[str]) -> str:
    """Return at most 20 names in a row."""
    shown = ", ".join(f"'{name[:40]}'" for name in columns[:20])
    return f"{shown}, and {len(columns) - 20} more" if len(columns) > 20 else shown


def _named(columns: Sequence[str], name: str, where: str) -> str:
    if name not in columns:
        raise InputError(f"there is no column '{name}'", where=where, fix=f"It has {listed(columns)}")
    return name


def _quoted(name: str | None) -> str:
    return "missing" if name is None else f"'{name}'"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
