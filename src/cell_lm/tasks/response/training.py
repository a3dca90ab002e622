"""Short trainings of the parts of drug response, and their random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cell_lm.engine.best_weights import BestWeights
from cell_lm.engine.loop import LoopSettings, Step, Trainer


def train(
    step: Step, settings: LoopSettings, progress: Callable[[int], None] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Train the module of ``step``, and return its best weights by name; ``progress`` is called with 1 per step."""
    best = BestWeights(step.module, None if progress is None else lambda _, __: progress(1))
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
