"""Recognise inputs whose names are not human genes, so that the error can give a remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cell_lm.genes.audit import GeneAudit, clip
from cell_lm.genes.nomenclature import CODING, Nomenclature
from cell_lm.genes.spelling import other_prefix

_SPECIES = {
    "MUS": "mouse",
    "RNO": "rat",
    "DAR": "zebrafish",
    "MMU": "rhesus macaque",
    "MFA": "crab-eating macaque",
    "PTR": "chimpanzee",
    "CJA": "marmoset",
    "SSC": "pig",
    "BTA": "cow",
    "GAL": "chicken",
    "OCU": "rabbit",
}
"""Letters of an Ensembl gene id (ENS***G…) to the species."""
_OTHER_ENSEMBL = re.compile(r"ENS(?P<species>[A-Z]{3,6})G\d{11}(?:\.\d+)?")
_HUMAN_ENSEMBL = re.compile(r"ENSG\d{11}")
_TRANSCRIPT = re.compile(r"ENST\d{11}(?:\.\d+)?|[NX]M_\d+(?:\.\d+)?")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?", re.IGNORECASE)
_PEAK = re.compile(r"(?:chr)?(?:\d{1,2}|[XYM])[:_-]\d+[_-]\d+")
_BARCODE = re.compile(r"(?:.*[^ACGT])?[ACGT]{12,}(?:[^ACGT].*)?")
_TITLE = re.compile(r"(?:mt-)?[A-Z][a-z][\w.\-]*|[A-Z]\d+[a-z][\w.\-]*|mt-[A-Z][\w\-]*")
_MISSING = re.compile(r"\s*|nan|none", re.IGNORECASE)
_LOWER = re.compile(r"[a-z][a-z\d.\-]+")
_ORTHOLOGUES = (
    "Map them to human orthologues first (Ensembl BioMart, or HCOP) and name the columns by human gene symbols"
)


class Problem(NamedTuple):
    """A problem with the genes of an input, and its remedy."""

    found: str
    fix: str


def find_problem(audit: GeneAudit, *, min_overlap: int, min_share: float) -> Problem | None:
    """Return why an input cannot be used, or None if it can.

    Other species are checked even if enough genes match: a macaque's or pig's genes mostly have human names.
    """
    names = audit.table["gene"].tolist()
    if not names:
        return Problem("it has no genes", "Give a matrix with one column per gene, and the genes' names as var_names")
    foreign = _mouse_symbols(names, audit) or _other_ensembl(names)
    if foreign:
        return foreign
    found, used = len(audit.found), audit.used
    if found >= min_overlap and used >= min_share * len(names):
        return None
    return _no_genes_at_all(names) or _too_few(audit, min_overlap, min_share)


def _mouse_symbols(names: Sequence[str], audit: GeneAudit) -> Problem | None:
    """Recognise symbols of protein-coding genes in title case, if they outnumber those in human spelling."""
    types = Nomenclature.human().types
    titles = [name for name in names if _TITLE.fullmatch(name) and types.get(name.upper()) == CODING]
    if len(titles) <= audit.used:
        return None
    return Problem(f"{_of(titles, names)} are spelled as in mouse or rat", f"cell-lm reads human genes. {_ORTHOLOGUES}")


def _other_ensembl(names: Sequence[str]) -> Problem | None:
    """Recognise Ensembl ids of another species, if they outnumber human ones (a mixture of two species has both)."""
    others = [name for name in names if name.startswith("ENS") and _OTHER_ENSEMBL.match(name)]
    human = sum(1 for name in names if _HUMAN_ENSEMBL.search(name))
    if len(others) <= max(human, 0.05 * len(names)):
        return None
    letters = [found["species"] for name in others if (found := _OTHER_ENSEMBL.match(name))]
    most = max(sorted(set(letters)), key=letters.count)
    species = _SPECIES.get(most, f"another species (ENS{most}G)")
    return Problem(f"{_of(others, names)} are Ensembl ids of {species}", f"cell-lm reads human genes. {_ORTHOLOGUES}")


def _no_genes_at_all(names: Sequence[str]) -> Problem | None:
    """Recognise names that are not genes: at least half of them have the form of something else."""
    for form, what, fix in _FORMS:
        like = [name for name in names if len(name) < 200 and form(name)]
        if 2 * len(like) >= len(names):
            return Problem(f"{_of(like, names)} are {what}", fix)
    return None


_FORMS: tuple[tuple[Callable[[str], object], str, str], ...] = (
    (_MISSING.fullmatch, "missing", "Give every column the name of its gene"),
    (other_prefix, "genes of another genome", f"cell-lm reads human genes. {_ORTHOLOGUES}"),
    (
        _NUMBER.fullmatch,
        "numbers, not gene names",
        "If they are Entrez (NCBI) ids, map them to symbols first (for example with mygene, or NCBI's gene_info); if "
        "they only count the columns, take the names from the file that the matrix was made from",
    ),
    (
        _TRANSCRIPT.fullmatch,
        "transcripts, not genes",
        "Sum the transcripts of each gene first, and name the columns by gene",
    ),
    (_PEAK.fullmatch, "genomic regions (peaks), not genes", "Give gene expression, not chromatin accessibility"),
    (_BARCODE.fullmatch, "cell barcodes, not genes", "The matrix is probably transposed: give adata.T"),
    (
        _LOWER.fullmatch,
        "all in lower case, as in zebrafish",
        "If they are human: adata.var_names = adata.var_names.str.upper(); if not, map them to human orthologues first",
    ),
)


def _too_few(audit: GeneAudit, min_overlap: int, min_share: float) -> Problem:
    genes, found, used = len(audit), len(audit.found), audit.used
    dropped = _some(audit.table.loc[audit.table["index"] < 0, "gene"].tolist())
    if not found:
        found_text = f"none of its {genes:,} genes is in the vocabulary ({dropped})"
        return Problem(found_text, "Name the columns by human gene symbols or Ensembl ids (ENSG…)")
    if found < min_overlap:
        others = f"; not known: {dropped}" if dropped else ""
        return Problem(
            f"only {found:,} of the {audit.n_genes:,} genes of the vocabulary are among its {genes:,}{others}",
            f"At least {min_overlap:,} are needed: give all measured genes; "
            "for a panel lower min_overlap (--min-overlap)",
        )
    return Problem(
        f"only {used:,} of its {genes:,} genes ({100 * used / genes:.0f} %) are in the vocabulary; not: {dropped}",
        f"At least {100 * min_share:.0f} % are needed: keep only the columns that are human genes",
    )


def _of(some: Sequence[str], names: Sequence[str]) -> str:
    return f"{len(some):,} of {len(names):,} gene names ({_some(some)})"


def _some(names: Sequence[str]) -> str:
    return ", ".join(clip(name) for name in names[:3]) + (", …" if len(names) > 3 else "")
