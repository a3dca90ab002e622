"""Short trainings whose best weights are kept in memory, where no run folder is wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cell_lm.engine.checkpoint import Checkpoint
from cell_lm.engine.loop import LoopSettings, Step, Trainer


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


def train(
    step: Step, settings: LoopSettings, progress: Callable[[int], None] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Train the module of ``step``, and return its best weights by name; ``progress`` as in :class:`BestWeights`."""
    best = BestWeights(step.module, progress)
    Trainer(step, settings, display=best, save=best.save).run()
    return {name: value.numpy().astype(np.float32) for name, value in best.tensors.items()}


def load(module: nn.Module, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Load weights that :func:`train` returned."""
    module.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})


def held_out_rows(number: int, fraction: float, *, least: int, seed: int) -> NDArray[np.bool_]:
    """Return which of some rows are held out, bool [number]: a fraction of them, at least ``least``."""
    held_out = np.zeros(number, np.bool_)
    held_out[np.random.default_rng(seed).permutation(number)[: max(least, round(fraction * number))]] = True
    return held_out


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch draw from a seed; its generator is afterwards as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def seed_of_step(seed: int, step: int) -> int:
    """Return the seed of a step of a training with a seed."""
    return seed * 1_000_003 + step
