"""A preparation that is killed, runs out of disk, or whose files change under it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "prepare"))

from sources import Notes, content, draw, finish, start, write

from cell_lm.data.store import Store
from cell_lm.errors import CellLMError, ConfigError, InputError
from cell_lm.prepare import PrepareSettings, prepare
from cell_lm.prepare import part as part_module
from cell_lm.prepare import run as run_module
from cell_lm.prepare.quality import Gatherer

SMALL = PrepareSettings(shard_cells=25)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    return [write(folder, f"{name}.h5ad", draw(30 + seed, seed=seed, name=name)) for seed, name in enumerate("ab")]


@pytest.fixture(scope="module")
def whole(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the store of these files holds."""
    path = tmp_path_factory.mktemp("whole") / "store"
    prepare(files, path, settings=SMALL)
    return content(path)


KILLED = """
import os, pathlib, signal, sys
import pyarrow.parquet as pq
from cell_lm import files
from cell_lm.data.store import writer
from cell_lm.errors import CellLMError
from cell_lm.data.store import Store
from cell_lm.prepare import PrepareSettings, prepare

store, sources = pathlib.Path(sys.argv[1]), sys.argv[2:]
left = 0

def counting(owner, name):
    honest = getattr(owner, name)
    def count(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(*arguments, **named)
    setattr(owner, name, count)

for owner, name in ((files, "sync"), (pathlib.Path, "replace"), (pathlib.Path, "mkdir"), (writer._Array, "add"),
                    (writer._Array, "finish"), (pq, "write_table"), (os, "rmdir"), (os, "unlink")):
    counting(owner, name)

def run(events):
    global left
    child = os.fork()
    if child == 0:
        left = events
        prepare(sources, store, settings=PrepareSettings(shard_cells=25))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

prepare(sources, store.parent / "warm")  # compiled code is loaded once, for all children
kills = 0
while run(3 + 7 * kills) == -signal.SIGKILL:
    kills += 1
    try:
        Store.open(store).verify()
        print("whole after", kills)
    except CellLMError as error:
        assert "not finished" in str(error) or "no such folder" in str(error), error
print("kills", kills)
"""


def test_killed_again_and_again_it_goes_on_and_the_store_is_the_same(
    tmp_path: Path, files: list[Path], whole: dict[str, str]
) -> None:
    """Each run is killed at another of its file operations; what stands after it is no store, or a whole one."""
    code, out, err = finish(start(KILLED, tmp_path / "store", *files))
    assert (code, err) == (0, "")
    kills = int(out.splitlines()[-1].removeprefix("kills "))
    assert kills >= 8, out
    assert content(tmp_path / "store") == whole


WORKERS = """
import sys
from cell_lm.prepare import PrepareSettings, prepare
if __name__ == "__main__":
    prepare(sys.argv[2:], sys.argv[1], settings=PrepareSettings(shard_cells=25), workers=2)
"""


def _alive(pid: int) -> bool:
    try:
        malignancy = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return malignancy != "Z"


