from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from cell_lm.engine import loop
from cell_lm.errors import ConfigError, InputError, ModelError, TrainingError
from cell_lm.files import with_checksum
from cell_lm.pretraining import pretrain
from toy_run import after, finish, partials, rows, same, start, tensors, toy_cells, toy_config

ENCODERS: dict[str, dict[str, Any]] = {
    "full": {},
    "latent": {"attention": "latent"},
    "performer": {"attention": "performer", "redraw_every": 3},
}


def run(path: Path, *, encoder: str = "full", cells: Any = None, settings: Any = None, **others: Any) -> Any:
    config = toy_config(ENCODERS[encoder], **(settings or {}))
    return pretrain(cells or [toy_cells()], config, path, progress=False, **others)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    for encoder in ENCODERS:
        run(folder / encoder, encoder=encoder)
    return {encoder: folder / encoder for encoder in ENCODERS}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("begun") / "run"
    run(path, stop=after(6))
    return path


@pytest.fixture
def half(begun: Path, tmp_path: Path) -> Path:
    """A copy that a test may go on with."""
    return Path(shutil.copytree(begun, tmp_path / "run"))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_resumed_run_equals_the_uninterrupted_one_to_the_bit(
    tmp_path: Path, whole: dict[str, Path], encoder: str
) -> None:
    path = tmp_path / "run"
    assert run(path, encoder=encoder, stop=after(5)).steps == 5
    assert run(path, encoder=encoder, stop=after(2), resume=True).steps == 7
    result = run(path, encoder=encoder, resume=True)
    assert (result.steps, result.resumed_from, result.interrupted) == (12, 7, False)
    assert same(tensors(path, 12), tensors(whole[encoder], 12))
    assert rows(path) == rows(whole[encoder])
    assert len(rows(path)) == 12 + 4


def test_the_comparison_would_see_lost_moments(
    half: Path, whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: a trainer that restores the weights alone."""
    monkeypatch.setattr(loop, "load_optimiser_tensors", lambda *_: None)
    run(half, resume=True)
    assert not same(tensors(half, 12), tensors(whole["full"], 12))


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint_to_the_same_bits(
    tmp_path: Path, whole: dict[str, Path]
) -> None:
    code = """
from cell_lm.pretraining import pretrain
from cell_lm.engine import checkpoint
import os, signal
honest = checkpoint._save_tensors
def save(tensors, path):
    honest(tensors, path)
    if "step-00000008" in str(path) and path.name == "optimizer.safetensors":
        path.write_bytes(path.read_bytes()[:1000])
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint._save_tensors = save
pretrain([toy_cells()], toy_config(), Path(sys.argv[1]), progress=False)
"""
    path = tmp_path / "run"
    assert finish(start(code, path))[0] == -9
    assert partials(path)
    assert rows(path)[-1]["step"] == 8
    result = run(path, resume=True)
    assert result.resumed_from == 4
    assert partials(path) == []
    assert same(tensors(path, 12), tensors(whole["full"], 12))
    assert rows(path) == rows(whole["full"])
    assert any("half-written" in row["message"] for row in rows(path, "note"))


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path: Path, whole: dict[str, Path]) -> None:
    class Kill(BaseException):
        pass

    def kill() -> bool:
        raise Kill

    with pytest.raises(Kill):
        run(tmp_path / "run", stop=kill)
    result = run(tmp_path / "run", resume=True)
    assert result.resumed_from == 0
    assert rows(tmp_path / "run") == rows(whole["full"])


def test_a_finished_run_has_nothing_to_do(tmp_path: Path, whole: dict[str, Path]) -> None:
    shutil.copytree(whole["full"], tmp_path / "run")
    before = tensors(tmp_path / "run", 12)
    result = run(tmp_path / "run", resume=True)
    assert (result.steps, result.resumed_from, result.train) == (12, 12, None)
    assert same(tensors(tmp_path / "run", 12), before)


def test_changed_settings_are_refused_by_name(half: Path) -> None:
    with pytest.raises(ConfigError) as error:
        run(half, settings={"batch_size": 4, "learning_rate": 0.1}, resume=True)
    assert "training.batch_size: 8, now 4" in str(error.value)
    assert "training.learning_rate: 0.005, now 0.1" in str(error.value)
    assert "seed" not in str(error.value)


def test_a_changed_encoder_is_refused(half: Path) -> None:
    with pytest.raises(ConfigError, match=r"encoder\.attention: full, now latent"):
        run(half, encoder="latent", resume=True)


def test_what_bounds_memory_and_disk_may_change(half: Path, whole: dict[str, Path]) -> None:
    settings = {"token_budget": 64, "checkpoint_every": 3, "keep_checkpoints": 1}
    run(half, settings=settings, resume=True)
    config = json.loads((half / "config.json").read_text())["training"]
    assert {key: config[key] for key in settings} == settings
    assert [p.name for p in (half / "checkpoints").iterdir()] == ["step-00000012"]
    assert any("token_budget was 65536, now 64" in row["message"] for row in rows(half, "note"))
    for ours, theirs in zip(rows(half), rows(whole["full"]), strict=True):
        assert ours["total"] == pytest.approx(theirs["total"], rel=1e-3)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            [toy_cells(seed=5, name="other")],
            r"'other' \(48 cells\) is not what the run was begun on: 'toy' \(48 cells\)",
        ),
        ([toy_cells(), toy_cells(seed=1)], "begun on 1 datasets, and 2 are given"),
        ([toy_cells(malignancy="none")], "'toy'"),
    ],
)
def test_other_data_are_refused_by_name(half: Path, cells: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(half, cells=cells, resume=True)


def test_the_same_cells_under_another_file_name_are_the_same(half: Path) -> None:
    assert run(half, cells=[toy_cells(name="renamed")], resume=True).steps == 12


def test_a_refused_resume_changes_nothing(half: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in half.rglob("*")}
    with pytest.raises(ConfigError):
        run(half, settings={"seed": 9}, resume=True)
    assert {p: p.stat().st_mtime_ns for p in half.rglob("*")} == before


def test_there_must_be_a_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no run here"):
        run(tmp_path / "nothing", resume=True)
    assert list(tmp_path.iterdir()) == []


def test_only_one_process_trains_in_a_folder(half: Path) -> None:
    handle = os.open(half, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(TrainingError, match="another process"):
        run(half, resume=True)
    os.close(handle)
    assert run(half, resume=True).steps == 12


def test_a_checkpoint_of_other_settings_is_not_taken(half: Path) -> None:
    config = json.loads((half / "config.json").read_text())
    config["training"]["seed"] = 9
    (half / "config.json").write_text(json.dumps(with_checksum(config)))
    with pytest.raises(ModelError, match="made under other settings"):
        run(half, settings={"seed": 9}, resume=True)


@pytest.mark.parametrize(("name", "change"), [("config.json", {"preset": "small"}), ("data.json", {"cells": 1})])
def test_a_run_whose_description_was_changed_is_not_resumed(half: Path, name: str, change: dict[str, object]) -> None:
    path = half / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=rf"{name}: its values are not those that its checksum names"):
        run(half, resume=True)
