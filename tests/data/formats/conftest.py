"""Some of the packaged cells: real counts, under real names."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData

from cell_lm.data.demo import PANCREAS, demo_cells


@pytest.fixture(scope="session")
def real() -> AnnData:
    """46 cells of the pancreas and every sixth of their genes."""
    return demo_cells()[PANCREAS][::34, ::6].copy()


@pytest.fixture
def cells(real: AnnData) -> AnnData:
    """A copy of them, to be changed at will."""
    assert np.asarray(real.X.sum()) > 10_000
    return real.copy()
