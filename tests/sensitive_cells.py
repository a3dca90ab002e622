"""Made cells, some of them sensitive to a drug, and bulk lines whose response the same genes drive."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from cell_lm.genes import Vocabulary

GENES, PROGRAMME = 1_100, 80
"""Genes, the first of which make up the programme: half up in sensitive cells, half down."""


def sensitive_adata(
    cells: int = 160, *, prevalence: float = 0.5, labelled: int = 4, strength: float = 3.0, seed: int = 0
) -> AnnData:
    """Return Poisson counts; ``obs["truth"]`` of all cells, ``obs["response"]`` of a few of each kind."""
    rng = np.random.default_rng(seed)
    sensitive = rng.permutation(cells) < round(prevalence * cells)
    rate = np.random.default_rng(5).gamma(0.7, 2.0, GENES) * rng.lognormal(0, 0.3, cells)[:, None]
    half = PROGRAMME // 2
    rate[np.ix_(sensitive, np.arange(half))] *= strength
    rate[np.ix_(~sensitive, np.arange(half, PROGRAMME))] *= strength
    truth = np.where(sensitive, "sensitive", "resistant")
    response = np.full(cells, None, object)
    for kind in ("sensitive", "resistant"):
        rows = np.flatnonzero(truth == kind)[:labelled]
        response[rows] = kind
    obs = pd.DataFrame(
        {"truth": truth, "response": response, "donor": [f"d{i % 4}" for i in range(cells)]},
        index=[f"cell{i}" for i in range(cells)],
    )
    names = pd.DataFrame(index=list(Vocabulary.human().symbols[:GENES]))
    return AnnData(sparse.csr_matrix(rng.poisson(rate), dtype=np.float32), obs=obs, var=names)


def z_scored(adata: AnnData) -> AnnData:
    """Return the cells z-scored by gene, as scanpy.pp.scale leaves them."""
    X = adata.X.toarray().astype(np.float64)
    X = np.log1p(X / X.sum(axis=1, keepdims=True) * 1e4)
    spread = X.std(axis=0)
    scaled = adata.copy()
    scaled.X = ((X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0)).astype(np.float32)
    return scaled


def bulk_lines(lines: int = 80, *, driven: bool = True, seed: int = 1) -> tuple[AnnData, pd.DataFrame]:
    """Return log2 expression of lines of two tissues, and their ln IC50 to ``drug A``.

    The programme makes a line sensitive; with ``driven=False`` the response has nothing to do with any gene.
    """
    rng = np.random.default_rng(seed)
    activity = rng.normal(0, 1, lines)
    base = 6 + np.random.default_rng(5).normal(0, 1.5, GENES).clip(-3, 3)
    X = base + rng.normal(0, 0.6, (lines, GENES))
    half = PROGRAMME // 2
    X[:, :half] += 0.8 * activity[:, None]
    X[:, half:PROGRAMME] -= 0.8 * activity[:, None]
    response = (-activity if driven else rng.normal(0, 1, lines)) + rng.normal(0, 0.4, lines)
    names = [f"line{i}" for i in range(lines)]
    obs = pd.DataFrame({"tissue": ["skin" if i % 2 else "lung" for i in range(lines)]}, index=names)
    var = pd.DataFrame(index=list(Vocabulary.human().symbols[:GENES]))
    table = pd.DataFrame({"line": names, "drug": "drug A", "ln_ic50": response})
    other = table.assign(drug="drug B", ln_ic50=rng.normal(0, 1, lines))
    return AnnData(X.clip(0.1).astype(np.float32), obs=obs, var=var), pd.concat([table, other], ignore_index=True)
