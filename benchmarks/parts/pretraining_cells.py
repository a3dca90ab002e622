"""The cells that some benchmarks and studies pretrain on, and those they judge annotation on."""

from __future__ import annotations

from pathlib import Path

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
TARGETS = ("zheng_facs10", "pbmc3k", "pbmc_scminer638")
NOT_A_TYPE = "unlabelled (failed QC)"
RAREST = 10
MALIGNANCY = MalignancyColumn("malignant", {"putative": "tumour"})


def read_pretraining(folder: Path) -> list[CellData]:
    """Read the cells to pretrain on from a data folder."""
    return [read_cells(folder / "cells" / f"{name}.h5ad", malignancy=MALIGNANCY, min_genes=200) for name in PRETRAINING]


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
