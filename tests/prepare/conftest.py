from __future__ import annotations

import sys
from pathlib import Path

import pytest
from scipy import sparse

sys.path.insert(0, str(Path(__file__).parent))

from sources import draw, write


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three files of cells; the third holds ten cells of the first once more."""
    folder = tmp_path / "files"
    folder.mkdir()
    first, second = draw(60, seed=1, name="a"), draw(41, seed=2, name="b")
    third = draw(30, seed=3, name="c")
    again = first[20:30, third.var_names].X
    third.X = sparse.vstack([again, third.X[10:]]).tocsr()
    pairs = (("a.h5ad", first), ("b.h5ad", second), ("c.h5ad", third))
    return [write(folder, name, adata) for name, adata in pairs]
