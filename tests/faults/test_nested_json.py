"""JSON that is nested without end, or holds numbers without end, is a damaged file like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cell_lm.cli.run_data import RunData
from cell_lm.engine.checkpoint import MANIFEST, STATE, Checkpoint, Checkpoints
from cell_lm.engine.log import read_log
from cell_lm.errors import CellLMError, InputError, ModelError
from cell_lm.files import with_checksum
from cell_lm.plots.history import read_history

STRANGE = {
    "nested": "[" * 100_000,
    "nested objects": '{"a":' * 100_000,
    "long number": f'{{"format": {"9" * 5_000}, "step": {"9" * 5_000}}}',
    "no object": "[]",
    "nothing": "",
    "not text": "\udc80",
}


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    """The checkpoints of the steps 1 and 2."""
    checkpoints = Checkpoints(tmp_path, 3)
    for step in (1, 2):
        checkpoints.save(step, Checkpoint({"x": torch.ones(3)}, {"y": torch.ones(3)}, {"step": step}))
    return checkpoints


def spoil(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("name", [MANIFEST, STATE])
@pytest.mark.parametrize("kind", STRANGE)
def test_a_strange_checkpoint_is_passed_over_for_the_one_before(kept: Checkpoints, name: str, kind: str) -> None:
    spoil(kept.path(2) / name, STRANGE[kind])
    step, damaged = kept.newest_whole()
    assert step == 1
    assert len(damaged) == 1
    assert name in str(damaged[0])
    assert "\n" not in str(damaged[0])


@pytest.mark.parametrize("format_", [-3, 0, True, 1.0, "1", None, 2, 10**4_000])
def test_a_format_that_is_none_is_refused_though_the_checksum_fits(kept: Checkpoints, format_: object) -> None:
    path = kept.path(2) / MANIFEST
    values = json.loads(path.read_text())
    del values["checksum"]
    path.write_text(json.dumps(with_checksum(values | {"format": format_})) if format_ != 10**4_000 else "9" * 4_001)
    with pytest.raises(ModelError):
        kept.load(2)


@pytest.mark.parametrize("change", [{"note": 1}, {"files": {}}])
def test_a_changed_manifest_of_a_checkpoint_is_refused(kept: Checkpoints, change: dict[str, object]) -> None:
    path = kept.path(2) / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match="not those that its checksum names"):
        kept.load(2)


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_lines_of_a_log_are_damaged_lines(tmp_path: Path, kind: str) -> None:
    row = '{"kind": "train", "step": 1, "total": 2.0}'
    spoil(tmp_path / "log.jsonl", f"{row}\n{STRANGE[kind] or '}'}\n{row}\n")
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [1, 1]
    with pytest.raises(InputError):
        read_history(tmp_path)


@pytest.mark.parametrize("step", ["true", "-1", "1e400", str(10**30), "[]"])
def test_a_step_that_is_none_is_a_damaged_line(tmp_path: Path, step: str) -> None:
    row = '{"kind": "train", "step": %s, "total": 2.0}\n'
    (tmp_path / "log.jsonl").write_text(row % 1 + row % step + row % 2)
    with pytest.raises(InputError, match="line 2 of 3 is damaged"):
        read_history(tmp_path)


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_data_of_a_run_are_refused(tmp_path: Path, kind: str) -> None:
    spoil(tmp_path / "data.json", STRANGE[kind])
    with pytest.raises(CellLMError):
        RunData.read(tmp_path)
