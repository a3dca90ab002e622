"""The learning rate as a pure function of the step, so that a resumed run needs no saved state for it."""

from __future__ import annotations

import math
from typing import Protocol


class Schedule(Protocol):
    """Settings of a learning rate; every kind of training has them."""

    @property
    def steps(self) -> int:
        """Optimiser steps."""

    @property
    def learning_rate(self) -> float:
        """Peak learning rate."""

    @property
    def warmup(self) -> float:
        """Fraction of the steps in which it rises."""

    @property
    def final_rate(self) -> float:
        """Learning rate at the end, as a fraction of the peak."""


def learning_rate(step: int, training: Schedule) -> float:
    """Return the learning rate of a step: a linear rise, then a cosine down to ``final_rate`` of the peak.

    Parameters
    ----------
    step
        Number of the optimiser step, from 0 to ``training.steps - 1``.
    training
        Its ``steps``, ``learning_rate``, ``warmup`` and ``final_rate`` are used.
    """
    rising = round(training.warmup * training.steps)
    if step < rising:
        return training.learning_rate * (step + 1) / (rising + 1)
    fallen = (step - rising) / max(1, training.steps - 1 - rising)
    cosine = (1 + math.cos(math.pi * min(1.0, fallen))) / 2
    return training.learning_rate * (training.final_rate + (1 - training.final_rate) * cosine)
