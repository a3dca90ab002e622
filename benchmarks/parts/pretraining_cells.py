"""The cells that some benchmarks and studies pretrain on, and those they judge annotation on."""

from __future__ import annotations

from pathlib import Path

import h5py

from cell_lm.data import CellData, MalignancyColumn, from_anndata, read_cells
from cell_lm.data.demo import HELD_OUT, PANCREAS, demo_cells

PRETRAINING = (
    "pbmc_frozen_donorA",
    "kang_pbmc",
    "malt_lymphoma",
    "baron_human",
    "qian2020_ovarian",
    "copykat_tnbc",
    "numbat_atc2",
    "pc9_erlotinib",
)
NORMAL = (
    "pbmc_10x_protein400",
    "pbmc_6studies_2100",
    "pbmc_eccite500",
    "pbmc_hao2021_citeseq1000",
    "pbmc_hao2021_ucell600",
    "pbmc_pisces1000",
    "pbmc_scminer638",
    "ipsc_cardiac_scgps1090",
    "ipsc_cm_gong315",
    "placenta_cellxgene220",
    "gut_scp1884_1020",
)
TUMOUR = ("pc9_erlotinib", "sc_mixology_celseq2")
MIXED = (
    "aml027_pre_bmmc1759",
    "colon_crc_pelka624",
    "copykat_tnbc",
    "malt_lymphoma",
    "npc_infercnvplus154",
    "numbat_atc2",
)
CORPUS = NORMAL + TUMOUR + MIXED
"""The files that the packaged model was made of: none is evaluated on by :mod:`benchmarks.representation`."""
TARGETS = ("zheng_facs10", "pbmc3k", "pbmc_scminer638")
NOT_A_TYPE = "unlabelled (failed QC)"
RAREST = 10
ALL_MASKED = 2**30
"""``objectives.masked.most`` of a method that predicts all masked genes."""
MALIGNANCY = MalignancyColumn("malignant", {"putative": "tumour"})


def read_pretraining(folder: Path) -> list[CellData]:
    """Read the cells to pretrain on from a data folder."""
    return [read_cells(folder / "cells" / f"{name}.h5ad", malignancy=MALIGNANCY, min_genes=200) for name in PRETRAINING]


def read_corpus(folder: Path) -> list[CellData]:
    """Read all cells of these files; the packaged model knows at most 1,500 of each."""
    found = []
    for name in CORPUS:
        path = folder / "cells" / f"{name}.h5ad"
        one = "normal" if name in NORMAL else "tumour" if name in TUMOUR else None
        column = MALIGNANCY if one is None and "malignant" in _columns(path) else None
        found.append(read_cells(path, malignancy=one or column, min_genes=200))
    return found


def _columns(path: Path) -> list[str]:
    with h5py.File(path) as file:
        return list(file["obs"])


def read_target(folder: Path, name: str) -> CellData:
    """Read the cells of common types of one file of a data folder."""
    return common_types(read_cells(folder / "cells" / f"{name}.h5ad"))


def packaged() -> tuple[list[CellData], dict[str, CellData]]:
    """Return the packaged cells to pretrain on, and those of a donor that is left out of them."""
    cells = {name: from_anndata(adata, malignancy=MALIGNANCY) for name, adata in demo_cells().items()}
    left_out = {name: (one.obs["donor"] == HELD_OUT[name]).to_numpy() for name, one in cells.items()}
    target = common_types(cells[PANCREAS][left_out[PANCREAS]])
    return [one[~left_out[name]] for name, one in cells.items()], {"packaged pancreas": target}


def files(targets: tuple[str, ...]) -> list[str]:
    """Return the files of the data folder that are read."""
    return [f"cells/{name}.h5ad" for name in (*PRETRAINING, *targets)]


def common_types(cells: CellData) -> CellData:
    labels = cells.obs["cell_type"].astype(str)
    common = labels.isin(labels.value_counts().loc[lambda n: n >= RAREST].index)
    return cells[(common & (labels != NOT_A_TYPE)).to_numpy()]
