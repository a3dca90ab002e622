"""The heads of pretraining, one per objective."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cell_lm.nn.linear import Linear


class ExpressionHead(nn.Sequential):
    """From the state of a hidden gene to logits over the expression bins, [M, width] to [M, bins]."""

    def __init__(self, width: int, bins: int) -> None:
        super().__init__(Linear(width, width), nn.GELU(), nn.LayerNorm(width), Linear(width, bins))


class MalignancyHead(nn.Module):
    """From CLS to the logit of being a tumour cell, [C, width] to [C]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.logit = Linear(width, 1)

    def forward(self, cls: Tensor) -> Tensor:
        """Return the logits, [C]."""
        logit: Tensor = self.logit(cls)
        return logit.squeeze(-1).clone()  # FSDP registers hooks on outputs, and warns of views


class ResidualHead(Linear):
    """From CLS to the residuals of the reference genes, [C, width] to [C, genes]."""

    def reset_parameters(self) -> None:
        """Draw the weights; without a reference there are none, of which PyTorch would warn."""
        if self.out_features:
            super().reset_parameters()

    @torch.no_grad()
    def set_reference(self, components: Tensor, centre: Tensor, scale: Tensor) -> None:
        """Start as the inverse of the linear path: the best linear reconstruction from its components.

        Parameters
        ----------
        components
            [genes, width], orthonormal columns.
        centre
            [width]: what was subtracted from the components.
        scale
            What they were divided by.
        """
        self.weight.copy_(components * scale)
        self.bias.copy_(components @ centre)


class ProjectionHead(nn.Module):
    """From CLS to the unit sphere on which cells are compared, [C, width] to [C, projection]; CLS itself if 0."""

    def __init__(self, width: int, projection: int) -> None:
        super().__init__()
        layers = [Linear(width, width), nn.GELU(), Linear(width, projection)] if projection else [nn.Identity()]
        self.network = nn.Sequential(*layers)

    def forward(self, cls: Tensor) -> Tensor:
        """Return unit vectors, [C, projection]."""
        projected = self.network(cls)
        wide = projected if projected.dtype.itemsize >= 4 else projected.float()
        return F.normalize(wide, dim=-1)
