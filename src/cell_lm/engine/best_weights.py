"""Short trainings whose best weights are kept in memory, where no run folder is wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from cell_lm.engine.checkpoint import Checkpoint
from cell_lm.engine.progress import Silent


class BestWeights(Silent):
    """Saves for :class:`cell_lm.engine.loop.Trainer`, and shows its steps by a function.

    Parameters
    ----------
    module
        The module that is trained; its present weights are kept until a validation is better.
    progress
        Called after every step with the number of steps done, and a short description.

    Attributes
    ----------
    tensors : dict
        The best weights by name.
    """

    def __init__(self, module: nn.Module, progress: Callable[[int, str], None] | None = None) -> None:
        self.tensors: dict[str, Tensor] = _copies(module.state_dict())
        self._least, self._progress = math.inf, progress

    def save(self, step: int, checkpoint: Checkpoint) -> None:  # noqa: ARG002
        """Keep the weights if their validation is the best so far."""
        least = checkpoint.state["best_validation"]
        if isinstance(least, float) and least < self._least:
            self._least = least
            self.tensors = _copies(checkpoint.model)  # on the CPU its tensors are those that go on changing

    def step(self, done: int, described: str) -> None:
        """Pass the step on."""
        if self._progress is not None:
            self._progress(done, described)


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}
