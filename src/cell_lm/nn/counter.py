"""Counter-based random numbers: a hash of its coordinates gives each number, so a second forward pass needs no state.

A generator returns numbers in the order of the calls, so the numbers of a cell would change with the chunking, the
device or the number of ranks. Here dropout and masking are a pure function of

    (seed, step, slot of the cell in the global batch, view, token, site in the network, feature)

so a cell gets the same numbers in any chunk, order and rank, in every pass. A token is identified by its gene, not by
its position, so the order of the genes does not matter either.

The first levels are mixed once per row of a batch with SplitMix64 [1]_, the last with a 32-bit finaliser of low bias
[2]_ keyed by 64 bits. On the CPU a kernel compiled by numba computes it. Elsewhere it is a tensor expression in 32-bit
integers, which ``torch.compile`` fuses into one kernel on CUDA; if that fails, the expression is computed in blocks of
rows. All give the same bits.

References
----------
.. [1] Steele, Lea, Flood (2014). Fast splittable pseudorandom number generators. OOPSLA.
.. [2] Salmon et al. (2011). Parallel random numbers: as easy as 1, 2, 3. SC'11 (counter-based generators); the
finaliser is
   the two-multiplication xorshift-multiply hash of C. Wellons (2018, public domain).
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cell_lm.data.compiled import compiled

_WORD = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9
_MIX_1, _MIX_2 = 0x7FEB352D, 0x846CA68B
_LOWEST = -(1 << 31)
_BLOCK = 1 << 22
"""Block size of the tensor expression if it is not compiled."""


def _signed(value: int, bits: int = 64) -> int:
    """Return the signed integer with the bits of an unsigned one."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 (PyTorch's own keeps the sign)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """SplitMix64's output function on int64 of any shape."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


@dataclass(frozen=True)
class Counter:
    """Hash keys of a set of cells, one per cell.

    Attributes
    ----------
    cells : Tensor
        int64 [C]: the mixed key of (seed, step, slot, view).
    """

    cells: Tensor

    @classmethod
    def of(cls, seed: int, step: int, slots: Tensor, view: Tensor | int) -> Counter:
        """Return the counter for cells in given slots and views (``view``: one number, or int64 [C])."""
        head = mix(torch.full((), seed, dtype=torch.int64, device=slots.device))  # no copy to a GPU
        head = mix(head ^ step)
        return cls(mix(mix(head ^ slots) ^ view))

    def rows(self, cell: Tensor, token: Tensor) -> Tensor:
        """Return the keys of rows, int64 [R], given the cell of each row and the identifier of the row in its cell."""
        return mix(self.cells[cell] ^ token)


@compiled
def _survives(low: Any, high: Any, column: int, threshold: Any) -> Any:
    x = np.uint32(low + np.uint32(column) * np.uint32(_GOLDEN))
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(_MIX_1))
    x = np.uint32(x ^ high)
    x = np.uint32((x ^ (x >> np.uint32(15))) * np.uint32(_MIX_2))
    x = np.uint32(x ^ (x >> np.uint32(16)))
    return x >= threshold


@compiled
def _keep_cpu(keys: Any, width: int, threshold: Any, out: Any) -> None:
    for row in range(keys.shape[0]):
        low = np.uint32(keys[row] & 0xFFFFFFFF)
        high = np.uint32((keys[row] >> 32) & 0xFFFFFFFF)
        for column in range(width):
            out[row, column] = _survives(low, high, column, threshold)


@compiled
def _drop_cpu(keys: Any, threshold: Any, scale: Any, x: Any, out: Any) -> None:
    zero = scale * 0
    for row in range(keys.shape[0]):
        low = np.uint32(keys[row] & 0xFFFFFFFF)
        high = np.uint32((keys[row] >> 32) & 0xFFFFFFFF)
        for column in range(x.shape[1]):
            factor = scale if _survives(low, high, column, threshold) else zero
            out[row, column] = x[row, column] * factor


@compiled
def _drop_and_add_cpu(keys: Any, threshold: Any, scale: Any, x: Any, base: Any, out: Any) -> None:
    zero = scale * 0
    for row in range(keys.shape[0]):
        low = np.uint32(keys[row] & 0xFFFFFFFF)
        high = np.uint32((keys[row] >> 32) & 0xFFFFFFFF)
        for column in range(x.shape[1]):
            factor = scale if _survives(low, high, column, threshold) else zero
            out[row, column] = base[row, column] + x[row, column] * factor


