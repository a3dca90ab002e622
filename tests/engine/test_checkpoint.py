from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cell_lm.engine.checkpoint import FILES, MANIFEST, Checkpoint, Checkpoints
from cell_lm.errors import ModelError

ALL_FILES = (*FILES, MANIFEST)


def content(step: int) -> Checkpoint:
    model = {"weight": torch.full((3, 4), float(step)).T, "directions": torch.arange(4.0)}
    return Checkpoint(model, {"weight/exp_avg": torch.ones(4, 3) * step}, {"step": step, "seconds": 0.1})


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path, keep=2)


def flip(path: Path, place: float = 0.5) -> None:
    """Flip one bit."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)


def test_gives_back_what_was_saved(checkpoints: Checkpoints) -> None:
    checkpoints.save(7, content(7))
    loaded = checkpoints.load(7)
    assert torch.equal(loaded.model["weight"], content(7).model["weight"])
    assert torch.equal(loaded.optimiser["weight/exp_avg"], content(7).optimiser["weight/exp_avg"])
    assert loaded.state == {"step": 7, "seconds": 0.1}


def test_holds_safetensors_and_json_only(checkpoints: Checkpoints) -> None:
    folder = checkpoints.save(7, content(7))
    assert folder.name == "step-00000007"
    assert {path.name for path in folder.iterdir()} == set(ALL_FILES)
    files = json.loads((folder / MANIFEST).read_text())["files"]
    assert {name: entry["size"] for name, entry in files.items()} == {n: (folder / n).stat().st_size for n in FILES}


def test_keeps_the_last_ones(checkpoints: Checkpoints) -> None:
    for step in (5, 10, 15, 20):
        checkpoints.save(step, content(step))
    assert checkpoints.steps() == [15, 20]
    assert [path.name for path in checkpoints.folder.iterdir() if path.name.startswith(".")] == []


def test_the_steps_are_in_order_past_eight_digits(checkpoints: Checkpoints) -> None:
    for step in (99_999_999, 100_000_000):
        checkpoints.save(step, content(step))
    assert checkpoints.steps() == [99_999_999, 100_000_000]


@pytest.mark.parametrize("place", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("name", ALL_FILES)
def test_a_flipped_bit_in_any_file_is_found_and_named(checkpoints: Checkpoints, name: str, place: float) -> None:
    flip(checkpoints.save(1, content(1)) / name, place)
    with pytest.raises(ModelError, match="damaged") as error:
        checkpoints.load(1)
    # a hash that no longer fits its file may be the file's or the manifest's fault
    assert name in str(error.value)


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_missing_file_is_named(checkpoints: Checkpoints, name: str) -> None:
    (checkpoints.save(1, content(1)) / name).unlink()
    with pytest.raises(ModelError, match=f"{name}: is missing"):
        checkpoints.load(1)


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_truncated_file_is_named(checkpoints: Checkpoints, name: str) -> None:
    path = checkpoints.save(1, content(1)) / name
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ModelError, match=name):
        checkpoints.load(1)


def test_passes_over_a_damaged_newest_one_and_names_it(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, content(1))
    flip(checkpoints.save(2, content(2)) / "model.safetensors")
    step, damaged = checkpoints.newest_whole()
    assert step == 1
    assert len(damaged) == 1
    assert "step-00000002/model.safetensors" in str(damaged[0])


def test_says_so_if_none_is_whole(checkpoints: Checkpoints) -> None:
    for step in (1, 2):
        flip(checkpoints.save(step, content(step)) / "state.json")
    with pytest.raises(ModelError, match="none of its 2 checkpoints is whole"):
        checkpoints.newest_whole()


def test_a_run_without_checkpoints_has_no_newest_one(checkpoints: Checkpoints) -> None:
    assert checkpoints.newest_whole() == (None, [])


def test_a_whole_one_is_never_pruned_in_favour_of_a_damaged_later_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(30, content(30))
    flip(tmp_path / "step-00000030" / "model.safetensors")
    checkpoints.save(20, content(20))
    assert checkpoints.steps() == [20]
    assert checkpoints.newest_whole()[0] == 20


def test_a_checkpoint_of_the_same_step_is_replaced(checkpoints: Checkpoints) -> None:
    flip(checkpoints.save(4, content(4)) / "model.safetensors")
    checkpoints.save(4, content(4))
    assert checkpoints.newest_whole() == (4, [])
