"""Keeps the weights with the best validation of a short training in memory, where no run folder is wanted."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from cell_lm.engine.checkpoint import Checkpoint


class BestWeights:
    """Saves for :class:`cell_lm.engine.loop.Trainer`, and shows its steps by a progress function.

    Parameters
    ----------
    module
        The module that is trained; its present weights are kept until a validation is better.
    progress
        Called with 1 after every step.

    Attributes
    ----------
    tensors : dict
        The best weights by name.
    """

    def __init__(self, module: nn.Module, progress: Callable[[int], None] | None = None) -> None:
        self.tensors = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self._least, self._progress = math.inf, progress

    def save(self, step: int, checkpoint: Checkpoint) -> None:  # noqa: ARG002
        """Keep the weights if their validation is the best so far."""
        least = checkpoint.state["best_validation"]
        if isinstance(least, float) and least < self._least:
            self._least = least
            self.tensors = {name: value.detach().clone() for name, value in checkpoint.model.items()}

    def __enter__(self) -> BestWeights:
        return self

    def __exit__(self, *about: object) -> None:
        """Do nothing."""

    def step(self, done: int, described: str) -> None:  # noqa: ARG002
        """Pass the step on."""
        if self._progress is not None:
            self._progress(1)

    def note(self, message: str) -> None:
        """Do nothing."""
