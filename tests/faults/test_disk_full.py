"""A disk that is full while a result is written: one line, the old file intact, nothing left.

The kernel refuses to let any file grow past a limit, as a quota does. All cases run in one process of their own: what
fails on a full disk can take its process with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("benchmarks", reason="benchmarks are not part of a source distribution")
from benchmarks.robustness_files import WRITERS
from benchmarks.robustness_writers import LIMITS


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    words = ["-m", "benchmarks.robustness_writers", "--disk-full", str(tmp_path_factory.mktemp("full"))]
    root, path = Path(__file__).parents[2], os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=root,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-2_000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_writer_was_tried_at_every_limit(attempts: list[dict[str, Any]]) -> None:
    assert len(attempts) == 2 * len(WRITERS) * len(LIMITS)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_that_names_file_and_remedy(attempts: list[dict[str, Any]], name: str) -> None:
    for attempt in (attempt for attempt in attempts if attempt["name"] == name):
        said = attempt["said"]
        assert "could not be written (File too large)" in said, attempt
        assert "out" in said
        assert "Make room" in said
        assert "\n" not in said


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_what_was_there_and_nothing_else(attempts: list[dict[str, Any]], name: str) -> None:
    for attempt in (attempt for attempt in attempts if attempt["name"] == name):
        assert attempt["changed"] == [], attempt
        assert attempt["clean"], attempt
