"""Reconstruction: predict the residuals of the other view of a cell from CLS alone."""

from __future__ import annotations

import torch
from torch import Tensor


def reconstruction_loss(predicted: Tensor, residuals: Tensor, used: Tensor) -> Tensor:
    """Return the squared error, averaged over genes and summed over views.

    Parameters
    ----------
    predicted, residuals
        [views, S].
    used
        bool [S]: genes of the reference; the other columns do not count.
    """
    wide = torch.promote_types(predicted.dtype, torch.float32)
    error = ((predicted.to(wide) - residuals) * used).square().sum()
    return error / used.sum().clamp(min=1)
