"""Check the stated scale of a matrix by a full scan; if it is wrong, recognise the actual scale.

Counts are non-negative whole numbers. Two other kinds of matrix also pass that test and are refused: a matrix of zeros
and ones, and rounded logarithms (no entry above 12 in cells of hundreds of genes, where real counts reach hundreds).
Both are detected only with enough entries; a matrix of a few cells or of a small panel can still pass as counts.

A stated logarithm is that of 1 + counts scaled within each cell, to any total: ``log1p`` is the natural one. It is
proved if its inverse gives integer multiples of one number in each cell, or one total for all cells; the first test
still works after a selection of genes. If neither holds but nothing contradicts it, the stated scale is accepted, and
the report says so. A ``log1p`` of base 2 or 10 is recognised if the counts can be recovered. ``linear`` is data that
was scaled, estimated or corrected, but not log-transformed.

``scaled`` is data z-scored by gene: some entries are negative, and over the cells the means of most genes are near 0
and their standard deviations near 1 (not exactly, as the cells may be a part of those that were scaled).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import pandas as pd
from scipy import sparse

from cell_lm.data.formats.source import Matrix
from cell_lm.data.scale.logarithms import BASES, Z_SCORED, Guess, guess_blocks
from cell_lm.data.scale.logarithms import Scale as Scale
from cell_lm.data.scale.scan import FRACTIONAL, INFINITE, NAN, NEGATIVE, SMALL, Findings, Scan
from cell_lm.data.scale.z_scores import Moments
from cell_lm.errors import CountsError
from cell_lm.remedies import option

LARGEST_COUNT = 2**24
"""Largest whole number up to which float32 holds every one; no cell has so many counts of one gene."""
LARGEST_LOG = 15.0
"""No natural log1p of a count per 10,000 (9.2) or per million (13.8) is above this; in other bases as much."""

_LIKELY = re.compile(r"count|raw|umi", re.IGNORECASE)


@dataclass(frozen=True)
class ScaleReport:
    """Result of the scan of a matrix.

    Attributes
    ----------
    scale : {"counts", "log1p", "log2", "log10", "linear", "scaled"}
        The scale stated by the user, and not contradicted.
    entries : int
        Entries scanned: all stored ones of a sparse matrix, all of a dense one.
    largest : float
        Largest entry.
    evidence : str
        One line: the evidence for the scale.
    proved : bool
        False only for a scale accepted as stated.
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
    """Check by a scan of every entry that a matrix is on the stated scale.

    Parameters
    ----------
    X
        [cells, genes]; CSR, CSC or dense, of any real dtype; only read.
    stated
        ``counts``, ``log1p``, ``log2``, ``log10``, ``linear`` or ``scaled``.
    where
        File and layer, for messages.
    cells, genes
        Names of the rows and columns, to name the first offending entry.
    elsewhere
        Other layers to choose from.

    Raises
    ------
    CountsError
        It is on another scale; the message says which, by how many entries, and what to do.
    """
    check = ScaleCheck(stated, where=where, cells=cells, genes=genes, elsewhere=elsewhere)
    check.add(X)
    return check.report(lambda: [X])


