"""Cells on a known map: three clusters with a gene each, labels that are markup, and numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from cell_lm.genes import Vocabulary

HOSTILE = ('<img src=x onerror="window.harmed=1">', "</script><script>window.harmed=1</script>", "b & c")
"""The labels of the three clusters."""
CENTRES = np.array([[0.0, 0.0], [10.0, 0.0], [5.0, 8.0]])
MARKERS = ("CD3D", "MS4A1", "NKG7")
STRANGE_GENE = "<b onclick=x>gene</b>"


def mapped_cells(each: int = 60) -> AnnData:
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], each)
    others = [symbol for symbol in Vocabulary.human().symbols[::400] if symbol not in MARKERS][:40]
    names = [*MARKERS, *others, STRANGE_GENE]
    counts = rng.poisson(2.0, (len(group), len(names))).astype(np.float32)
    counts[np.arange(len(group)), group] += 30
    obs = pd.DataFrame(
        {
            "cell_lm_label": pd.Categorical([HOSTILE[one] for one in group]),
            "cell_lm_confidence": np.linspace(0.2, 1.0, len(group)),
            "depth": counts.sum(axis=1),
            "cluster": group + 1,
            "barcode": [f"unique {i}" for i in range(len(group))],
        },
        index=[f"cell-{i:03d}" for i in range(len(group))],
    )
    places = CENTRES[group] + rng.normal(0, 0.6, (len(group), 2))
    return AnnData(
        sparse.csr_matrix(counts), obs, pd.DataFrame(index=names), obsm={"X_umap": places.astype(np.float32)}
    )
