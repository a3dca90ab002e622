"""Compiled functions and their cache on disk, which several processes may fill at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FUNCTION = """
from cell_lm.data.compiled import compiled

@compiled
def half(x):
    return x / 2
"""
COMPILE = """
import sys, time
from pathlib import Path
from numba.core.caching import IndexDataCacheFile
{patch}
from function_of_the_test import half

Path(sys.argv[1]).touch()
while not all(Path(name).exists() for name in ("int", "float")):
    time.sleep(0.01)
assert half(eval(sys.argv[1])(3)) == 1.5
"""
SLOWLY = """
read = IndexDataCacheFile._load_index

def slowly(self):
    index = read(self)
    time.sleep(1.0)
    return index

IndexDataCacheFile._load_index = slowly
"""
LOAD = """
from function_of_the_test import half
assert (half(3), half(3.0)) == (1.5, 1.5)
assert sum(half.stats.cache_hits.values()) == 2, half.stats
"""


def start(code: str, folder: Path, *words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-c", code, *words]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def test_processes_that_compile_for_different_types_at_once_keep_both(tmp_path: Path) -> None:
    (tmp_path / "function_of_the_test.py").write_text(FUNCTION)
    both = [start(COMPILE.format(patch=SLOWLY), tmp_path, kind) for kind in ("int", "float")]
    said = [process.communicate()[1] for process in both]
    assert said == ["", ""]
    last = start(LOAD, tmp_path)
    assert last.communicate()[1] == "", "each of them found what it had been compiled for"


def test_a_cache_that_cannot_be_locked_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "function_of_the_test.py").write_text(FUNCTION)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("cell_lm.data.compiled.FileLock", refuse)
    from function_of_the_test import half  # type: ignore[import-not-found]

    assert half(3) == 1.5
    assert not list(tmp_path.rglob("*.nbi"))
