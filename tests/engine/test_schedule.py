from __future__ import annotations

import math
from itertools import pairwise

import pytest

from cell_lm.config import TrainingConfig
from cell_lm.engine.schedule import learning_rate


def rates(**settings: float) -> list[float]:
    training = TrainingConfig.model_validate({"learning_rate": 0.5, **settings})
    return [learning_rate(step, training) for step in range(training.steps)]


def test_rises_linearly_then_falls_to_the_final_rate() -> None:
    found = rates(steps=101, warmup=0.2, final_rate=0.1)
    rise = [b - a for a, b in pairwise(found[:21])]
    assert rise == pytest.approx([0.5 / 21] * 20)
    assert max(found) == found[20] == 0.5
    assert all(a > b for a, b in pairwise(found[20:]))
    assert found[-1] == pytest.approx(0.05)


def test_falls_along_a_cosine() -> None:
    found = rates(steps=101, warmup=0.0, final_rate=0.0)
    assert found[50] == pytest.approx(0.25)
    assert found[25] == pytest.approx(0.25 * (1 + math.cos(math.pi / 4)))


def test_the_first_step_already_learns() -> None:
    assert rates(steps=1000, warmup=0.05)[0] > 0


@pytest.mark.parametrize("warmup", [0.0, 0.4, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 3, 100])
def test_stays_between_zero_and_the_peak_however_short_the_run(steps: int, warmup: float) -> None:
    assert all(0 < rate <= 0.5 for rate in rates(steps=steps, warmup=warmup))
