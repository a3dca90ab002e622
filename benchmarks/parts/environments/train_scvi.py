"""scVI by scvi-tools, the way of its tutorials; it runs in the environment of scANVI.

2,000 variable genes, 2 layers, 30 latents, negative binomial, batch: the donor where there are several; until early
stopping.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import scanpy as sc
import scvi  # type: ignore[import-not-found,unused-ignore]
import torch
from case_files import Case  # type: ignore[import-not-found,unused-ignore]

GENES, LATENTS, LAYERS = 2000, 30, 2
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def train(case: Case, labels: list[str] | None = None) -> Any:
    """Return the trained model; ``labels`` of all cells are only noted in its cells, for scANVI."""
    torch.set_num_threads(1)
    scvi.settings.seed = case.seed
    cells = anndata.AnnData(case.counts.copy())
    cells.var_names, cells.obs_names = case.genes, [str(number) for number in range(cells.n_obs)]
    cells.obs["batch"] = case.batch
    if labels is not None:
        cells.obs["label"] = labels
    log = anndata.AnnData(case.log(), obs=cells.obs, var=cells.var)
    sc.pp.highly_variable_genes(log, n_top_genes=GENES, batch_key="batch" if cells.obs["batch"].nunique() > 1 else None)
    cells = cells[:, log.var["highly_variable"].to_numpy()].copy()
    scvi.model.SCVI.setup_anndata(cells, batch_key="batch", labels_key=None if labels is None else "label")
    model = scvi.model.SCVI(cells, n_layers=LAYERS, n_latent=LATENTS, gene_likelihood="nb")
    model.train(early_stopping=True, **QUIET)
    return model


def main(folder: str) -> None:
    """Write the latents of all cells, ``latents.npy``, float32 [cells, 30]."""
    model = train(Case(folder))
    np.save(Path(folder) / "latents.npy", model.get_latent_representation().astype(np.float32))
