"""Data: from a user's file to batches of tokens.

In the order of processing: :mod:`~cell_lm.data.formats` (and :mod:`~cell_lm.data.downloads`) read files;
:mod:`~cell_lm.data.scale` checks the scale of the matrix; :mod:`~cell_lm.data.obs` reads columns;
:mod:`~cell_lm.data.cells` aligns genes to the vocabulary; :mod:`~cell_lm.data.store` stores many cells on disk, and
:mod:`~cell_lm.data.backed` reads them from h5ad; :mod:`~cell_lm.data.loading` makes batches of tokens.
"""

from cell_lm.data.cells import CellData, from_anndata, read_cells
from cell_lm.data.formats.readers import read_anndata, read_h5ad
from cell_lm.data.formats.sample_sheet import SampleSheet
from cell_lm.data.formats.stream import CellFile, open_cells
from cell_lm.data.loading.batch import CellBatch, concatenate
from cell_lm.data.loading.concat import ConcatCells
from cell_lm.data.loading.sampler import EpochSampler, split
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.data.obs.columns import find_column, obs_column
from cell_lm.data.obs.malignancy import NORMAL, TUMOUR, UNKNOWN, Malignancy, MalignancyColumn
from cell_lm.data.read_options import ReadKeywords, ReadOptions
from cell_lm.data.scale.check import Scale, ScaleReport, check_scale
from cell_lm.data.store import Shard, Store

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
