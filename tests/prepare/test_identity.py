from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from cell_lm.errors import ConfigError, InputError
from cell_lm.prepare.identity import identify, refuse_changed
from cell_lm.prepare.memory import entries_at_a_time, read_size


def test_a_file_is_its_hash_and_a_folder_that_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"22")
    (tmp_path / ".hidden").write_bytes(b"3")
    one = identify(tmp_path / "a")
    assert (one.sha256, one.size) == (hashlib.sha256(b"1").hexdigest(), 1)
    folder = identify(tmp_path)
    lines = "".join(f"{name}\t{hashlib.sha256(text).hexdigest()}\n" for name, text in (("a", b"1"), ("b", b"22")))
    assert (folder.sha256, folder.size) == (hashlib.sha256(lines.encode()).hexdigest(), 3)


def test_a_matrix_goes_with_its_lists_and_with_no_others(tmp_path: Path) -> None:
    names = ["s1_matrix.mtx.gz", "s1_barcodes.tsv.gz", "s1_features.tsv.gz", "s2_features.tsv.gz", "s1_notes.txt"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    assert sorted(identify(tmp_path / names[0]).files) == sorted(names[:3])


def test_a_change_that_keeps_size_and_time_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1234")
    before, times = identify(path), path.stat()
    refuse_changed(path, before, when="meanwhile")
    path.write_bytes(b"1235")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(InputError, match="it changed meanwhile: it had 4 bytes"):
        refuse_changed(path, before, when="meanwhile")
    path.write_bytes(b"1234")
    refuse_changed(path, before, when="meanwhile")
    path.unlink()
    with pytest.raises(InputError, match="there is no such file"):
        refuse_changed(path, before, when="meanwhile")


@pytest.mark.parametrize(("text", "size"), [("1.5G", 1_500_000_000), ("800 mb", 800_000_000), ("20M", 20_000_000)])
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert read_size(text) == size


def test_more_processes_leave_less_for_each() -> None:
    assert entries_at_a_time(None, 1) == entries_at_a_time(5_000_000_000, 1) == 1 << 22
    assert 1 << 19 <= entries_at_a_time(None, 2) < 1 << 22
    assert entries_at_a_time(None, 16) >= 1 << 19
    with pytest.raises(ConfigError, match="no size"):
        read_size("much")
    with pytest.raises(ConfigError, match="workers"):
        entries_at_a_time(None, 0)
