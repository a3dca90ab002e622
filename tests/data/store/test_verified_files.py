from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cell_lm.data.store import Store, verified
from cell_lm.data.store.layout import FILES
from cell_lm.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, in which nothing is remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are hashed."""
    found: list[str] = []
    honest = verified.sha256

    def noting(path: Path) -> str:
        found.append(path.name)
        return honest(path)

    monkeypatch.setattr(verified, "sha256", noting)
    return found


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files count as old at once."""
    monkeypatch.setattr(verified, "_SETTLED", -(10**9))


def forget() -> None:
    """Begin as another process does."""
    verified._Remembered.of.cache_clear()


def test_a_file_is_hashed_when_it_is_used_and_not_before(small: Path, hashed: list[str]) -> None:
    store = Store.open(small)
    assert hashed == ["vocabulary.json"]
    _ = store.malignancy
    assert hashed[1:] == ["cells.parquet"] * 3
    _ = store.shards[1].X
    assert hashed[4:] == ["counts.npy", "genes.npy", "indptr.npy"]
    _ = store.shards[1].X, store.shards[1].genes_per_cell
    assert len(hashed) == 7


def test_what_was_whole_is_not_hashed_again_by_another_process(
    small: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    Store.open(small).refuse_damaged()
    assert len(hashed) == 1 + 3 * len(FILES)
    forget()
    Store.open(small).refuse_damaged()
    assert len(hashed) == 1 + 3 * len(FILES)


def test_verify_hashes_everything_whatever_is_remembered(
    small: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    Store.open(small).refuse_damaged()
    hashed.clear()
    Store.open(small).verify()
    assert len(hashed) == 3 * len(FILES)


@pytest.mark.parametrize("keeps_its_time", [False, True])
def test_a_file_that_changed_is_hashed_again(
    small: Path, monkeypatch: pytest.MonkeyPatch, keeps_its_time: bool
) -> None:
    settle(monkeypatch)
    Store.open(small).refuse_damaged()
    path = small / "shards" / "00001" / "counts.npy"
    time.sleep(0.02)  # a tick of the file system's clock
    data, before = bytearray(path.read_bytes()), path.stat()
    data[-1] ^= 1
    path.write_bytes(data)
    if keeps_its_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    forget()
    with pytest.raises(InputError, match=r"00001/counts\.npy: it is damaged"):
        Store.open(small).refuse_damaged()


def test_a_file_that_has_just_been_written_is_not_remembered(small: Path, hashed: list[str]) -> None:
    """It could change again without its times showing it."""
    for _ in range(2):
        Store.open(small).refuse_damaged()
    assert len(hashed) == 2 * (1 + 3 * len(FILES))


def test_a_torn_or_strange_line_is_passed_over(
    small: Path, cache: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    Store.open(small).refuse_damaged()
    (memory,) = (cache / "cell-lm" / "verified").iterdir()
    lines = memory.read_text().splitlines()
    memory.write_text("\n".join(['{"file": "x"', "[]", '{"file": 1}', '{"stamp": ["a"]}', lines[0][:-9], *lines[1:]]))
    forget()
    hashed.clear()
    Store.open(small).refuse_damaged()
    assert len(hashed) == 1


def test_without_a_cache_folder_files_are_hashed_all_the_same(
    small: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    cache.write_text("a file is in the way")
    store = Store.open(small)
    store.refuse_damaged()
    _ = store.shards[0].X


def test_a_pickled_shard_knows_which_of_its_files_are_whole(small: Path, hashed: list[str]) -> None:
    import pickle

    store = Store.open(small)
    store.refuse_damaged()
    hashed.clear()
    _ = pickle.loads(pickle.dumps(store.shards[0])).X
    assert hashed == []


def test_the_first_damaged_file_is_named_and_the_rest_is_not_waited_for(small: Path, hashed: list[str]) -> None:
    for shard in ("00001", "00002"):
        path = small / "shards" / shard / "genes.npy"
        path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(InputError, match=r"00001/genes\.npy"):
        Store.open(small).refuse_damaged()