class ScaleCheck:
    """:func:`check_scale` for a matrix that is read in blocks of cells.

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
        self.stated, self._scan, self._moments = stated, Scan(), Moments()
        self._where, self._cells, self._genes, self._elsewhere = where, cells, genes, tuple(elsewhere)

    def add(self, X: Matrix) -> None:
        """Scan further cells; the block is only read."""
        self._scan.add(X)
        if self.stated == Z_SCORED:
            self._moments.add(X)

    @property
    def spoilt(self) -> bool:
        """Whether the scanned blocks are certain to be refused, so that the scan can stop."""
        tally = self._scan.findings().tally
        if self.stated == Z_SCORED:
            return bool(tally[[NAN, INFINITE]].any())
        return bool(tally[[NAN, INFINITE, NEGATIVE]].any() or (self.stated == "counts" and tally[FRACTIONAL]))

    def report(self, again: Callable[[], Iterable[Matrix]]) -> ScaleReport:
        """Return the result for all scanned blocks.

        Parameters
        ----------
        again
            Yields the same blocks again; called if the scale has to be recognised from the cells.

        Raises
        ------
        CountsError
            As :func:`check_scale`.
        """
        case = _Case(self._scan.findings(), self._where, self._cells, self._genes, self._elsewhere, again)
        case.refuse_broken_entries()
        if self.stated == Z_SCORED:
            return _check_z_scores(case, self._moments)
        return _check_counts(case) if self.stated == "counts" else _check_scaled(case, self.stated)


@dataclass(frozen=True)
class _Case:
    """A matrix to check, with the details for messages."""

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
        """Raise, with advice that also names where the counts may be."""
        known = [place for place in self.elsewhere if getattr(place, "holds_counts", None) is not False]
        if known:
            first = [place for place in known if getattr(place, "holds_counts", None)] or known
            likely = next((place for place in first if _LIKELY.search(place)), first[0] if first is not known else None)
            example = option("layer", likely) if likely else option("layer")
            counts = f"name a layer that holds raw counts, as {example}; there is: {', '.join(self.elsewhere)}"
        else:
            counts = "start from the raw counts, as they were before any normalisation"
        raise CountsError(found, where=self.where, fix=f"{fix}, or {counts}" if fix else counts[0].upper() + counts[1:])


def _check_counts(case: _Case) -> ScaleReport:
    scan = case.scan
    if scan.tally[NEGATIVE]:
        case.refuse(_scaled(case), "" if case.few(NEGATIVE) else _Z_SCORES)
    if scan.tally[FRACTIONAL]:
        _refuse_fractions(case)
    if scan.largest > LARGEST_COUNT:
        case.refuse(f"the largest entry is {scan.largest:,.0f}, more than any cell has counts of one gene")
    _refuse_rounded(case)
    evidence = f"counts: {scan.entries:,} entries, all whole and non-negative, the largest {scan.largest:,.0f}"
    return ScaleReport("counts", scan.entries, scan.largest, evidence)


_Z_SCORES = f"Use it for drug sensitivity alone (cell-lm sensitivity with {option('scale', Z_SCORED)})"


def _check_z_scores(case: _Case, moments: Moments) -> ScaleReport:
    scan, said = case.scan, f'said to be z-scored (scale="{Z_SCORED}")'
    if not scan.tally[NEGATIVE]:
        fix = f"Leave {option('scale')} out if these are counts, or name their scale"
        case.refuse(f"{said}, but no entry is negative, {scan.span}", fix)
    if case.few(NEGATIVE) and scan.tally[NEGATIVE] < 0.05 * moments.rows * moments.genes:
        found = f"{said}, but only {case.count(NEGATIVE)} negative, {scan.span}"
        case.refuse(found, "Z-score every gene over the cells first (scanpy.pp.scale)")
    if not moments.are_z_scores:
        found = f"{said}, but the median gene has mean {moments.mean:.2g} and standard deviation {moments.spread:.2g}"
        case.refuse(found, "Z-score every gene over the cells first (scanpy.pp.scale)")
    evidence = f"{Z_SCORED}: the median gene has mean {moments.mean:.2f} and standard deviation {moments.spread:.2f}"
    return ScaleReport(Z_SCORED, scan.entries, scan.largest, evidence)


def _scaled(case: _Case) -> str:
    few = case.few(NEGATIVE)
    looks = "it is not counts throughout" if few else "it looks z-scored, scaled or batch-corrected, not counts"
    return f"{looks}: {case.count(NEGATIVE)} negative, {case.scan.span}{case.at(NEGATIVE)}"


def _refuse_fractions(case: _Case) -> NoReturn:
    what = f"{case.count(FRACTIONAL)} not whole, {case.scan.span}{case.at(FRACTIONAL)}"
    if case.few(FRACTIONAL):
        case.refuse(f"it is not counts throughout: {what}", _CORRECTED)
    guess = case.guess()
    looks, fix = (guess.text, guess.fix) if guess else _unproved(case.scan)
    case.refuse(f"it looks like {looks}, not counts: {what}", fix)


_CORRECTED = (
    "If they are counts that were corrected (SoupX, DecontX, CellBender, scVI), round them first "
    f"(adata.X = np.rint(adata.X)), or say {option('scale', 'linear')}"
)


def _unproved(scan: Findings) -> tuple[str, str]:
    """Describe a matrix of unproved scale by its range, with advice."""
    if scan.largest <= 1:
        fix = f"If they are shares of a cell's counts, say {option('scale', 'linear')}"
        return "proportions or probabilities (no entry is above 1)", fix
    if scan.largest <= LARGEST_LOG:
        fix = f"If it is a natural logarithm, say {option('scale', 'log1p')}; if of base 2, {option('scale', 'log2')}"
        return "logarithms of expression (on no scale that could be proved)", f"{fix}. {_CORRECTED}"
    if scan.largest <= _most("log2"):
        fix = f"If it is log2(x + 1), say {option('scale', 'log2')}; if it was not logged (TPM, RSEM), linear"
        return "log2 of TPM, or estimated or corrected expression", f"{fix}. {_CORRECTED}"
    fix = f"If it is proportional to expression (TPM, RSEM), say {option('scale', 'linear')}"
    return "TPM, RSEM or other estimated or corrected expression", f"{fix}. {_CORRECTED}"


def _most(scale: str) -> float:
    """Return the upper bound of the entries of a logarithm."""
    return LARGEST_LOG / math.log(BASES[scale] or math.e)


def _refuse_rounded(case: _Case) -> None:
    scan = case.scan
    if scan.nonzero >= 1_000 and scan.largest == 1:
        case.refuse(f"it looks binarised: all {scan.nonzero:,} non-zero entries are 1")
    genes = scan.nonzero / max(scan.rows, 1)
    if scan.nonzero >= 10_000 and genes >= 200 and scan.largest < SMALL:
        found = f"cells hold {genes:,.0f} genes on average, yet no entry is above {scan.largest:.0f}"
        case.refuse(f"it looks like rounded logarithms or capped counts: {found}")


def _check_scaled(case: _Case, stated: Scale) -> ScaleReport:
    scan, base = case.scan, BASES[stated]
    said = f'said to be {stated} (scale="{stated}")'
    if scan.tally[NEGATIVE]:
        case.refuse(f"{said}, but {_scaled(case)}")
    if not scan.tally[FRACTIONAL] and scan.nonzero:
        found = f"{said}, but all {scan.entries:,} entries are whole, the largest {scan.largest:,.0f}"
        case.refuse(found, f"Leave {option('scale')} out if these are counts")
    guess = case.guess()
    if guess is None and base is not None and scan.largest > _most(stated):
        case.refuse(*_too_large(scan, stated, said))
    if guess is not None and guess.base != base and not (stated == "log1p" and guess.base and guess.are_counts):
        case.refuse(f"{said}, but it looks like {guess.text}", guess.fix)
    evidence = guess.text if guess else _ON_TRUST[stated]
    return ScaleReport(stated, scan.entries, scan.largest, f"{stated}: {evidence}", proved=guess is not None)


_ON_TRUST = {
    scale: f"{what} on the user's word: totals differ and no whole counts come back"
    for scale, what in (("log1p", "natural log1p"), ("log2", "log2"), ("log10", "log10"), ("linear", "not logged"))
}


def _too_large(scan: Findings, stated: Scale, said: str) -> tuple[str, str]:
    """Explain why entries cannot be such a logarithm, and what they may be."""
    base = "e" if stated == "log1p" else stated.removeprefix("log")
    found = f"{said}, but the largest entry is {scan.largest:,.4g}: {base} to that power is no count per 10,000"
    linear = f"If it was normalised but not yet logged, say {option('scale', 'linear')}"
    if stated != "log2" and scan.largest <= _most("log2"):
        return found, f"If it is log2(x + 1), of TPM for example, say {option('scale', 'log2')}. {linear}"
    return found, linear
