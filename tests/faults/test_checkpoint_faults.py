from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cell_lm import files, model_folder
from cell_lm.engine import checkpoint
from cell_lm.engine.checkpoint import FILES, MANIFEST, verify
from cell_lm.engine.log import RunLog
from cell_lm.engine.sharding import load_weights
from cell_lm.errors import CellLMError, ModelError, TrainingError
from cell_lm.files import with_checksum, write_json
from cell_lm.model import CellLM
from cell_lm.pretraining import pretrain
from toy_run import after, finish, partials, rows, same, start, tensors, toy_cells, toy_config


def run(path: Path, **settings: Any) -> Any:
    return pretrain([toy_cells()], toy_config(), path, progress=False, **settings)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, with the checkpoints of the steps 8 and 12."""
    path = tmp_path_factory.mktemp("finished") / "run"
    run(path)
    return path


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def assert_the_first_checkpoint_stands(path: Path) -> None:
    assert [p.name for p in (path / "checkpoints").iterdir()] == ["step-00000004"]
    verify(path / "checkpoints" / "step-00000004")
    assert partials(path) == []
    CellLM.from_pretrained(path)


def test_files_that_may_not_grow_end_the_run_in_one_line_and_spare_the_last_checkpoint(
    tmp_path: Path, finished: Path
) -> None:
    """The kernel refuses to let any file of the second session grow past 20 kB, as a quota does."""
    code = """
import resource, signal
from cell_lm.errors import CellLMError
from cell_lm.pretraining import pretrain
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    pretrain([toy_cells()], toy_config(), Path(sys.argv[1]), progress=False, resume=True)
except CellLMError as error:
    print(type(error).__name__, error)
"""
    path = tmp_path / "run"
    run(path, stop=after(4))
    code_, out, err = finish(start(code, path))
    assert (code_, err) == (0, "")
    assert out.startswith("TrainingError ")
    assert "could not be written" in out
    assert "File too large" in out
    assert "--resume" in out
    assert out.count("\n") == 1
    assert_the_first_checkpoint_stands(path)
    run(path, resume=True)
    assert same(tensors(path, 12), tensors(finished, 12))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (checkpoint, "_save_tensors"),
        (checkpoint, "write_json"),
        (files, "sync"),
        (checkpoint, "sha256"),
    ],
)
def test_a_disk_that_fails_in_the_middle_of_a_checkpoint_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    path = tmp_path / "run"
    run(path, stop=after(4))
    honest, state = getattr(module, name), {"on": False}

    def sometimes(*arguments: Any) -> Any:
        if state["on"] and "step-00000008" in str(arguments):
            full_disk()
        return honest(*arguments)

    monkeypatch.setattr(module, name, sometimes)
    state["on"] = True
    with pytest.raises(TrainingError, match=r"step-00000008: it could not be written \(No space left on device\)"):
        run(path, resume=True)
    assert_the_first_checkpoint_stands(path)


def test_a_disk_that_fails_under_the_model_folder_leaves_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    run(path, stop=after(4))
    before = (path / "model" / "model.safetensors").read_bytes()
    honest = model_folder.write
    count = iter(range(9))
    monkeypatch.setattr(model_folder, "write", lambda *a, **k: full_disk() if next(count) else honest(*a, **k))
    with pytest.raises(TrainingError, match="model: it could not be written"):
        run(path, resume=True)
    assert (path / "model" / "model.safetensors").read_bytes() == before
    assert partials(path) == []
    monkeypatch.undo()
    assert run(path, resume=True).resumed_from == 8


def test_a_log_that_cannot_be_written_ends_the_run_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "run"

    def fill() -> bool:
        shutil.rmtree(path / "checkpoints")
        (path / "checkpoints").write_text("a file is in the way")
        return True

    with pytest.raises(TrainingError, match="could not be written"):
        run(path, stop=fill)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_flipped_bit_in_the_newest_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, finished: Path, name: str
) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    flip(path / "checkpoints" / "step-00000012" / name)
    result = run(path, resume=True)
    assert result.resumed_from == 8
    note = next(row["message"] for row in rows(path, "note") if "damaged" in row["message"])
    assert "step-00000012/" in note
    assert name in note
    verify(path / "checkpoints" / "step-00000012")
    assert same(tensors(path, 12), tensors(finished, 12))
    assert rows(path) == rows(finished)


def forge(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the tensors or the state of a checkpoint, and its hashes with them."""
    path = folder / name
    values = json.loads(path.read_text()) if name == "state.json" else load_file(path)
    change(values)
    path.write_text(json.dumps(values)) if name == "state.json" else save_file(values, path)
    write_json(folder / MANIFEST, with_checksum({"format": checkpoint.FORMAT, "files": checkpoint._manifest(folder)}))


