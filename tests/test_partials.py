from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cell_lm import files, partials


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def left(folder: Path, *, host: str | None = None, pid: int | None = None, name: str = "out") -> Path:
    """Make what a process that was killed leaves."""
    found = folder / f".{name}.{host or partials._host()}.{pid or dead_pid()}.abcd1234.partial"
    (found / "new").mkdir(parents=True)
    (found / "new" / "half").touch()
    return found


def test_what_a_killed_process_left_goes_with_the_next_write_in_that_folder(tmp_path: Path) -> None:
    left(tmp_path)
    left(tmp_path, name="other")
    files.write_json(tmp_path / "out", {})
    assert names(tmp_path) == ["out"]


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    with files.atomic_file(tmp_path / "out") as slow:
        slow.write_text("slow")
        files.write_json(tmp_path / "out", {})
        assert partials.is_written(slow.parent)
        assert slow.exists()
    assert (tmp_path / "out").read_text() == "slow"
    other = left(tmp_path, pid=os.getppid())
    files.write_json(tmp_path / "out", {})
    assert other.exists()


def test_a_folder_whose_lock_is_held_stays_though_its_number_is_that_of_no_process(tmp_path: Path) -> None:
    """As in another container on the same files, whose processes have numbers of their own."""
    found = left(tmp_path)
    with files.held(found, RuntimeError()):  # type: ignore[arg-type]
        files.write_json(tmp_path / "out", {})
        assert found.exists()
    files.write_json(tmp_path / "out", {})
    assert not found.exists()


def test_what_another_host_left_goes_after_a_day(tmp_path: Path) -> None:
    found = left(tmp_path, host="elsewhere", pid=1)
    files.write_json(tmp_path / "out", {})
    assert found.exists()
    long_ago = time.time() - 25 * 3600
    os.utime(found, (long_ago, long_ago))
    files.write_json(tmp_path / "out", {})
    assert not found.exists()


@pytest.mark.parametrize("name", [".mine.partial", ".thesis.7.partial", "out.partial", ".a.b.c.abcd1234.partial"])
def test_what_is_named_otherwise_is_somebody_elses(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    files.write_json(tmp_path / "out", {})
    assert (tmp_path / name).exists()


def test_a_process_killed_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    """Where names cannot be exchanged in one step, what was there is put back by the next writer."""
    aside = left(tmp_path, name="model") / "aside" / "model"
    aside.mkdir(parents=True)
    (aside / "weights").write_text("the only whole ones")
    files.write_json(tmp_path / "out", {})
    assert names(tmp_path) == ["model", "out"]
    assert (tmp_path / "model" / "weights").read_text() == "the only whole ones"


def test_what_stands_aside_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    (left(tmp_path, name="model") / "aside" / "model" / "old").mkdir(parents=True)
    (tmp_path / "model" / "new").mkdir(parents=True)
    files.write_json(tmp_path / "out", {})
    assert names(tmp_path / "model") == ["new"]


def test_two_directories_exchange_their_names(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name / name).mkdir(parents=True)
    if not partials._swap(tmp_path / "new", tmp_path / "old"):
        pytest.skip("this file system cannot exchange names")
    assert (names(tmp_path / "old"), names(tmp_path / "new")) == (["new"], ["old"])
    assert not partials._swap(tmp_path / "new", tmp_path / "absent")


@pytest.mark.parametrize("name", ["a" * 250, "ä" * 120, "細" * 80])
def test_long_names_can_be_written(tmp_path: Path, name: str) -> None:
    files.write_json(tmp_path / name, {})
    with files.atomic_directory(tmp_path / f"{name[:-1]}x") as fresh:
        (fresh / "a").touch()
    assert len(names(tmp_path)) == 2


def test_folders_made_for_a_file_that_failed_go_again(tmp_path: Path) -> None:
    def fail() -> None:
        with files.atomic_file(tmp_path / "new" / "deep" / "out"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(tmp_path) == []
