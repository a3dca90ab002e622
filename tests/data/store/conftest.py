from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from small_store import draw, write_store


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A store of three shards: narrow counts, wide counts, and shares that are no counts."""
    matrices = {"uint8": draw(20), "uint16": draw(9, seed=1, largest=4_000), "float32": draw(5, seed=2) / 3}
    return write_store(tmp_path / "small", matrices)
