"""A small bad file never takes a gigabyte or twenty seconds, and ends in one line."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bombs import CELL_FILES, NETWORKS, honest

from cell_lm import pp
from cell_lm.data import open_cells, read_anndata
from cell_lm.errors import CellLMError
from cell_lm.genes import Vocabulary
from cell_lm.genes.interactions import read_network
from cell_lm.prepare import prepare

MOST_BYTES, MOST_SECONDS = 1 << 30, 20


def bounded(work: Callable[[], object]) -> str:
    """Do something in a child process that may take a gigabyte more and twenty seconds; return what it said."""
    Vocabulary.human()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
            signal.alarm(10 * MOST_SECONDS)  # what waits takes no time of a processor
            held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (held + MOST_BYTES, resource.RLIM_INFINITY))
            try:
                work()
                said = "it was read"
            except CellLMError as error:
                said = str(error)
            except BaseException as error:
                said = f"FAULT {type(error).__name__}: {error}"
            os.write(writing, said.encode("utf-8", "replace")[:4_000])
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "it took too long, or the child died"
    return said


def read_blocks(path: Path) -> None:
    with open_cells(path) as cells:
        for _ in cells.blocks(512):
            pass


def check(path: Path) -> None:
    problems = pp.check(path).problems
    if problems:
        raise CellLMError(problems[0])


@pytest.mark.parametrize("make", CELL_FILES.values(), ids=CELL_FILES)
def test_a_bomb_of_cells_is_refused_in_one_line_within_bounds(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    assert path == Path("/dev/zero") or sum(file.stat().st_size for file in tmp_path.iterdir() if file.is_file()) < 9e6
    said = bounded(lambda: read_anndata(path))
    assert not said.startswith(("FAULT", "it was read")), said
    assert "does not fit into memory" not in said
    assert "\n" not in said
    assert str(path) in said


PREPARED = ("links that fork", "an index of 10^9", "a dense X of two rows", "sequences of R", "barcodes without end")


@pytest.mark.parametrize("name", [*PREPARED, "a pipe", "a link to itself", "a device"])
def test_a_bomb_is_refused_by_every_way_of_reading(name: str, tmp_path: Path) -> None:
    path = CELL_FILES[name](tmp_path)
    ways = (check, read_blocks, lambda path: prepare([path], tmp_path / "store"))
    answers = [bounded(lambda way=way: way(path)) for way in ways]
    if name == "links that fork":  # they hang in a part that two of the ways do not read
        answers = answers[:1]
    for said in answers:
        assert not said.startswith(("FAULT", "it was read")), said
        assert "does not fit into memory" not in said


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_bomb_of_a_network_is_refused(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    said = bounded(lambda: read_network(path))
    assert not said.startswith(("FAULT", "it was read")), said
    assert str(path) in said


def test_an_honest_file_is_read_within_the_same_bounds(tmp_path: Path) -> None:
    path = honest(tmp_path / "honest.h5ad")
    assert bounded(lambda: read_anndata(path)) == "it was read"


def test_the_bound_sees_what_takes_more() -> None:
    assert bounded(lambda: bytearray(2 << 30)).startswith("FAULT MemoryError")
