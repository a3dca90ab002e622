"""Train CellTypist's model of :mod:`benchmarks.first_contact` in its environment, by its recipe.

In the working folder: reference.h5ad. The model goes where CellTypist keeps those that it has downloaded.
"""

from __future__ import annotations

import os
from pathlib import Path

import celltypist  # type: ignore[import-not-found,unused-ignore]
import scanpy as sc

if __name__ == "__main__":
    reference = sc.read_h5ad("reference.h5ad")
    sc.pp.normalize_total(reference, target_sum=1e4)
    sc.pp.log1p(reference)
    model = celltypist.train(reference, "cell_type", feature_selection=True, n_jobs=1)
    folder = Path(os.environ["CELLTYPIST_FOLDER"]) / "data" / "models"
    folder.mkdir(parents=True, exist_ok=True)
    model.write(str(folder / "pancreas.pkl"))
