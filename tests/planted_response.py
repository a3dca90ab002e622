"""Made data of drug response: a planted low-rank signal of the genes, and a planted effect of the molecule.

Three latent factors drive both genes and responses. A drug's loadings on them, and its potency, follow its scaffold, so
that a new molecule of a known scaffold can be predicted. What genes do not explain is shared by drugs of a scaffold, so
that measured drugs tell of the others.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from cell_lm.data.response import ResponseTable, response_table
from cell_lm.genes import Vocabulary

SCAFFOLDS = ("c1ccccc1", "C1CCNCC1", "c1ccc2[nH]ccc2c1")
TAILS = ("C", "CC", "CCC", "CCCC", "C(C)C", "OC", "OCC", "NC", "NCC", "FC", "ClC", "N#CC")
GENES, READ = 300, {"min_overlap": 100}


def lines(count: int = 90, *, seed: int = 0, noise: float = 1.0) -> tuple[AnnData, np.ndarray]:
    """Lines as RMA-like log2 expression, and their latent factors [lines, 3]."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(count, 3))
    loading = np.random.default_rng(99).normal(size=(3, GENES))
    X = 7 + 0.5 * latent @ loading + 0.3 * noise * rng.normal(size=(count, GENES))
    obs = pd.DataFrame(
        {"tissue": [f"t{i % 4}" for i in range(count)]}, index=[f"line{seed}_{i:03d}" for i in range(count)]
    )
    var = pd.DataFrame(index=list(Vocabulary.human().symbols[:GENES]))
    return AnnData(np.clip(X, 2.1, 15).astype(np.float32), obs=obs, var=var), latent


def molecules() -> dict[str, str]:
    """SMILES by drug: each scaffold with each tail."""
    return {f"drug{s}-{t}": f"{tail}{scaffold}" for s, scaffold in enumerate(SCAFFOLDS) for t, tail in enumerate(TAILS)}


def responses(adata: AnnData, latent: np.ndarray, *, seed: int = 0, measured: float = 0.9) -> ResponseTable:
    """Responses of the lines to all drugs, some pairs missing; half of the variance is explained by the genes."""
    rng, drugs = np.random.default_rng(seed + 1), molecules()
    own = np.random.default_rng(7).normal(size=(len(SCAFFOLDS), 3))
    hidden = rng.normal(size=(len(latent), len(SCAFFOLDS)))
    rows = []
    for drug, smiles in drugs.items():
        scaffold = int(drug[4])
        signal = latent @ own[scaffold] / np.linalg.norm(own[scaffold])
        y = 3.0 * scaffold + 1.5 * (signal + 0.8 * hidden[:, scaffold] + 0.4 * rng.normal(size=len(latent)))
        rows.append(pd.DataFrame({"line": adata.obs_names, "drug": drug, "ln_ic50": y, "smiles": smiles}))
    table = pd.concat(rows)
    return response_table(table[rng.random(len(table)) < measured])
