"""Linear layers whose float32 products on the CPU go through oneDNN.

PyTorch uses MKL for float32 products, which does not use the wide vector units of processors by other vendors than
Intel (half the speed or less, measured). oneDNN, which PyTorch includes and uses only for bfloat16, detects what the
processor supports.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def _onednn() -> Any:
    """Return oneDNN's product ``x @ weight.T + bias``, or None if this PyTorch does not include it."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


_PRODUCT = _onednn()
BLOCK = 1024
"""Rows per block when the gradient of a weight is summed over a long batch, so that a block fits into the cache."""


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    result: Tensor = _PRODUCT(x, weight, bias, "none", [], "")
    return result


def _outer(grad: Tensor, x: Tensor) -> Tensor:
    """Return ``grad.T @ x``, [out, in]."""
    if len(x) < 8 * BLOCK:
        return _outer_block(grad, x)
    blocks = (_outer_block(*block) for block in zip(torch.split(grad, BLOCK), torch.split(x, BLOCK), strict=True))
    total = next(blocks)
    for block in blocks:
        total += block
    return total


def _outer_block(grad: Tensor, x: Tensor) -> Tensor:
    # with the narrower side as rows the product is up to twice as fast
    if grad.shape[1] <= x.shape[1]:
        return _product(grad.T, x.T)
    return _product(x.T, grad.T).T


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            _product(grad, weight.T) if needs_x else None,
            _outer(rows, x.flatten(0, -2)) if needs_weight else None,
            rows.sum(0) if needs_bias else None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``x @ weight.T + bias``, [..., in] to [..., out], by the fastest available library."""
    if _fits_onednn(x, weight):
        result: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return result
    return F.linear(x, weight, bias)


def _fits_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        _PRODUCT is not None
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.dim() > 1
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
    )


class Linear(nn.Linear):
    """:class:`torch.nn.Linear`, with the same weights and names, computed by :func:`linear`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name PyTorch gives it
        """Transform [..., in] to [..., out]."""
        return linear(input, self.weight, self.bias)
