"""Synthetic cells with the properties of real ones: uneven depth, few genes that make up most counts, many ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data import CellData
from cell_lm.genes import GeneAudit, Vocabulary

GENES = 1_500


def draw_counts(cells: int = 60, genes: int = GENES, seed: int = 0, depth: float = 1_500.0) -> sparse.csr_matrix:
    """Counts, float32; every cell has genes counted once."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(genes, 0.3))
    depths = depth * rng.lognormal(0, 0.4, cells)
    return sparse.csr_matrix(rng.poisson(depths[:, None] * share), dtype=np.float32)


@pytest.fixture
def counts() -> sparse.csr_matrix:
    return draw_counts()


@pytest.fixture
def make_adata(vocabulary: Vocabulary) -> Callable[..., AnnData]:
    """An AnnData of counts over the first genes of the vocabulary."""

    def make(X: object = None, **arguments: int) -> AnnData:
        X = draw_counts(**arguments) if X is None else X
        obs = pd.DataFrame(index=[f"cell{i}" for i in range(X.shape[0])])
        var = pd.DataFrame(index=list(vocabulary.symbols[: X.shape[1]]))
        return AnnData(X, obs=obs, var=var)

    return make


@pytest.fixture
def adata(make_adata: Callable[..., AnnData]) -> AnnData:
    return make_adata()


def cells_of(X: object, malignancy: NDArray[np.int8] | None = None, prefix: str = "G", name: str = "toy") -> CellData:
    """Cells over a vocabulary as wide as the matrix."""
    X = sparse.csr_matrix(X, dtype=np.float32)
    symbols = tuple(f"{prefix}{i}" for i in range(X.shape[1]))
    table = pd.DataFrame(
        {"gene": symbols, "symbol": symbols, "index": range(len(symbols)), "status": "matched", "how": ""}
    )
    obs = pd.DataFrame(index=[f"{name}{i}" for i in range(X.shape[0])])
    malignancy = np.full(X.shape[0], -1, np.int8) if malignancy is None else malignancy
    vocabulary = Vocabulary(symbols, ("",) * len(symbols))
    return CellData(name, X, "counts", obs, GeneAudit(table, len(symbols)), vocabulary, malignancy)


@pytest.fixture(scope="session")
def make_cells() -> Callable[..., CellData]:
    return cells_of


@pytest.fixture(scope="session")
def make_counts() -> Callable[..., sparse.csr_matrix]:
    return draw_counts
