"""scANVI (Xu et al. 2021) by scvi-tools: raw counts of labelled and unlabelled cells, the way of its tutorials.

2,000 variable genes of both sides, scVI (2 layers, 30 latents, negative binomial, batch: the donor) until early
stopping, then scANVI from it, 20 epochs with 100 cells a type and epoch.
"""

from __future__ import annotations

import time

import anndata
import numpy as np
import scanpy as sc
import scvi  # type: ignore[import-not-found,unused-ignore]
import torch
from case_files import Case  # type: ignore[import-not-found,unused-ignore]

GENES, LATENTS, LAYERS = 2000, 30, 2
UNKNOWN = "no label"
EPOCHS, CELLS_A_TYPE = 20, 100


def main(folder: str) -> None:
    case = Case(folder)
    torch.set_num_threads(1)
    scvi.settings.seed = case.seed
    start = time.process_time()
    cells = anndata.AnnData(case.counts.copy())
    cells.var_names, cells.obs_names = case.genes, [str(number) for number in range(cells.n_obs)]
    cells.obs["batch"] = case.batch
    cells.obs["label"] = [*case.labels, *[UNKNOWN] * (cells.n_obs - case.known)]
    log = anndata.AnnData(case.log(), obs=cells.obs, var=cells.var)
    sc.pp.highly_variable_genes(log, n_top_genes=GENES, batch_key="batch" if cells.obs["batch"].nunique() > 1 else None)
    cells = cells[:, log.var["highly_variable"].to_numpy()].copy()
    cells = cells.copy()
    scvi.model.SCVI.setup_anndata(cells, batch_key="batch", labels_key="label")
    first = scvi.model.SCVI(cells, n_layers=LAYERS, n_latent=LATENTS, gene_likelihood="nb")
    quiet = {"accelerator": "cpu", "enable_progress_bar": False}
    first.train(early_stopping=True, **quiet)
    model = scvi.model.SCANVI.from_scvi_model(first, unlabeled_category=UNKNOWN)
    model.train(max_epochs=EPOCHS, n_samples_per_label=CELLS_A_TYPE, **quiet)
    fitted = time.process_time()
    chances = model.predict(soft=True).iloc[case.known :]
    classes = [name for name in chances.columns if name != UNKNOWN]
    values = chances[classes].to_numpy(float)
    values /= values.sum(axis=1, keepdims=True)
    case.write("scanvi", np.array(classes, object)[values.argmax(axis=1)], values, classes)
    epochs = len(first.history["elbo_train"])
    case.note(
        fit_s=fitted - start,
        predict_s={"scanvi": time.process_time() - fitted},
        scvi_epochs=epochs,
        scanvi_epochs=EPOCHS,
        version=scvi.__version__,
    )
