"""Synthetic cells of four types from three donors, over real gene names; and a model that never saw any."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse

from cell_lm.config import EncoderConfig
from cell_lm.data import from_anndata
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.genes import Vocabulary
from cell_lm.genes.reference import compute_reference
from cell_lm.model import CellLM

GENES = 1_400
TYPES = ("alpha", "beta", "gamma", "delta")
DONORS = ("d1", "d2", "d3")


def typed_adata(cells: int = 180, seed: int = 0, *, share_delta: float = 0.1) -> AnnData:
    """Counts with 200 markers a type and a shift of its own in each donor; delta cells are rare."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(99)  # types and donors are the same whatever the cells
    base = fixed.dirichlet(np.full(GENES, 0.4))
    markers = {name: fixed.choice(GENES, 200, replace=False) for name in TYPES}
    shift = {name: fixed.lognormal(0, 0.2, GENES) for name in DONORS}
    common = (1 - share_delta) / 3
    types = rng.choice(TYPES, cells, p=[common, common, common, share_delta])
    donors = rng.choice(DONORS, cells)
    share = np.stack([base * shift[donor] for donor in donors])
    for row, name in enumerate(types):
        share[row, markers[name]] += 8 / GENES
    share /= share.sum(axis=1, keepdims=True)
    counts = rng.poisson(share * rng.lognormal(7, 0.3, cells)[:, None])
    obs = pd.DataFrame({"cell_type": types, "donor": donors}, index=[f"cell{i}" for i in range(cells)])
    var = pd.DataFrame(index=list(Vocabulary.human().symbols[:GENES]))
    return AnnData(sparse.csr_matrix(counts, dtype=np.float32), obs=obs, var=var)


def tiny_model(seed: int = 0) -> CellLM:
    """An encoder as it was drawn: enough for a linear head, and nothing has to be trained."""
    config = EncoderConfig.model_validate(
        {
            "attention": "latent",
            "width": 48,
            "layers": 2,
            "heads": 2,
            "head_width": 16,
            "feedforward": 64,
            "gene_width": 32,
            "latents": 8,
            "reference_genes": 300,
        }
    )
    return with_reference(CellLM(config, Vocabulary.human(), seed=seed))


def with_reference(model: CellLM) -> CellLM:
    """The model with the reference of other such cells, and a transformer that has its part in CLS."""
    batch = Tokeniser(6, 4096)(from_anndata(typed_adata(120, seed=77)), np.arange(120))
    config = model.config
    counts = batch.counts(len(model.vocabulary))
    model.set_reference(compute_reference(counts, config.reference_genes, config.width))
    torch.nn.init.normal_(model.encoder.readout.correction.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    return model.eval()
