"""Read one gene name: find its gene, and the kind of name.

The first rule that matches decides:

1. it is an approved symbol;
2. it is, or contains, an Ensembl gene id (any version; ``SYMBOL|ENSG…`` and ``ENSG…_SYMBOL`` too);
3. it is another name in HGNC, strongest kind first: previous symbol, withdrawn symbol with its successor, alias. A
   name of several genes by the same kind is ambiguous and dropped; a stronger kind wins over a weaker one, and ``how``
   says so;
4. it is any of these after the prefix of a human genome (``GRCh38_``);
5. it is a date made by a spreadsheet (``2-Sep``), and the names it may come from are, by the strongest kind, one gene;
6. it is an approved symbol with the punctuation of R (``HLA.A``) or of Seurat (``C4B-2``);
7. it is another name of the input and the number that ``make.unique`` (``CD3D.1``) or AnnData (``CD3D-1``) appended;
8. it is the name of one gene in capitals (``C1ORF112``), but not in the case of mouse genes (``Cd3d``);
9. it is an approved symbol and the number of ``make.unique``, where the input lacks the symbol itself (``UQCR11.1`` of
   a file that lost the other of two columns). The names of clones (``RP11-34P13.7``) contain no symbol.

White space around a name is ignored. A name that two rules read differently is ambiguous unless one is clearly right.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from cell_lm.genes.audit import Status
from cell_lm.genes.nomenclature import APPROVED, CODING, ENSEMBL, Nomenclature, Reading, punctuated, strongest
from cell_lm.genes.spelling import (
    before_the_date,
    compound,
    human_prefix,
    made_unique_from,
    other_prefix,
    plainly_human,
)
from cell_lm.genes.vocabulary import Vocabulary

DATE, SPELLING, UNKNOWN = "date", "spelling", "unknown"
"""Kinds of findings besides those of HGNC."""
LONGEST = 200
"""A longer text, in characters, is not the name of a gene."""
_MISSING = {"nan", "none", "null", "<na>"}  # HGNC has NaN as an alias of SCN11A; in a file it is a missing name


class Finding(NamedTuple):
    """Approved symbols of a name (several: ambiguous; none: unknown), the kind of name, and a description."""

    symbols: tuple[str, ...]
    kind: str
    how: str


class Account(NamedTuple):
    """One row of the audit."""

    symbol: str
    position: int
    status: Status
    how: str


class NameReader:
    """Reads the gene names of one input.

    Parameters
    ----------
    vocabulary
        The vocabulary to map to.
    given
        All names of the input: a number after a name other than a symbol marks a duplicate only if the input has that
        name, too.
    """

    def __init__(self, vocabulary: Vocabulary, given: Iterable[str]) -> None:
        self.vocabulary = vocabulary
        self.names = Nomenclature.human()
        self.given = frozenset(given)

    @cached_property
    def _identifiers(self) -> dict[str, str]:
        """Ensembl id to symbol, for the vocabulary's ids."""
        pairs = zip(self.vocabulary.ensembl, self.vocabulary.symbols, strict=True)
        return {identifier: symbol for identifier, symbol in pairs if identifier}

    @cached_property
    def _positions(self) -> dict[str, int]:
        """Current approved symbol to index; the vocabulary's own symbols may be from another year."""
        today = {}
        for i, symbol in enumerate(self.vocabulary.symbols):
            reading = None if symbol in self.names.types else self.names.read(symbol)
            if reading and len(reading.symbols) == 1:
                today[reading.symbols[0]] = i
        return today | {symbol: i for i, symbol in enumerate(self.vocabulary.symbols)}

    def account(self, name: str) -> Account:
        """Return the audit row of one gene of the input."""
        index = self.vocabulary.find(name)
        if index >= 0:
            return Account(name, index, "matched", APPROVED)
        finding = self.find(name)
        if len(finding.symbols) == 1:
            return self._place(finding)
        coding = any(self.names.types.get(symbol, CODING) == CODING for symbol in finding.symbols)
        if finding.symbols:
            return Account("", -1, "ambiguous" if coding else "non-coding", finding.how)
        return Account("", -1, "unknown", finding.how)

    def find(self, name: str) -> Finding:
        """Read a name by the first rule that matches (see the top of this file)."""
        text = name.strip()
        if not text or text.lower() in _MISSING:
            return _unknown("no name")
        if len(text) > LONGEST:
            return _unknown(f"too long for the name of a gene: {len(text):,} characters")
        named = (self._known, self._identified, self._prefixed, self._dated)
        guessed = (self._repunctuated, self._made_unique, self._respelled, self._numbered)
        findings = (finding for rule in (*named, *guessed) if (finding := rule(text)) is not None)
        return next(findings, _unknown(""))

    def _known(self, name: str) -> Finding | None:
        """Read a name that the vocabulary or HGNC has in this spelling."""
        finding = self._exact(name)
        if finding is None or finding.kind == APPROVED:
            return finding
        if repunctuated := self._repunctuated(name):
            return repunctuated  # NKX6.1 is R's NKX6-1, though HGNC has it as an alias of NKX6-2
        spelled = self.names.approved_spelling(name)
        other = Finding((spelled,), SPELLING, "its symbol in other letters") if spelled else self._made_unique(name)
        if other is None or set(other.symbols) <= set(finding.symbols):
            return finding
        return _either(finding, other)

    def _exact(self, name: str) -> Finding | None:
        if name in self.vocabulary:
            return Finding((name,), APPROVED, APPROVED)
        if name in self._identifiers:
            return Finding((self._identifiers[name],), ENSEMBL, ENSEMBL)
        reading = self.names.read(name)
        return None if reading is None else _finding(reading)

    def _identified(self, name: str) -> Finding | None:
        """Read a name with an Ensembl id; the id decides, unless the rest is the approved symbol of another gene."""
        parts = compound(name)
        if parts is None:
            return None
        identified, named = self._exact(parts.ensembl), self._exact(parts.rest)
        if identified and named and named.kind == APPROVED and named.symbols != identified.symbols:
            return _either(identified, named)
        return identified or named or _unknown("Ensembl id that HGNC does not list")

    def _prefixed(self, name: str) -> Finding | None:
        if other := other_prefix(name):
            return _unknown(f"gene of another genome ({other})")
        prefix = human_prefix(name)
        if not prefix:
            return None
        finding = self.find(name.removeprefix(prefix))
        return Finding(finding.symbols, finding.kind, _join(finding.how, f"prefix {prefix}"))

    def _dated(self, name: str) -> Finding | None:
        """Read a date made by a spreadsheet, if the names it may come from are, by the strongest kind, one gene."""
        names = before_the_date(name)
        if not names:
            return None
        readings = [reading for old in names if (reading := self._hgnc(old))]
        if not readings:
            return _unknown("a date, of no known gene")
        finding = _finding(strongest(readings))
        return Finding(finding.symbols, DATE, f"a date, read as {' or '.join(names)}: {finding.how}")

    def _hgnc(self, name: str) -> Reading | None:
        return self.names.read(name) or self.names.read_any_spelling(name)

    def _repunctuated(self, name: str) -> Finding | None:
        """Read an approved symbol with the punctuation of R (``HLA.A``) or of Seurat (``C4B-2``)."""
        symbol = self.names.approved_spelling(name)
        if symbol is None or punctuated(symbol) != punctuated(name):
            return None
        return Finding((symbol,), SPELLING, f"{APPROVED}, spelled otherwise")

    def _made_unique(self, name: str) -> Finding | None:
        """Read a name that is another name of the input plus a number."""
        base = made_unique_from(name)
        if not base or base not in self.given:
            return None
        finding = self.find(base)
        return Finding(finding.symbols, finding.kind, _join(finding.how, f"made unique from {base}"))

    def _numbered(self, name: str) -> Finding | None:
        """Read an approved symbol with a number after a point, when the input lacks the symbol itself."""
        base, point, _ = name.rpartition(".")
        if not point or made_unique_from(name) != base or base not in self.names.types:
            return None
        return Finding((base,), SPELLING, f"{APPROVED}, with the number of a duplicate whose twin is not there")

    def _respelled(self, name: str) -> Finding | None:
        """Read a name in another case than HGNC's, if it is clearly human: a mouse's Cd3d is not read as CD3D."""
        if not plainly_human(name):
            return None
        reading = self.names.read_any_spelling(name)
        if reading is None:
            return None
        return Finding(reading.symbols, SPELLING, f"{_finding(reading).how}, spelled otherwise")

    def _place(self, finding: Finding) -> Account:
        (symbol,) = finding.symbols
        index = self._positions.get(symbol, -1)
        if index >= 0:
            return Account(self.vocabulary.symbols[index], index, _status(finding), finding.how)
        locus = self.names.types.get(symbol, CODING)
        if locus == CODING:
            return Account(symbol, -1, "unknown", f"{finding.how}; protein-coding, but not in this vocabulary")
        return Account(symbol, -1, "non-coding", f"{finding.how}; locus type: {locus}")


def _status(finding: Finding) -> Status:
    return "matched" if finding.kind == APPROVED else "renamed"


def _finding(reading: Reading) -> Finding:
    """Describe a reading: the candidates if there are several, and the genes of a weaker kind of name."""
    if not reading.symbols:
        return _unknown("withdrawn by HGNC, without successor")
    of = f" of {', '.join(reading.symbols)}" if len(reading.symbols) > 1 else ""
    also = f" (a weaker name of {', '.join(reading.weaker)})" if reading.weaker and reading.kind != APPROVED else ""
    return Finding(reading.symbols, reading.kind, f"{reading.kind}{of}{also}")


def _either(one: Finding, other: Finding) -> Finding:
    symbols = tuple(dict.fromkeys([*one.symbols, *other.symbols]))
    return Finding(
        symbols, one.kind, f"{', '.join(one.symbols)} ({one.how}) or {', '.join(other.symbols)} ({other.how})"
    )


def _unknown(why: str) -> Finding:
    return Finding((), UNKNOWN, why)


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
