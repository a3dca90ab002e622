from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cell_lm.data.loading.batch import CellBatch
from cell_lm.engine.loop import Trainer
from cell_lm.engine.schedule import learning_rate
from cell_lm.errors import TrainingError
from cell_lm.objectives.divide_and_conquer import DivideAndConquer, Losses
from cell_lm.pretraining import pretrain
from toy_run import after, rows, same, tensors, toy_cells, toy_config


def poison(monkeypatch: pytest.MonkeyPatch, steps: set[int], what: str) -> None:
    """Make the loss or one gradient of some steps (from 0) not finite."""
    honest = DivideAndConquer.step

    def step(self: DivideAndConquer, batch: CellBatch, number: int, **settings: Any) -> Losses:
        losses = honest(self, batch, number, **settings)
        if number not in steps:
            return losses
        if what == "loss":
            return replace(losses, total=math.nan)
        gradient = next(p.grad for p in self.model.parameters() if p.grad is not None)
        gradient.view(-1)[0] = math.inf
        return losses

    monkeypatch.setattr(DivideAndConquer, "step", step)


def test_it_learns(tmp_path: Path) -> None:
    result = pretrain([toy_cells()], toy_config(steps=30, batch_size=16), tmp_path / "run", progress=False)
    curve = rows(tmp_path / "run", "valid")
    assert result.validation is not None
    assert result.validation["total"] == curve[-1]["total"] < 0.6 * curve[0]["total"]
    assert curve[-1]["discrimination_accuracy"] > 0.8


def test_every_step_is_logged_with_its_rate_and_norm(tmp_path: Path) -> None:
    config = toy_config()
    pretrain([toy_cells()], config, tmp_path / "run", progress=False)
    train = rows(tmp_path / "run", "train")
    assert [row["step"] for row in train] == list(range(1, 13))
    assert [row["learning_rate"] for row in train] == [learning_rate(step, config.training) for step in range(12)]
    assert all(row["norm"] > 0 for row in train)
    assert [row["step"] for row in rows(tmp_path / "run", "valid")] == [0, 4, 8, 12]


def test_validation_repeats_itself_while_the_weights_stand_still(tmp_path: Path) -> None:
    pretrain([toy_cells()], toy_config(learning_rate=1e-30), tmp_path / "run", progress=False)
    assert len({json.dumps({**row, "step": 0}) for row in rows(tmp_path / "run", "valid")}) == 1


def test_no_validation_cells_no_validation_rows(tmp_path: Path) -> None:
    result = pretrain([toy_cells()], toy_config(validation=0.0), tmp_path / "run", progress=False)
    assert rows(tmp_path / "run", "valid") == []
    assert result.validation is result.best_validation is None


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_not_finite_never_reaches_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    poison(monkeypatch, {4, 5}, what)
    config = toy_config(checkpoint_every=1, keep_checkpoints=99)
    result = pretrain([toy_cells()], config, tmp_path / "run", progress=False)
    before, during = tensors(tmp_path / "run", 4), tensors(tmp_path / "run", 6)
    assert same(before, during)
    assert not same(before, tensors(tmp_path / "run", 7))
    assert all(torch.isfinite(torch.from_numpy(x)).all() for x in tensors(tmp_path / "run", 12).values())
    assert (result.steps, result.skipped) == (12, 2)
    notes = [row for row in rows(tmp_path / "run", "note") if "skipped" in row["message"]]
    assert [row["step"] for row in notes] == [5, 6]
    assert [row["step"] for row in rows(tmp_path / "run", "train")] == [1, 2, 3, 4, 7, 8, 9, 10, 11, 12]


def test_the_check_is_what_keeps_the_weights_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: a trainer that does not look."""
    poison(monkeypatch, {4}, "gradient")
    monkeypatch.setattr(Trainer, "_all_ranks_finite", lambda *_: True)
    pretrain([toy_cells()], toy_config(steps=6, validation=0.0), tmp_path / "run", progress=False)
    assert not all(torch.isfinite(torch.from_numpy(x)).all() for x in tensors(tmp_path / "run", 6).values())


def test_three_in_a_row_end_the_run_and_the_last_checkpoint_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {2, 3, 5, 6, 9, 10, 11}, "loss")
    with pytest.raises(TrainingError, match="3 steps in a row, up to step 12"):
        pretrain([toy_cells()], toy_config(steps=20), tmp_path / "run", progress=False)
    assert all(torch.isfinite(torch.from_numpy(x)).all() for x in tensors(tmp_path / "run", 8).values())
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())[-1] == "step-00000008"


def test_skipped_steps_are_counted_across_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, {3, 4, 5}, "loss")
    pretrain([toy_cells()], toy_config(), tmp_path / "run", progress=False, stop=after(5))
    with pytest.raises(TrainingError, match="up to step 6"):
        pretrain([toy_cells()], toy_config(), tmp_path / "run", progress=False, resume=True)


def test_the_gradient_is_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []
    honest = Trainer._update

    def watch(self: Trainer, rate: float) -> None:
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
        honest(self, rate)

    monkeypatch.setattr(Trainer, "_update", watch)
    pretrain([toy_cells()], toy_config(steps=4, clip=0.05), tmp_path / "run", progress=False)
    assert norms == pytest.approx([0.05] * 4, rel=1e-4)
    assert all(row["norm"] > 0.1 for row in rows(tmp_path / "run", "train"))


def test_bfloat16_runs_the_encoder_in_half_precision_and_keeps_the_weights_in_full(tmp_path: Path) -> None:
    kinds = set()
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, _, output: kinds.add(output.dtype) if isinstance(module, torch.nn.Linear) else None
    )
    with hook:
        pretrain([toy_cells()], toy_config(precision="bfloat16"), tmp_path / "half", progress=False)
    assert kinds == {torch.bfloat16}
    pretrain([toy_cells()], toy_config(), tmp_path / "full", progress=False)
    half, full = (rows(tmp_path / name, "valid")[-1]["total"] for name in ("half", "full"))
    assert half != full
    assert half == pytest.approx(full, rel=0.1)
    saved = tensors(tmp_path / "half", 12)
    assert {x.dtype.name for name, x in saved.items() if not name.endswith("readout.path.genes")} == {"float32"}
