"""Draw the picture of the README from what the demo left.

python scripts/make_readme_picture.py demo/cells.h5ad docs/images/demo.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import anndata
import numpy as np
from matplotlib.figure import Figure

from cell_lm import pl


def main(cells: Path, picture: Path) -> None:
    adata = anndata.read_h5ad(cells)
    adata.obs["donor"] = np.where(
        adata.obs["role"] == "held out", adata.obs["donor"].astype(str) + " (held out)", adata.obs["donor"].astype(str)
    )
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    for ax, color in zip(figure.subplots(1, 2), ("cell_type", "donor"), strict=True):
        pl.embedding(adata, color=color, ax=ax, show=False)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