def widen(values: dict[str, Any]) -> None:
    name = min(name for name, tensor in values.items() if tensor.ndim == 2)
    values[name] = torch.zeros(values[name].shape[0] + 1, values[name].shape[1])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.safetensors", widen),
        ("model.safetensors", lambda values: values.pop(min(values))),
        ("model.safetensors", lambda values: values.update(strange=torch.zeros(2))),
        ("optimizer.safetensors", widen),
        ("optimizer.safetensors", lambda values: values.update({"strange/exp_avg": torch.zeros(2)})),
    ],
)
def test_a_checkpoint_of_another_model_is_passed_over_though_its_hashes_are_right(
    tmp_path: Path, finished: Path, name: str, change: Callable[[dict[str, Any]], object]
) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    forge(path / "checkpoints" / "step-00000012", name, change)
    assert run(path, resume=True).resumed_from == 8
    note = next(row["message"] for row in rows(path, "note") if "passed over" in row["message"])
    assert f"step-00000012/{name}: does not fit the model of the run" in note
    assert same(tensors(path, 12), tensors(finished, 12))


@pytest.mark.parametrize("value", ["12", None, True, [1], 1.5])
def test_a_state_of_another_type_is_one_clear_error(tmp_path: Path, finished: Path, value: Any) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    forge(path / "checkpoints" / "step-00000012", "state.json", lambda values: values.update(examples=value))
    with pytest.raises(ModelError, match="'examples'"):
        run(path, resume=True)


def test_weights_of_another_shape_are_one_clear_error() -> None:
    with pytest.raises(ModelError, match="does not fit the model of the run"):
        load_weights(torch.nn.Linear(2, 3), {"weight": torch.zeros(3, 5), "bias": torch.zeros(3)})


def test_if_no_checkpoint_is_whole_nothing_is_resumed_and_nothing_changed(tmp_path: Path, finished: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    for step in (8, 12):
        flip(path / "checkpoints" / f"step-{step:08d}" / "model.safetensors")
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    with pytest.raises(ModelError, match=r"none of its 2 checkpoints is whole.*model\.safetensors"):
        run(path, resume=True)
    assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", ["config.json", "data.json"])
@pytest.mark.parametrize("damage", ["", "{", "[]", '{"surprise": 1}', "\udcff\udcfe"])
def test_a_damaged_description_of_the_run_is_one_clear_error(
    tmp_path: Path, finished: Path, name: str, damage: str
) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    (path / name).write_bytes(damage.encode(errors="surrogateescape"))
    with pytest.raises(CellLMError):
        run(path, resume=True)


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is synced while the checkpoint is still called partial, and the folder after it was renamed."""
    synced: list[tuple[str, bool]] = []
    target = tmp_path / "run" / "checkpoints" / "step-00000004"
    honest = files.sync

    def watch(path: Path) -> None:
        synced.append((path.name, target.exists()))
        honest(path)

    monkeypatch.setattr(files, "sync", watch)
    run(tmp_path / "run", stop=after(4))
    for name in (*FILES, MANIFEST):
        assert (name, False) in synced
    assert ("checkpoints", True) in synced


def test_the_log_is_on_the_disk_before_the_checkpoint_that_relies_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, int]] = []
    honest = RunLog.sync

    def watch(log: RunLog) -> None:
        honest(log)
        synced.append((len(rows(tmp_path / "run", "train")), len(list((tmp_path / "run" / "checkpoints").iterdir()))))

    monkeypatch.setattr(RunLog, "sync", watch)
    run(tmp_path / "run")
    assert synced == [(4, 0), (8, 1), (12, 2)]
