"""Inverting a logarithm, and recognising its base.

Counts scaled by one factor per cell can be recognised in any selection of genes: with the right base, the inverted
entries of a cell are integer multiples of one number (the factor, if the cell has a gene with count 1). If all genes
are present, the totals of all cells are equal. Either proves the base, and the first recovers the counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.compiled import compiled
from cell_lm.remedies import option

_MIXED, _UNIFORM, _WHOLE = 0, 1, 2
_LOGS = {None: "", math.e: "natural log1p of ", 2.0: "log2(x + 1) of ", 10.0: "log10(x + 1) of "}

Expression = Literal["counts", "log1p", "log2", "log10", "linear"]
"""Scales from which the expression within a cell can be recovered: raw counts; a logarithm of 1 + counts scaled to one
total in each cell (natural, of base 2 or 10); or expression that was scaled, estimated or corrected, not logged (TPM,
counts per 10,000)."""
Scale = Literal["counts", "log1p", "log2", "log10", "linear", "scaled"]
"""What a matrix may hold: one of :data:`Expression`; or z-scores of each gene over the cells (``scaled``), which only
some tasks can read."""
Z_SCORED: Final = "scaled"
BASES: dict[str, float | None] = {"log1p": math.e, "log2": 2.0, "log10": 10.0, "linear": None}
"""Scale to the base of its logarithm; None: no logarithm."""
SCALES = {base: scale for scale, base in BASES.items()}


@dataclass(frozen=True)
class Guess:
    """A scale that was proved.

    Attributes
    ----------
    base : float or None
        Base of the logarithm of 1 + x; None: no logarithm.
    total : float or None
        Total of every cell after inverting the logarithm, if it is the same for all.
    whole, judged : int
        Cells whose integer counts are recovered, and cells that could be tested.
    """

    base: float | None
    total: float | None
    whole: int
    judged: int

    @property
    def are_counts(self) -> bool:
        """Whether integer counts are recovered in nine of ten cells."""
        return self.judged > 0 and self.whole >= 0.9 * self.judged

    @property
    def text(self) -> str:
        """Name of the scale in messages."""
        kind = "counts" if self.are_counts else "expression"
        if self.total is None:
            scaled = f"{kind} scaled within each cell"
        elif abs(self.total - 1) < 0.01:
            scaled = "proportions (every cell sums to 1)"
        elif abs(self.total / 1e6 - 1) < 0.01:
            scaled = "TPM or CPM (every cell sums to 1,000,000)"
        else:
            scaled = f"{kind} normalised to {self.total:,.0f} per cell"
        proof = f" (whole counts come back in {self.whole:,} of {self.judged:,} cells)" if self.are_counts else ""
        return f"{_LOGS[self.base]}{scaled}{proof}"

    @property
    def fix(self) -> str:
        """Advice for the user if the counts are not available."""
        return f"Say {option('scale', SCALES[self.base])}"


def guess_scale(X: sparse.csr_matrix[Any]) -> Guess | None:
    """Return the first scale that fits a matrix: none, natural, binary or decimal logarithm of scaled counts.

    Parameters
    ----------
    X
        [cells, genes], non-negative and finite; only read.
    """
    return guess_blocks([X])


def guess_blocks(blocks: Iterable[sparse.csr_matrix[Any]]) -> Guess | None:
    """Return the result of :func:`guess_scale` for the matrix made of the blocks."""
    found = {base: _Undone([], []) for base in _LOGS}
    for X in blocks:
        values = _floats(X.data)
        for base, undone in found.items():
            totals, kinds = np.empty(X.shape[0]), np.empty(X.shape[0], np.int8)
            _undo_rows(values, X.indptr, _every(base, X), totals, kinds, np.empty(0, np.float32))
            undone.totals.append(totals)
            undone.kinds.append(kinds)
    for base, undone in found.items():
        kinds = np.concatenate([np.empty(0, np.int8), *undone.kinds])
        whole, mixed = int(np.count_nonzero(kinds == _WHOLE)), int(np.count_nonzero(kinds == _MIXED))
        guess = Guess(base, _common(np.concatenate([np.empty(0), *undone.totals])), whole, whole + mixed)
        if guess.total is not None or guess.are_counts:
            return guess
    return None


class _Undone(NamedTuple):
    """The cells after inverting one logarithm, accumulated by blocks."""

    totals: list[NDArray[np.float64]]
    kinds: list[NDArray[np.int8]]


def to_linear(X: sparse.csr_matrix[Any], scale: Scale) -> sparse.csr_matrix[Any]:
    """Return expression on a linear scale; exact counts wherever they can be recovered.

    A cell whose inverted entries are integer multiples of the smallest one gets those multiples: its counts (or, if no
    gene has count 1, sometimes its counts divided by a common factor, with the same proportions). Any other cell gets
    ``base**x - 1``. Only proportions within a cell are therefore meaningful.

    Parameters
    ----------
    X
        [cells, genes]; only read.
    scale
        The stated scale. A ``log1p`` cell whose counts are recovered with base 2 or 10, and not with the natural base,
        is inverted with that base. ``counts`` and z-scores are returned unchanged.
    """
    if scale in ("counts", Z_SCORED):
        return X
    values, bases = _floats(X.data), _every(BASES[scale], X)
    if scale == "log1p":
        _recognise_bases(values, X.indptr, bases)
    linear = np.empty(len(X.data), np.float32)
    _undo_rows(values, X.indptr, bases, np.empty(X.shape[0]), np.empty(X.shape[0], np.int8), linear)
    return sparse.csr_matrix((linear, X.indices.copy(), X.indptr.copy()), shape=X.shape)


def _every(base: float | None, X: sparse.csr_matrix[Any]) -> NDArray[np.float64]:
    """Return the logarithm of a base for every row; 0: no logarithm."""
    return np.full(X.shape[0], math.log(base or 1.0))


def _recognise_bases(values: NDArray[Any], indptr: NDArray[Any], bases: NDArray[np.float64]) -> None:
    """Set the base of every row whose counts are recovered only with base 2 or 10."""
    for base in (2.0, 10.0):
        kinds, others = np.empty(len(bases), np.int8), np.empty(len(bases), np.int8)
        nothing = np.empty(0, np.float32)
        _undo_rows(values, indptr, bases, np.empty(len(bases)), kinds, nothing)
        if not (kinds == _MIXED).any():
            return
        _undo_rows(values, indptr, np.full(len(bases), math.log(base)), np.empty(len(bases)), others, nothing)
        bases[(kinds == _MIXED) & (others == _WHOLE)] = math.log(base)


def _floats(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


def _common(totals: NDArray[np.float64]) -> float | None:
    """Return the total that 99 % of at least three cells share within 0.1 %, if there is one."""
    totals = totals[totals > 0]
    if len(totals) < 3 or not np.isfinite(totals).all():
        return None
    middle = float(np.median(totals))
    return middle if np.mean(np.abs(totals - middle) <= 1e-3 * middle) >= 0.99 else None


@compiled
def _undo_rows(
    values: NDArray[Any],
    indptr: NDArray[Any],
    log_bases: NDArray[np.float64],
    totals: NDArray[np.float64],
    kinds: NDArray[np.int8],
    out: NDArray[np.float32],
) -> None:
    """Invert the logarithm of each row (``log_bases`` 0: none); fill totals, kinds, and ``out`` unless empty."""
    for row in range(indptr.size - 1):
        start, stop = indptr[row], indptr[row + 1]
        linear = values[start:stop].astype(np.float64)
        total, log_base = 0.0, log_bases[row]
        for k in range(linear.size):
            if log_base > 0.0:
                linear[k] = math.expm1(linear[k] * log_base)
            total += linear[k]
        totals[row] = total
        unit = _smallest(linear)
        kinds[row] = _kind(linear, unit)
        if out.size:
            whole = kinds[row] != _MIXED and total > 0.0
            for k in range(linear.size):
                out[start + k] = np.rint(linear[k] / unit) if whole else linear[k]


@compiled
def _smallest(linear: NDArray[np.float64]) -> float:
    unit = np.inf
    for value in linear:
        if 0.0 < value < unit:
            unit = value
    return unit


@compiled
def _kind(linear: NDArray[np.float64], unit: float) -> int:
    """Return whether the entries are integer multiples of ``unit``.

    The tolerance is the precision of float32 logarithms, 3e-6 of the multiple; multiples above 80,000 prove nothing.
    """
    largest = 0.0
    for value in linear:
        multiple = value / unit
        tolerance = 3e-6 * multiple + 1e-3
        if tolerance > 0.25 or abs(multiple - np.rint(multiple)) > tolerance:
            return _MIXED
        largest = max(largest, multiple)
    return _WHOLE if largest > 1.5 else _UNIFORM
