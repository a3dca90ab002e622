"""The packaged cells: raw counts of normal and of cancer cells, subsets of two published data sets.

=================================  =====  =====  ======  ==============================================================
name                               cells  types  donors  what it is
=================================  =====  =====  ======  ==============================================================
``pancreas (Baron 2016)``          1,557     12       3  healthy pancreas, inDrop; GSE84133
``ovarian cancer (Qian 2020)``     1,515      6       3  tumours of ovary and peritoneum, 10x 3'; E-MTAB-8107
=================================  =====  =====  ======  ==============================================================

``obs`` holds ``cell_type``, ``donor``, ``tissue``, ``disease`` (of the sample), ``malignant`` (of the cell, as the
source has it: ``no`` or ``putative``), ``assay`` and ``malignancy``. ``uns`` records the source of the cells, their
licence, and what was left out.

``malignancy`` is the target of tumour/normal discrimination. It is a property of the *cell*: the epithelial cells of
the tumours are ``tumour`` (the source calls them putative, as it checked no mutations), the pancreas and the
fibroblasts, endothelial and immune cells of the tumours, which are not malignant, are ``normal``. CellLM (Zhao, Zhang,
Nie 2023) had labels of the *sample* only: there every cell of a cancer sample is a cancer cell. With labels of cells,
and with normal cells in both data sets, predicting malignancy is not the same as predicting the data set.

References
----------
Baron et al. 2016, Cell Systems 3(4), 346-360. Qian et al. 2020, Cell Research 30, 745-762. Licences:
``cell_lm/resources/LICENSES.md``.
"""

from __future__ import annotations

from importlib.resources import as_file, files

import anndata
import numpy as np
from anndata import AnnData
from scipy import sparse

PANCREAS = "pancreas (Baron 2016)"
OVARIAN_CANCER = "ovarian cancer (Qian 2020)"
_FILES = {PANCREAS: "demo_pancreas.h5ad", OVARIAN_CANCER: "demo_ovarian_cancer.h5ad"}
HELD_OUT = {PANCREAS: "human3", OVARIAN_CANCER: "OvC_patient_13"}
"""The test donor of each data set for annotation. The other donors have every type, and all common types are in both
parts; only the rare epsilon cells of the pancreas come from one donor, who is a training donor."""


HARMONISED = {
    "Endothelial": "endothelial",
    "Epithelial": "epithelial",
    "Fibroblast": "fibroblast",
    "Macrophage": "macrophage",
    "T_cell": "T cell",
    "B_cell": "B cell",
    "activated_stellate": "activated stellate",
    "quiescent_stellate": "quiescent stellate",
}
"""Published name of a type to its name in both data sets. Endothelial cells and macrophages are in both; the tumours'
fibroblasts and the pancreas' stellate cells are relatives, not the same type. Other names stay as they are."""


def demo_cells(*, harmonise: bool = False) -> dict[str, AnnData]:
    """Read the packaged cells.

    Parameters
    ----------
    harmonise
        Give a type the same name in both data sets (:data:`HARMONISED`); ``obs["published_type"]`` then holds the
        published names.

    Returns
    -------
    dict
        Name to AnnData, :data:`PANCREAS` and :data:`OVARIAN_CANCER`: ``X`` is CSR float32 [cells, genes], raw counts;
        genes are protein-coding, under the symbols of their time (some have been renamed since).
    """
    cells = {name: _read(file) for name, file in _FILES.items()}
    if harmonise:
        for each in cells.values():
            published = each.obs["cell_type"].astype(str)
            each.obs["published_type"] = published
            each.obs["cell_type"] = published.replace(HARMONISED)
    return cells


def _read(name: str) -> AnnData:
    with as_file(files("cell_lm") / "resources" / name) as path:
        cells = anndata.read_h5ad(path)
    cells.X = sparse.csr_matrix(cells.X, dtype=np.float32)  # stored by gene, as integers, to save space
    return cells
