"""Data: from a user's file to batches of tokens.

In the order of processing: :mod:`~cell_lm.data.formats` (and :mod:`~cell_lm.data.downloads`) read files;
:mod:`~cell_lm.data.scale` checks the scale of the matrix; :mod:`~cell_lm.data.obs` reads columns;
:mod:`~cell_lm.data.cells` aligns genes to the vocabulary; :mod:`~cell_lm.data.store` stores many cells on disk, and
:mod:`~cell_lm.data.backed` reads them from h5ad; :mod:`~cell_lm.data.loading` makes batches of tokens.

The names that need torch are loaded when they are first used: reading, checking and preparing cells do without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cell_lm.data.cells import CellData, from_anndata, read_cells
from cell_lm.data.formats.readers import read_anndata, read_h5ad
from cell_lm.data.formats.sample_sheet import SampleSheet
from cell_lm.data.formats.stream import CellFile, open_cells
from cell_lm.data.loading.sampler import EpochSampler, split
from cell_lm.data.obs.columns import find_column, obs_column
from cell_lm.data.obs.malignancy import NORMAL, TUMOUR, UNKNOWN, Malignancy, MalignancyColumn
from cell_lm.data.read_options import ReadKeywords, ReadOptions
from cell_lm.data.scale.check import Scale, ScaleReport, check_scale
from cell_lm.data.store import Shard, Store

if TYPE_CHECKING:
    from cell_lm.data.loading.batch import CellBatch, concatenate
    from cell_lm.data.loading.concat import ConcatCells
    from cell_lm.data.loading.tokeniser import Tokeniser

__all__ = [
    "NORMAL",
    "TUMOUR",
    "UNKNOWN",
    "CellBatch",
    "CellData",
    "CellFile",
    "ConcatCells",
    "EpochSampler",
    "Malignancy",
    "MalignancyColumn",
    "ReadKeywords",
    "ReadOptions",
    "SampleSheet",
    "Scale",
    "ScaleReport",
    "Shard",
    "Store",
    "Tokeniser",
    "check_scale",
    "concatenate",
    "find_column",
    "from_anndata",
    "obs_column",
    "open_cells",
    "read_anndata",
    "read_cells",
    "read_h5ad",
    "split",
]

_HOMES = {
    "CellBatch": "cell_lm.data.loading.batch",
    "ConcatCells": "cell_lm.data.loading.concat",
    "Tokeniser": "cell_lm.data.loading.tokeniser",
    "concatenate": "cell_lm.data.loading.batch",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cell_lm.data' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
