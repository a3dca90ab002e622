"""The loop on a step of its own: it knows nothing of cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from torch import nn

from cell_lm.engine.distributed import OneProcess
from cell_lm.engine.folder import RunFolder, RunKind
from cell_lm.engine.log import SilentLog, read_log
from cell_lm.engine.loop import LoopSettings, Metrics, Trainer
from cell_lm.engine.run import RunResult, RunSession
from cell_lm.errors import ConfigError, TrainingError


class Config(BaseModel):
    steps: int = 8
    learning_rate: float = 0.1


KIND = RunKind(
    config=Config,
    steps="steps",
    may_change=frozenset(),
    data_difference=lambda before, now: None if before == now else "other data",
)


def settings(**changes: Any) -> LoopSettings:
    constant = {"learning_rate": 0.1, "warmup": 0.0, "final_rate": 1.0, "clip": 1.0}
    every: dict[str, Any] = {"checkpoint_every": 100, "validate_every": 1}
    return LoopSettings(**{"steps": 8, **constant, **every, **changes})


class Scripted:
    """Moves one weight; what its validations measure is written beforehand."""

    examples, if_not_finite = "letters", "Lower the rate"

    def __init__(self, scores: Sequence[float] = (), bad: frozenset[int] = frozenset()) -> None:
        self.module = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.module.weight)
        self.scores, self.bad, self.validated = list(scores), bad, list[int]()
        self.taken = 0

    def optimiser(self) -> torch.optim.AdamW:
        return torch.optim.AdamW(self.module.parameters(), weight_decay=0.0)

    def gradient(self, step: int) -> Metrics:
        self.module.weight.grad = torch.full((1, 1), math.inf if step in self.bad else -1.0 - step)
        self.taken = step + 1
        return Metrics({"total": 1.0 / (step + 1), "right": 0.5}, examples=10)

    def validate(self) -> Metrics | None:
        self.validated.append(self.taken)
        return Metrics({"total": 1.0, "f1": self.scores[self.taken]}, examples=3) if self.scores else None

    def describe(self, metrics: Metrics, per_second: float) -> str:
        return f"{metrics.total} at {per_second}"


class Rows(SilentLog):
    def __init__(self) -> None:
        self.rows: list[tuple[str, int, Mapping[str, float]]] = []

    def metrics(self, kind: str, step: int, metrics: Mapping[str, float]) -> None:
        self.rows.append((kind, step, metrics))


def run(
    path: Path, step: Scripted, *, resume: bool = False, stop: Any = None, export: Any = None, **changes: Any
) -> RunResult:
    loop = settings(**changes)
    with RunSession(RunFolder(path, KIND), OneProcess(), keep_checkpoints=2) as session:
        session.open(Config(steps=loop.steps), lambda: {"letters": 3}, resume=resume, progress=False)
        return session.train(step, loop, export=export, stop=stop)


def test_metrics_are_logged_by_the_names_that_the_step_gives_them() -> None:
    log = Rows()
    Trainer(Scripted([0.0] * 9), settings(steps=2), log=log).run()
    assert [(kind, step) for kind, step, _ in log.rows] == [
        ("valid", 0),
        *[("train", 1), ("valid", 1)],
        ("train", 2),
        ("valid", 2),
    ]
    train = log.rows[1][2]
    assert list(train) == ["total", "right", "learning_rate", "norm", "letters_per_second", "seconds"]
    assert (train["total"], train["right"], train["norm"]) == (1.0, 0.5, 1.0)
    assert list(log.rows[0][2]) == ["total", "f1", "seconds"]


def test_a_skipped_step_changes_neither_weights_nor_moments() -> None:
    good, bad = Scripted(), Scripted(bad=frozenset({1}))
    for step, steps in ((good, 1), (bad, 2)):
        trainer = Trainer(step, settings(steps=steps))
        trainer.run()
    assert torch.equal(good.module.weight, bad.module.weight)
    assert trainer.state.skipped == 1
    assert float(trainer.optimiser.state[bad.module.weight]["step"]) == 1


def test_three_skipped_steps_in_a_row_end_the_run_with_the_advice_of_the_step() -> None:
    with pytest.raises(TrainingError, match=r"3 steps in a row, up to step 5 .*Lower the rate"):
        Trainer(Scripted(bad=frozenset({2, 3, 4})), settings()).run()


RISING_THEN_WORSE = [0.1, 0.3, 0.6, 0.5, 0.4, 0.7, 0.2, 0.2, 0.2]


@pytest.mark.parametrize(
    ("patience", "steps", "best", "early"), [(2, 4, 2, True), (3, 8, 5, True), (4, 8, 5, False), (None, 8, 5, False)]
)
def test_early_stopping_ends_after_as_many_validations_without_a_better_one(
    tmp_path: Path, patience: int | None, steps: int, best: int, early: bool
) -> None:
    step = Scripted(RISING_THEN_WORSE)
    result = run(tmp_path, step, patience=patience, monitor="f1", mode="max")
    assert (result.steps, result.best_step, result.stopped_early) == (steps, best, early)
    assert result.best_validation == RISING_THEN_WORSE[best]
    assert not result.interrupted


def test_the_loss_is_better_when_it_is_lower(tmp_path: Path) -> None:
    result = run(tmp_path, Scripted(RISING_THEN_WORSE), patience=3, monitor="f1")
    assert (result.steps, result.best_step) == (3, 0)


def test_early_stopping_leaves_the_best_weights_though_their_checkpoint_is_old(tmp_path: Path) -> None:
    exported: list[tuple[int, float]] = []
    step = Scripted([0.1, 0.9, *[0.2] * 7])
    early = {"patience": 6, "monitor": "f1", "mode": "max", "checkpoint_every": 1}
    result = run(tmp_path, step, export=lambda done, x: exported.append((done, float(x["weight"]))), **early)
    assert (result.steps, result.best_step) == (7, 1)
    weights = dict(exported)
    assert [done for done, _ in exported][-2:] == [7, 1]
    assert float(step.module.weight.detach()) == weights[1] != weights[7]
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-00000001", "step-00000006", "step-00000007"]
    assert any("best validation after step 1 (f1 0.9)" in str(row) for row in read_log(tmp_path / "log.jsonl"))


def test_a_resumed_run_remembers_how_long_it_has_waited_for_a_better_validation(tmp_path: Path) -> None:
    early = {"patience": 3, "monitor": "f1", "mode": "max", "steps": 12}
    scores = [*RISING_THEN_WORSE, *[0.2] * 4]
    whole = run(tmp_path / "whole", Scripted(scores), **early)
    left = iter([False] * 6 + [True])
    assert run(tmp_path / "cut", Scripted(scores), stop=lambda: next(left), **early).steps == 7
    again = run(tmp_path / "cut", Scripted(scores), resume=True, **early)
    assert (again.steps, again.best_step) == (whole.steps, whole.best_step) == (8, 5)
    third = Scripted(scores)
    assert run(tmp_path / "cut", third, resume=True, **early).steps == 8
    assert third.taken == 0


@pytest.mark.parametrize(
    ("scores", "monitor", "found"), [([], "total", "nothing to validate on"), ([0.1], "f2", "'f2' is to be monitored")]
)
def test_early_stopping_that_cannot_work_is_refused(scores: list[float], monitor: str, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        Trainer(Scripted(scores), settings(patience=1, monitor=monitor)).run()
