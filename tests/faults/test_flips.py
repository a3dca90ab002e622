"""One flipped bit anywhere in what is read again is refused, or changes nothing of what is read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("benchmarks", reason="benchmarks are not part of a source distribution")
from benchmarks.parts.robustness_files import READ_AGAIN, write_store
from benchmarks.robustness_writers import flip, flipped
from cell_lm.data.store import Store
from cell_lm.errors import CellLMError


@pytest.mark.parametrize("kind", READ_AGAIN)
def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path, kind: str) -> None:
    found = list(flipped(tmp_path, kind, each=12))
    ends = Counter(end for _, end in found)
    assert ends["changed"] == 0, [file for file, end in found if end == "changed"]
    assert ends["refused"] >= 12
    assert all(file.endswith(".json") for file, end in found if end == "harmless")
    assert ends["harmless"] < 0.05 * ends["refused"]


def test_a_store_that_is_not_verified_says_nothing(tmp_path: Path) -> None:
    """What ``--no-verify`` leaves out; and the proof that the test above would see it."""
    write_store(tmp_path / "store")
    before = Store.open(tmp_path / "store").shards[0].X.data.tolist()
    flip(tmp_path / "store" / "shards" / "00000" / "counts.npy", 8 * 130)
    with pytest.raises(CellLMError, match=r"counts\.npy: it is damaged"):
        _ = Store.open(tmp_path / "store").shards[0].X
    assert Store.open(tmp_path / "store", verify=False).shards[0].X.data.tolist() != before
