"""Is the matrix what it is said to be? A full scan proves it; what fails is recognised and named.

Counts are non-negative whole numbers. That alone would let two things through, which are refused as well: a matrix of
zeros and ones, and rounded logarithms (no entry above 12 in cells of hundreds of genes, where real counts reach
hundreds). Both need enough entries to be seen; a matrix of a few cells or of a small panel can still pass for counts.

A stated ``log1p`` is the natural logarithm of 1 + counts scaled within each cell, to any total. It is proved where
undoing it gives whole multiples of one number in each cell, or one total for all cells; a selection of genes leaves the
first intact. Where neither holds but nothing speaks against it, the user's word is taken, and the report says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import pandas as pd
from scipy import sparse

from cell_lm.data.formats.source import Matrix
from cell_lm.data.scale.logarithms import Guess, guess_blocks
from cell_lm.data.scale.scan import FRACTIONAL, INFINITE, NAN, NEGATIVE, SMALL, Findings, Scan
from cell_lm.errors import CountsError

Scale = Literal["counts", "log1p"]
"""What a matrix may be: raw counts, or the natural log1p of counts scaled to one total in each cell."""

LARGEST_COUNT = 2**24
"""Largest whole number up to which float32 holds every one; no cell has so many counts of one gene."""
LARGEST_LOG = 15.0
"""No natural log1p of a count per 10,000 (9.2) or per million (13.8) is above this."""

_LIKELY = re.compile(r"count|raw|umi", re.IGNORECASE)


@dataclass(frozen=True)
class ScaleReport:
    """What the scan of a matrix found.

    Attributes
    ----------
    scale : {"counts", "log1p"}
        As stated by the user, and not contradicted.
    entries : int
        Entries scanned: all stored ones of a sparse matrix, all of a dense one.
    largest : float
        Largest entry.
    evidence : str
        One line: why it is believed.
    proved : bool
        False only for a ``log1p`` that rests on the user's word.
    """

    scale: Scale
    entries: int
    largest: float
    evidence: str
    proved: bool = True


def check_scale(
    X: Matrix,
    stated: Scale,
    *,
    where: str,
    cells: pd.Index[Any] | None = None,
    genes: Sequence[object] | None = None,
    elsewhere: Sequence[str] = (),
) -> ScaleReport:
    """Prove by a scan of every entry that a matrix is on the scale it is said to be on.

    Parameters
    ----------
    X
        [cells, genes]; CSR, CSC or dense, of any real dtype; only read.
    stated
        ``counts`` or ``log1p``.
    where
        File and layer, for messages.
    cells, genes
        Names of the rows and columns, to name the first offending entry.
    elsewhere
        Other layers the user could choose.

    Raises
    ------
    CountsError
        It is something else; the message says what it looks like, by how many entries, and what to do.
    """
    check = ScaleCheck(stated, where=where, cells=cells, genes=genes, elsewhere=elsewhere)
    check.add(X)
    return check.report(lambda: [X])


class ScaleCheck:
    """The proof of :func:`check_scale` for a matrix that comes a block of cells at a time.

    Parameters
    ----------
    stated, where, cells, genes, elsewhere
        As there, ``cells`` being all of them.
    """

    def __init__(
        self,
        stated: Scale,
        *,
        where: str,
        cells: pd.Index[Any] | None = None,
        genes: Sequence[object] | None = None,
        elsewhere: Sequence[str] = (),
    ) -> None:
        self.stated, self._scan = stated, Scan()
        self._where, self._cells, self._genes, self._elsewhere = where, cells, genes, tuple(elsewhere)

    def add(self, X: Matrix) -> None:
        """Scan further cells; the block is only read."""
        self._scan.add(X)

    @property
    def spoilt(self) -> bool:
        """Whether what was scanned is sure to be refused, so that nothing else need be done with it."""
        tally = self._scan.findings().tally
        return bool(tally[[NAN, INFINITE, NEGATIVE]].any() or (self.stated == "counts" and tally[FRACTIONAL]))

    def report(self, again: Callable[[], Iterable[Matrix]]) -> ScaleReport:
        """Return the verdict on all that was scanned.

        Parameters
        ----------
        again
            Yields the same blocks once more; called where the scale has to be told from the cells.

        Raises
        ------
        CountsError
            As :func:`check_scale`.
        """
        case = _Case(self._scan.findings(), self._where, self._cells, self._genes, self._elsewhere, again)
        case.refuse_broken_entries()
        return _check_counts(case) if self.stated == "counts" else _check_log1p(case)


@dataclass(frozen=True)
class _Case:
    """A matrix under examination, with all that a message about it needs."""

    scan: Findings
    where: str
    cells: pd.Index[Any] | None
    genes: Sequence[object] | None
    elsewhere: tuple[str, ...]
    again: Callable[[], Iterable[Matrix]]

    def refuse_broken_entries(self) -> None:
        for kind, word in ((NAN, "NaN"), (INFINITE, "infinite")):
            if self.scan.tally[kind]:
                self.refuse(f"{self.count(kind)} {word}{self.at(kind)}")

    def count(self, kind: int) -> str:
        many = self.scan.tally[kind]
        return f"{many:,} of {self.scan.entries:,} entries {'is' if many == 1 else 'are'}"

    def few(self, kind: int) -> bool:
        return bool(self.scan.tally[kind] < 0.05 * self.scan.nonzero)

    def at(self, kind: int) -> str:
        """Name the first offending cell and gene, where names are known and it is not just about everywhere."""
        if self.cells is None or self.genes is None or not self.few(kind):
            return ""
        row, column = self.scan.first[kind]
        return f" (the first in cell '{self.cells[row]}', gene '{self.genes[column]}')"

    def guess(self) -> Guess | None:
        return guess_blocks(sparse.csr_matrix(X) for X in self.again())

    def refuse(self, found: str, fix: str = "") -> NoReturn:
        """Raise, with a fix that also points to where the counts may be."""
        if self.elsewhere:
            likely = next((place for place in self.elsewhere if _LIKELY.search(place)), self.elsewhere[0])
            there = f"there is: {', '.join(self.elsewhere)}"
            counts = f'name a layer that holds raw counts, as layer="{likely}" (--layer {likely}); {there}'
        else:
            counts = "start from the raw counts, as they were before any normalisation"
        raise CountsError(found, where=self.where, fix=f"{fix}, or {counts}" if fix else counts[0].upper() + counts[1:])


def _check_counts(case: _Case) -> ScaleReport:
    scan = case.scan
    if scan.tally[NEGATIVE]:
        case.refuse(_scaled(case))
    if scan.tally[FRACTIONAL]:
        _refuse_fractions(case)
    if scan.largest > LARGEST_COUNT:
        case.refuse(f"the largest entry is {scan.largest:,.0f}, more than any cell has counts of one gene")
    _refuse_rounded(case)
    evidence = f"counts: {scan.entries:,} entries, all whole and non-negative, the largest {scan.largest:,.0f}"
    return ScaleReport("counts", scan.entries, scan.largest, evidence)


def _scaled(case: _Case) -> str:
    few = case.few(NEGATIVE)
    looks = "it is not counts throughout" if few else "it looks z-scored, scaled or batch-corrected, not counts"
    return f"{looks}: {case.count(NEGATIVE)} negative, {case.scan.span}{case.at(NEGATIVE)}"


def _refuse_fractions(case: _Case) -> NoReturn:
    what = f"{case.count(FRACTIONAL)} not whole, {case.scan.span}{case.at(FRACTIONAL)}"
    if case.few(FRACTIONAL):
        case.refuse(f"it is not counts throughout: {what}")
    guess = case.guess()
    looks, fix = (guess.text, guess.fix) if guess else _unproved(case.scan)
    case.refuse(f"it looks like {looks}, not counts: {what}", fix)


def _unproved(scan: Findings) -> tuple[str, str]:
    """Name what nothing proves, by its range alone, and what can be done with it."""
    if scan.largest <= 1:
        return "proportions or probabilities (no entry is above 1)", ""
    if scan.largest <= LARGEST_LOG:
        fix = 'If you know it to be natural log1p, say scale="log1p" (--scale log1p)'
        return "logarithms of expression (on no scale that could be proved)", fix
    fix = (
        'If it is proportional to expression (TPM, RSEM), put numpy.log1p of it into a new layer and say scale="log1p"'
    )
    return "TPM, RSEM or other estimated or corrected expression", fix


def _refuse_rounded(case: _Case) -> None:
    scan = case.scan
    if scan.nonzero >= 1_000 and scan.largest == 1:
        case.refuse(f"it looks binarised: all {scan.nonzero:,} non-zero entries are 1")
    genes = scan.nonzero / max(scan.rows, 1)
    if scan.nonzero >= 10_000 and genes >= 200 and scan.largest < SMALL:
        found = f"cells hold {genes:,.0f} genes on average, yet no entry is above {scan.largest:.0f}"
        case.refuse(f"it looks like rounded logarithms or capped counts: {found}")


def _check_log1p(case: _Case) -> ScaleReport:
    scan = case.scan
    said = 'said to be log1p (scale="log1p")'
    if scan.tally[NEGATIVE]:
        case.refuse(f"{said}, but {_scaled(case)}")
    if not scan.tally[FRACTIONAL] and scan.nonzero:
        found = f"{said}, but all {scan.entries:,} entries are whole, the largest {scan.largest:,.0f}"
        case.refuse(found, "Leave scale= (--scale) out if these are counts")
    if scan.largest > LARGEST_LOG:
        found = f"{said}, but the largest entry is {scan.largest:,.4g}: e to that power is no count per 10,000"
        case.refuse(found, "If it was normalised but not yet logged, put numpy.log1p of it into a new layer")
    guess = case.guess()
    if guess is not None and guess.base != math.e:
        case.refuse(f"{said}, but it looks like {guess.text}", guess.fix)
    evidence = guess.text if guess else "natural log1p on the user's word: totals differ and no whole counts come back"
    return ScaleReport("log1p", scan.entries, scan.largest, f"log1p: {evidence}", proved=guess is not None)
