"""A disk that is full while a result is written: one line, the old file intact, nothing left.

The kernel refuses to let any file grow past a limit, as a quota does. All cases run in one process of their own: what
fails on a full disk can take its process with it.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("benchmarks", reason="benchmarks are not part of a source distribution")
from benchmarks.parts.robustness_files import WRITERS
from benchmarks.robustness_writers import LIMITS, disk_full_attempts


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return disk_full_attempts(tmp_path_factory.mktemp("full"))


def test_every_writer_was_tried_at_every_limit(attempts: list[dict[str, Any]]) -> None:
    assert len(attempts) == 2 * len(WRITERS) * len(LIMITS), attempts


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
