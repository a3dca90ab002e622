"""Reading the log of a run, whole, torn, resumed or damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cell_lm.errors import InputError
from cell_lm.plots import history as log
from cell_lm.report import read_history


def write(path: Path, *rows: object, tail: str = "") -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail, encoding="utf-8")
    return path


def train(step: int, total: float | None = 1.0) -> dict[str, object]:
    return {"kind": "train", "step": step, "total": total, "contrastive": None}


def test_rows_become_numbers_sorted_by_step_and_null_becomes_nan(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", train(2, 0.5), train(1), {"kind": "valid", "step": 2, "total": 0.7})
    frame = read_history(path)
    assert frame[["kind", "step", "total"]].to_numpy().tolist() == [
        ["train", 1, 1.0],
        ["train", 2, 0.5],
        ["valid", 2, 0.7],
    ]
    assert frame["contrastive"].dtype == np.float64
    assert frame["contrastive"].isna().all()


def test_the_run_folder_will_do(tmp_path: Path) -> None:
    write(tmp_path / "log.jsonl", train(1))
    assert len(read_history(tmp_path)) == len(read_history(str(tmp_path))) == 1


def test_steps_done_twice_after_a_resume_count_once_as_done_last(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.jsonl", train(1), train(2, 9.0), {"kind": "note", "step": 1, "message": "x"}, train(2, 3.0)
    )
    frame = read_history(path)
    assert frame["total"].tolist() == [1.0, 3.0]
    assert "note" not in set(frame["kind"])


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    assert len(read_history(write(tmp_path / "log.jsonl", train(1), tail='{"kind": "train", "st'))) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"kind": "train"\n{"kind": "train", "step": 2}\n', "line 1 of 2 is damaged"),
        ("[1, 2]\n{}\n", "line 1 of 2 is damaged"),
        ("", "no training step"),
        ('{"kind": "note", "step": 0, "message": "hello"}\n', "no training step"),
    ],
)
def test_a_damaged_or_empty_log_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "log.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_history(tmp_path)
    assert "log.jsonl" in str(caught.value)


def test_a_missing_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as a training log"):
        read_history(tmp_path / "nowhere.jsonl")


def test_smoothing_keeps_constants_and_lines_and_does_not_shift() -> None:
    np.testing.assert_allclose(log.smoothed(np.full(300, 2.5)), 2.5)
    line = np.linspace(0.0, 1.0, 301)
    np.testing.assert_allclose(log.smoothed(line)[20:-20], line[20:-20], atol=1e-12)
    noise = np.random.default_rng(0).normal(size=1000)
    assert log.smoothed(noise).std() < 0.3


def test_thinning_keeps_the_mean_and_bounds_the_points() -> None:
    curve = pd.DataFrame({"step": np.arange(12_000), "value": np.random.default_rng(0).normal(size=12_000)})
    thin = log.thinned(curve)
    assert len(thin) == log.MOST_POINTS
    assert thin["value"].mean() == pytest.approx(curve["value"].mean())
    assert log.thinned(curve.head(5)).equals(curve.head(5))


def test_the_end_of_a_curve_is_validation_where_there_is_one(history: pd.DataFrame) -> None:
    assert log.last(history, "masked") == (pytest.approx(1 + np.exp(-3)), "valid")
    assert log.last(history, "cells_per_second") == (pytest.approx(np.mean(np.arange(851, 861))), "train")
    assert log.last(history, "nothing") is None