def _survive(keys: Tensor, columns: Tensor, threshold: int | Tensor) -> Tensor:
    """Return bool [R, width], given mixed keys int64 [R], the indices of the features int32 [width] and a threshold.

    The same bits as :func:`_survives`: products of int32 wrap around as those of uint32 do; a logical shift masks the
    bits that an arithmetic one fills with the sign; flipping the sign bit maps the order of unsigned numbers to that of
    signed ones. The threshold has this form, see :func:`_ordered`.
    """
    low, high = keys.to(torch.int32)[:, None], (keys >> 32).to(torch.int32)[:, None]
    x = low + columns * _signed(_GOLDEN, 32)
    x ^= (x >> 16).bitwise_and_(0xFFFF)
    x *= _MIX_1
    x ^= high
    x ^= (x >> 15).bitwise_and_(0x1FFFF)
    x *= _signed(_MIX_2, 32)
    x ^= (x >> 16).bitwise_and_(0xFFFF)
    x ^= _LOWEST
    return x >= threshold


def _ordered(threshold: int) -> int:
    """Return an unsigned 32-bit number as the int32 of the same rank."""
    return threshold + _LOWEST


def _keep_anywhere(keys: Tensor, width: int, threshold: int) -> Tensor:
    """Return bool [R, width] on any device, in blocks of rows, with a few megabytes of extra memory."""
    columns, rows = torch.arange(width, dtype=torch.int32, device=keys.device), max(1, _BLOCK // width)
    out = torch.empty(len(keys), width, dtype=torch.bool, device=keys.device)
    for start in range(0, len(keys), rows):
        block = slice(start, start + rows)
        out[block] = _survive(keys[block], columns, _ordered(threshold))
    return out


def _drop_in_one(x: Tensor, keys: Tensor, site: int, threshold: int, scale: float, base: Tensor | None) -> Tensor:
    """Return :func:`_drop` of rows ``x`` [R, width], written to be compiled into one kernel."""
    columns = torch.arange(x.shape[1], dtype=torch.int32, device=x.device)
    keep = _survive(mix(keys ^ site), columns, threshold)
    dropped = torch.where(keep, x * scale, torch.zeros_like(x))
    return dropped if base is None else base + dropped


def _drop_eagerly(x: Tensor, keys: Tensor, site: int, threshold: int, scale: float, base: Tensor | None) -> Tensor:
    """Return the same in eager mode; ``threshold`` as in :func:`_drop_in_one`."""
    keep = _keep_anywhere(mix(keys ^ site), x.shape[1], threshold - _LOWEST)
    dropped = (x * keep).mul_(scale)
    return dropped if base is None else dropped.add_(base)


Drop = Callable[[Tensor, Tensor, int, int, float, Tensor | None], Tensor]


@cache
def _compiled_drop(device: torch.device) -> Drop:
    """Return dropout as one kernel for a CUDA device if its bits match the eager version; else the eager version.

    Compiling needs Triton and a C compiler, which not every machine has.
    """
    if importlib.util.find_spec("triton") is None:
        return _drop_eagerly
    kernel: Drop = torch.compile(_drop_in_one, dynamic=True)
    x = torch.ones(64, 32, device=device)
    keys = torch.arange(-32, 32, device=device) * _signed(0x9E3779B97F4A7C15)
    given = (x, keys, 3, _ordered(1 << 31), 2.0, None)
    try:
        same = torch.equal(kernel(*given), _drop_eagerly(*given))
        reason = "its bits are not those of the eager expression"
    except RuntimeError as error:
        same, reason = False, " ".join(str(error).split())[:200]
    if not same:
        warnings.warn(f"dropout on {device} is not compiled, and slower: {reason}", stacklevel=2)
    return kernel if same else _drop_eagerly


def _threshold(rate: float) -> int:
    return min(round(rate * 2**32), _WORD)


def keep_mask(keys: Tensor, site: int, width: int, rate: float) -> Tensor:
    """Return which features survive dropout, bool [R, width].

    Parameters
    ----------
    keys
        int64 [R]: :meth:`Counter.rows`.
    site
        Number of the dropout site in the network; each has its own random numbers.
    width
        Features of a row.
    rate
        Probability that a feature is dropped, in [0, 1); resolved to 2**-32.
    """
    keys, threshold = mix(keys ^ site), _threshold(rate)
    if keys.device.type != "cpu":
        return _keep_anywhere(keys, width, threshold)
    out = torch.empty(len(keys), width, dtype=torch.bool)
    _keep_cpu(keys.numpy(), width, np.uint32(threshold), out.numpy())
    return out


def keep_rows(keys: Tensor, site: int, rates: Tensor) -> Tensor:
    """Return which rows survive, bool [R], each at a rate of its own: :func:`keep_mask` of one feature.

    Parameters
    ----------
    keys, site
        As for :func:`keep_mask`.
    rates
        float64 [R]: probability that a row is dropped, in [0, 1).
    """
    threshold = (rates * 2**32).round().clamp(max=_WORD).long() + _LOWEST
    column = torch.zeros(1, dtype=torch.int32, device=keys.device)
    return _survive(mix(keys ^ site), column, threshold.to(torch.int32)[:, None]).squeeze(1)


def _drop(x: Tensor, keys: Tensor, site: int, rate: float, base: Tensor | None = None) -> Tensor:
    """Return ``base`` (if any, of the dtype of ``x``) plus ``x`` [..., width] under dropout, one key for each row."""
    if x.device.type != "cpu":
        return _drop_elsewhere(x, keys, site, rate, base)
    scale = 1.0 / (1.0 - rate)
    if x.dtype.itemsize < 4:
        dropped = (x * keep_mask(keys, site, x.shape[-1], rate).view(x.shape)).mul_(scale)
        return dropped if base is None else base + dropped
    out = torch.empty(x.shape, dtype=x.dtype)  # not a view of rows: FSDP warns of layers that return views
    keyed = mix(keys ^ site).numpy(), np.uint32(_threshold(rate)), x.numpy().dtype.type(scale), _rows(x)
    if base is None:
        _drop_cpu(*keyed, _rows(out))
    else:
        _drop_and_add_cpu(*keyed, _rows(base), _rows(out))
    return out


def _drop_elsewhere(x: Tensor, keys: Tensor, site: int, rate: float, base: Tensor | None) -> Tensor:
    """Return the same on any device, computed by the tensor expression."""
    rows, added = x.reshape(-1, x.shape[-1]), None if base is None else base.reshape(-1, x.shape[-1])
    fits = x.device.type == "cuda" and len(rows) > 1  # a single row would trigger its own compilation
    drop = _compiled_drop(x.device) if fits else _drop_eagerly
    return drop(rows, keys, site, _ordered(_threshold(rate)), 1.0 / (1.0 - rate), added).view(x.shape)


def _rows(x: Tensor) -> Any:
    """Return [..., width] as an array of rows, on the same memory where it is contiguous."""
    return x.detach().contiguous().view(-1, x.shape[-1]).numpy()


class _CounterDropout(torch.autograd.Function):
    """Dropout that stores no mask: the backward pass computes it again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keys: Tensor, site: int, rate: float) -> Tensor:
        ctx.save_for_backward(keys)
        ctx.site, ctx.rate = site, rate
        return _drop(x, keys, site, rate)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (keys,) = ctx.saved_tensors
        return _drop(grads[0], keys, ctx.site, ctx.rate), None, None, None


class _AddDropped(torch.autograd.Function):
    """A residual connection with dropout in one pass over memory."""

    @staticmethod
    def forward(ctx: Any, base: Tensor, x: Tensor, keys: Tensor, site: int, rate: float) -> Tensor:
        ctx.save_for_backward(keys)
        ctx.site, ctx.rate, ctx.dtype = site, rate, x.dtype
        return _drop(x.to(base.dtype), keys, site, rate, base)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (keys,) = ctx.saved_tensors
        return grads[0], _drop(grads[0], keys, ctx.site, ctx.rate).to(ctx.dtype), None, None, None


def dropout(x: Tensor, keys: Tensor | None, site: int, rate: float) -> Tensor:
    """Drop features of ``x`` [..., width] by counter, a key for each row; without keys or at rate 0, ``x`` itself."""
    if keys is None or rate == 0.0:
        return x
    result: Tensor = _CounterDropout.apply(x, keys, site, rate)  # type: ignore[no-untyped-call]
    return result


def add_dropped(base: Tensor, x: Tensor, keys: Tensor | None, site: int, rate: float) -> Tensor:
    """Return ``base`` plus :func:`dropout` of ``x``, both [..., width], in the dtype of ``base``."""
    if keys is None or rate == 0.0:
        return base + x
    result: Tensor = _AddDropped.apply(base, x, keys, site, rate)  # type: ignore[no-untyped-call]
    return result
