from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cell_lm import files, partials
from cell_lm.errors import InputError


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.atomic_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with files.atomic_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_directory_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "stale").touch()
    with files.atomic_directory(path) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "b").write_text("b")
        assert names(path) == ["stale"]
    assert names(path) == ["inner"]
    assert names(tmp_path) == ["model"]


def test_a_failed_rename_puts_the_old_directory_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "kept").touch()
    whole = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("disk on fire")
        return whole(self, target)

    monkeypatch.setattr(partials, "_swap", lambda *_: False)  # as on a file system that cannot exchange names
    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="disk on fire"), files.atomic_directory(path):
        pass
    assert names(path) == ["kept"]
    assert names(tmp_path) == ["model"]


def test_what_is_renamed_into_place_was_synced_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    whole = os.fsync

    def noting(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        whole(handle)

    monkeypatch.setattr(os, "fsync", noting)
    with files.atomic_directory(tmp_path / "model") as folder:
        (folder / "weights").write_text("w")
        assert synced == []
    assert synced.index("weights") < synced.index("new") < synced.index(tmp_path.name)


def test_json_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"loss": float("nan")})
    files.write_json(tmp_path / "a.json", {"loss": None})
    assert json.loads((tmp_path / "a.json").read_text()) == {"loss": None}
    assert names(tmp_path) == ["a.json"]


def test_an_output_that_exists_is_refused_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.refuse_to_overwrite(path, force=False)
    path.touch()
    with pytest.raises(InputError, match=r"--force"):
        files.refuse_to_overwrite(path, force=False)
    files.refuse_to_overwrite(path, force=True)


def test_only_a_folder_of_the_kind_and_nothing_else_is_replaced(tmp_path: Path) -> None:
    def check(path: Path) -> None:
        files.refuse_to_replace(path, kind="a model", mark="config.json", names={"config.json", "weights"})

    folder = tmp_path / "model"
    check(folder)
    folder.mkdir()
    check(folder)
    (folder / "weights").touch()
    with pytest.raises(InputError, match="something else than a model"):
        check(folder)
    (folder / "config.json").touch()
    check(folder)
    (folder / "thesis.txt").touch()
    with pytest.raises(InputError, match=r"thesis\.txt"):
        check(folder)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(InputError, match="something else"):
        check(tmp_path / "link")


@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600)])
def test_what_is_written_may_be_read_by_whom_the_umask_lets(tmp_path: Path, umask: int, expected: int) -> None:
    def private(path: Path) -> None:
        path.touch(0o600)  # as safetensors makes its files

    former = os.umask(umask)
    try:
        with files.atomic_file(tmp_path / "vectors") as temporary:
            private(temporary)
        with files.atomic_directory(tmp_path / "model") as fresh:
            (fresh / "inner").mkdir()
            private(fresh / "weights")
            private(fresh / "inner" / "weights")
    finally:
        os.umask(former)
    for name in ("vectors", "model/weights", "model/inner/weights"):
        assert (tmp_path / name).stat().st_mode & 0o777 == expected, name


def test_a_file_that_appears_meanwhile_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def write() -> None:
        with files.atomic_file(path, replace=False) as temporary:
            temporary.write_text("ours")
            path.write_text("theirs")

    with pytest.raises(InputError, match="made by another program meanwhile"):
        write()
    assert path.read_text() == "theirs"
    assert names(tmp_path) == ["a.txt"]


def test_without_hard_links_a_file_that_appears_is_left_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with files.atomic_file(tmp_path / "a", replace=False) as temporary:
        temporary.write_text("a")
    with pytest.raises(InputError, match="already exists"), files.atomic_file(tmp_path / "a", replace=False) as again:
        again.write_text("b")
    assert (tmp_path / "a").read_text() == "a"


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_a_pipe_or_a_device_is_not_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "out"
    make(path)
    before = path.lstat()
    with pytest.raises(InputError, match="a device or a pipe"), files.atomic_file(path):
        raise AssertionError("it began to write")
    assert path.lstat() == before
    assert names(tmp_path) == ["out"]


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "link").symlink_to("to/file")
    for text in ("first", "second"):
        with files.atomic_file(tmp_path / "link") as temporary:
            temporary.write_text(text)
        assert (tmp_path / "to" / "file").read_text() == text
    assert (tmp_path / "link").is_symlink()


def test_any_change_of_a_value_is_seen_by_the_checksum() -> None:
    values: dict[str, files.JSON] = {"a": 1, "b": {"c": [0.1, "ä", None, True]}}
    signed = files.with_checksum(values)
    assert files.checksum_holds(signed)
    assert files.checksum_holds(json.loads(json.dumps(signed, indent=3, sort_keys=True)))
    assert not files.checksum_holds(values)
    for changed in ({"a": 2}, {"a": 1.5}, {"a": True}, {"b": {}}, {"d": None}, {"checksum": "0"}):
        assert not files.checksum_holds(signed | changed)


def test_no_text_of_a_table_is_a_formula_in_a_spreadsheet(tmp_path: Path) -> None:
    labels = ["=cmd|' /C calc'!A0", "+1", "-2", "@x", "\tx", "T cell", None, "a=b"]
    table = pd.DataFrame({"label": pd.Categorical(labels), "=name": labels, "value": np.arange(-1.0, 7.0)})
    files.write_csv(table, tmp_path / "a.csv")
    read = pd.read_csv(tmp_path / "a.csv")
    assert read.columns.tolist() == ["label", "'=name", "value"]
    expected = ["'=cmd|' /C calc'!A0", "'+1", "'-2", "'@x", "'\tx", "T cell", "a=b"]
    assert read["label"].dropna().tolist() == read["'=name"].dropna().tolist() == expected
    assert read["value"].tolist() == list(range(-1, 7))
