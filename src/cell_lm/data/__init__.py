"""Data: from a user's file to batches of tokens.

The journey of a cell: :mod:`~cell_lm.data.readers` reads a file into memory, or :mod:`~cell_lm.data.stream` opens it to
be read block by block (:mod:`~cell_lm.data.formats` knows the formats, :mod:`~cell_lm.data.downloads` where public ones
are); :mod:`~cell_lm.data.source` chooses a matrix in it; :mod:`~cell_lm.data.counts` proves what it holds
(:mod:`~cell_lm.data.scales` knows what else it could be); :mod:`~cell_lm.data.state` reads tumour or normal;
:mod:`~cell_lm.data.cells` aligns it all to the vocabulary; :mod:`~cell_lm.data.pool` joins datasets,
:mod:`~cell_lm.data.sampler` says which cells come when, and :mod:`~cell_lm.data.tokeniser` makes them a
:mod:`~cell_lm.data.batch`.
"""

from cell_lm.data.batch import NORMAL, TUMOUR, UNKNOWN, CellBatch, concatenate
from cell_lm.data.cells import CellData, from_anndata, read_cells
from cell_lm.data.columns import find_column, obs_column
from cell_lm.data.counts import Scale, ScaleReport, check_scale
from cell_lm.data.pool import CellPool
from cell_lm.data.readers import read_anndata, read_h5ad
from cell_lm.data.sampler import EpochSampler, split
from cell_lm.data.samples import SampleSheet
from cell_lm.data.state import State, StateColumn
from cell_lm.data.store import Shard, Store
from cell_lm.data.stream import CellFile, open_cells
from cell_lm.data.tokeniser import Tokeniser

__all__ = [
    "NORMAL",
    "TUMOUR",
    "UNKNOWN",
    "CellBatch",
    "CellData",
    "CellFile",
    "CellPool",
    "EpochSampler",
    "SampleSheet",
    "Scale",
    "ScaleReport",
    "Shard",
    "State",
    "StateColumn",
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
