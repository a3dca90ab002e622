"""The feed-forward block of a layer, and linear layers that start at zero."""

from __future__ import annotations

from torch import Tensor, nn

from cell_lm.nn.linear import Linear


class FeedForward(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.rise, self.out = Linear(width, hidden), Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each row, [..., width]."""
        result: Tensor = self.out(nn.functional.gelu(self.rise(x)))
        return result


def start_at_zero(linear: nn.Linear) -> None:
    """Initialise a layer so that its output is zero."""
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
