"""One label a type: does CLS help where the linear path of the encoder lacks the genes of the tissue?

    python -m studies.foreign_tissue --data DIR [--draws 8]

With one label a type no cell can be left out, so ``CellTypeClassifier`` cannot measure what CLS is worth. Two encoders
(the packaged ``small``, and one whose corpus has no immune cells) meet five data sets that neither was computed on but
the gut, which is in the corpus of ``small``. For each draw of one cell a type, all other cells are named by the
regressions on genes alone, and with CLS beside them, whatever the fraction (the rule itself is switched off). Printed:
the fraction of variance that the reference genes cover (``covered_variance``), and both macro-F1.

The last line is JSON: ``SET.ENCODER`` with ``covered``, ``genes``, ``with_cls`` and ``gain`` (mean and 95 % interval).
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from unittest.mock import patch

import anndata
import numpy as np
from anndata import AnnData

from benchmarks.options import data_folder, run
from cell_lm.config import resolve_config
from cell_lm.data import from_anndata, read_cells
from cell_lm.data.loading.expression import log_expression
from cell_lm.data.obs.labels import LabelWarning
from cell_lm.evaluation import macro_f1, mean_interval
from cell_lm.model import CellLM
from cell_lm.pretraining.run import initial_model
from cell_lm.tasks.annotation import CellTypeClassifier, classifier
from cell_lm.tasks.annotation.tissue import covered_variance

NO_IMMUNE = (
    "sc_mixology_celseq2",
    "ipsc_cardiac_scgps1090",
    "pc9_erlotinib",
    "ipsc_cm_gong315",
    "placenta_cellxgene220",
)
SETS, LABEL = ("baron_human", "zheng_facs10", "pbmc3k", "qian2020_ovarian", "gut_scp1884_1020"), "cell_type"
MOST, FEWEST = 2_500, 10


def cells_of(path: Path) -> AnnData:
    """Return at most :data:`MOST` cells whose types have at least :data:`FEWEST`."""
    adata = anndata.read_h5ad(path)
    rng = np.random.default_rng(0)
    adata = adata[np.sort(rng.choice(adata.n_obs, min(MOST, adata.n_obs), replace=False))]
    sizes = adata.obs[LABEL].astype(str).value_counts()
    return adata[adata.obs[LABEL].astype(str).isin(sizes.index[sizes >= FEWEST])].copy()


def draw(adata: AnnData, seed: int) -> tuple[AnnData, AnnData]:
    """Return one cell of each type, and all others."""
    rng, types = np.random.default_rng(seed), adata.obs[LABEL].astype(str).to_numpy()
    one = np.array([rng.choice(np.flatnonzero(types == name)) for name in np.unique(types)])
    rest = np.setdiff1d(np.arange(adata.n_obs), one)
    return adata[one].copy(), adata[rest].copy()


def score(model: CellLM, views: tuple[str, ...], known: AnnData, rest: AnnData) -> float:
    fitted = CellTypeClassifier(model, views=views).fit(known, LABEL, min_cells=1)
    return macro_f1(rest.obs[LABEL].astype(str).to_numpy(), fitted.predict(rest).astype(str).to_numpy())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, help="the folder that holds cells/")
    options.add_argument("--draws", type=int, default=8)
    given = options.parse_args()
    folder = data_folder(given.data, [f"cells/{name}.h5ad" for name in (*NO_IMMUNE, *SETS)]) / "cells"
    warnings.simplefilter("ignore", LabelWarning)
    corpus = [read_cells(folder / f"{name}.h5ad", min_genes=200) for name in NO_IMMUNE]
    encoders = {
        "small": CellLM.from_pretrained("small"),
        "no_immune_cells": initial_model(corpus, resolve_config("small")),
    }
    found = {}
    for name in SETS:
        adata = cells_of(folder / f"{name}.h5ad")
        for encoder, model in encoders.items():
            assert model.reference is not None
            covered, genes, both = [], [], []
            for seed in range(given.draws):
                known, rest = draw(adata, seed)
                log = log_expression(from_anndata(known))
                covered.append(covered_variance(log, model.reference.genes))
                genes.append(score(model, ("genes", "components"), known, rest))
                with patch.object(classifier, "COVERED", 0.0):
                    both.append(score(model, ("genes", "components", "model"), known, rest))
            gain = mean_interval(np.subtract(both, genes))
            found[f"{name}.{encoder}"] = {
                "covered": [round(float(np.mean(covered)), 3), round(float(np.std(covered)), 3)],
                "genes": round(float(np.mean(genes)), 3),
                "with_cls": round(float(np.mean(both)), 3),
                "gain": [round(float(value), 3) for value in (gain.mean, gain.low, gain.high)],
            }
            print(f"{name}.{encoder}", found[f"{name}.{encoder}"], flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    run(main)