def _children(pid: int) -> list[int]:
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def _wait(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path, files: list[Path], whole: dict[str, str]) -> None:
    program = tmp_path / "program.py"
    program.write_text(WORKERS)
    store = tmp_path / "store"
    process = start(f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')", store, *files)
    _wait(lambda: len(_children(process.pid)) >= 3 or (store / "manifest.json").exists())
    children = _children(process.pid)
    process.send_signal(signal.SIGKILL)
    finish(process)
    _wait(lambda: not any(_alive(child) for child in children))
    prepare(files, store, settings=SMALL)
    assert content(store) == whole


FULL = """
import resource, signal, sys
from cell_lm.errors import CellLMError
from cell_lm.prepare import PrepareSettings, prepare
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    prepare(sys.argv[3:], sys.argv[1], settings=PrepareSettings(shard_cells=25))
except CellLMError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [10_000, 150_000])
def test_a_full_disk_is_one_clear_error_and_what_stands_is_kept(
    tmp_path: Path, files: list[Path], whole: dict[str, str], limit: int
) -> None:
    """The kernel lets no file grow past the limit: in the first part, and in the vocabulary at the very end."""
    store = tmp_path / "store"
    code, out, err = finish(start(FULL, store, limit, *files))
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    assert "could not be written (File too large)" in out
    assert "run the same command again" in out
    assert list(store.rglob("*.partial")) == []
    with pytest.raises(InputError, match="not finished"):
        Store.open(store)
    notes = Notes()
    prepare(files, store, settings=SMALL, talk=notes)
    assert content(store) == whole
    assert any("2 of 2 sources were read before" in line for line in notes.lines) is (limit > 100_000)


def test_a_file_that_changes_while_it_is_read_is_noticed(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "a.h5ad", draw(30))
    honest = Gatherer.__call__

    def meanwhile(self: Gatherer, X: Any) -> Any:
        with path.open("ab") as file:
            file.write(b"more")
        return honest(self, X)

    monkeypatch.setattr(Gatherer, "__call__", meanwhile)
    with pytest.raises(InputError, match=r"a\.h5ad: it changed while it was read"):
        prepare([path], tmp_path / "store")
    assert list((tmp_path / "store" / "unfinished" / "parts").iterdir()) == []


def _stop_before_joining(monkeypatch: pytest.MonkeyPatch, files: list[Path], store: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_join_all", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(files, store, settings=SMALL)


@pytest.mark.parametrize("size", ["same", "other"])
def test_a_file_that_changed_after_it_was_read_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    path = write(tmp_path, "a.h5ad", draw(30))
    _stop_before_joining(monkeypatch, [path], tmp_path / "store")
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data if size == "same" else data + b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # a copy that keeps times
    with pytest.raises(InputError, match="it changed after it was read into the unfinished store"):
        prepare([path], tmp_path / "store", settings=SMALL)


def test_a_file_that_was_only_touched_is_still_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[Path], whole: dict[str, str]
) -> None:
    _stop_before_joining(monkeypatch, files, tmp_path / "store")
    for path in files:
        path.touch()
    notes = Notes()
    prepare(files, tmp_path / "store", settings=SMALL, talk=notes)
    assert notes.lines == ["2 of 2 sources were read before and are not read again"]
    assert content(tmp_path / "store") == whole


def test_other_settings_on_an_unfinished_store_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[Path], whole: dict[str, str]
) -> None:
    store = tmp_path / "store"
    _stop_before_joining(monkeypatch, files, store)
    with pytest.raises(ConfigError, match=r"begun with other settings \(min_genes was 200, now 100"):
        prepare(files, store, settings=PrepareSettings(min_genes=100))
    prepare(files, store, settings=SMALL)
    assert content(store) == whole


def test_shards_of_other_sources_or_settings_are_never_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[Path], whole: dict[str, str]
) -> None:
    store = tmp_path / "store"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(files, store, settings=SMALL)
    with pytest.raises(ConfigError, match="shard_cells = 25"):
        prepare(files, store, settings=PrepareSettings(shard_cells=26))
    with pytest.raises(ConfigError, match="other sources, or another order"):
        prepare(files[::-1], store, settings=SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(part_module, "make_part", stop)
        patch.setattr(run_module, "build_shard", stop)  # all shards stand: none is built again
        prepare(files, store, settings=SMALL)
    assert content(store) == whole


def test_what_a_worker_refuses_comes_out_as_it_was_said(tmp_path: Path, files: list[Path]) -> None:
    spoilt = draw(30, seed=5)
    spoilt.X = spoilt.X * 0.37
    path = write(tmp_path, "scaled.h5ad", spoilt)
    with pytest.raises(CellLMError) as alone:
        prepare([path, files[0]], tmp_path / "one")
    with pytest.raises(type(alone.value)) as together:
        prepare([path, files[0]], tmp_path / "two", workers=2)
    assert str(together.value) == str(alone.value)
    assert together.value.where == alone.value.where
