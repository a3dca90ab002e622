"""Made cells for ``--quick``: two groups of Poisson counts of real gene names."""

from __future__ import annotations

import numpy as np
from anndata import AnnData

from benchmarks.parts.sensitivity_sets import SensitivitySet, made_of
from cell_lm.data import from_anndata
from cell_lm.genes import Vocabulary

CELLS, GENES = 120, 1200


def made_set(seed: int) -> SensitivitySet:
    """Return 120 cells of 1,200 genes, a third of them sensitive, that differ in 60 genes."""
    rng = np.random.default_rng(seed)
    sensitive = rng.permutation(CELLS) < CELLS // 3
    rate = rng.gamma(0.6, 2.0, GENES) * np.ones((CELLS, 1))
    rate[np.ix_(sensitive, np.arange(60))] *= 3
    names = list(Vocabulary.human().symbols[:GENES])
    adata = AnnData(rng.poisson(rate).astype(np.float32))
    adata.var_names = names
    return made_of("made", from_anndata(adata), sensitive)
