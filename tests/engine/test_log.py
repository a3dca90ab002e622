from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from cell_lm.engine.log import RunLog, read_log
from cell_lm.errors import TrainingError

METRICS = {"total": 3.5, "masked": 1.5, "discrimination": math.nan, "contrastive": 2.0}


def test_rows_hold_the_metrics_by_name_and_null_for_what_is_not_finite(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.metrics("train", 1, {**METRICS, "norm": math.inf, "seconds": 4.0})
    text = (tmp_path / "log.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text) == {
        "kind": "train",
        "step": 1,
        "total": 3.5,
        "masked": 1.5,
        "discrimination": None,
        "contrastive": 2.0,
        "norm": None,
        "seconds": 4.0,
    }


def test_a_row_can_be_read_as_soon_as_it_is_written(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.note(0, "begun")
        assert read_log(tmp_path / "log.jsonl") == [{"kind": "note", "step": 0, "message": "begun"}]


def test_going_on_drops_the_rows_after_the_checkpoint_and_a_torn_one(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        for step in range(1, 6):
            log.metrics("train", step, METRICS)
        log.note(3, "kept")
    path = tmp_path / "log.jsonl"
    path.write_text(path.read_text() + '{"kind": "train", "st')
    with RunLog(tmp_path, done=3) as log:
        log.metrics("train", 4, METRICS)
    assert [(row["kind"], row["step"]) for row in read_log(path)] == [
        ("train", 1),
        ("train", 2),
        ("train", 3),
        ("note", 3),
        ("train", 4),
    ]


def test_tensorboard_shows_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunLog(tmp_path) as log:
        log.metrics("train", 1, METRICS)
        log.metrics("valid", 2, METRICS)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {(e.step, e.value) for e in board.Scalars("total/train")} == {(1, 3.5)}
    assert {(e.step, e.value) for e in board.Scalars("total/valid")} == {(2, 3.5)}
    assert "discrimination/train" not in board.Tags()["scalars"]


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        assert log._file is not None
        log._file.close()
        log._file = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
        with pytest.raises(TrainingError, match=r"log\.jsonl: it could not be written \(No space left on device\)"):
            log.note(1, "more")
