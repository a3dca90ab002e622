"""Join many files into one store (:func:`prepare`), and look for cells in a store (:func:`find_cells`).

The steps for a file: :mod:`~cell_lm.prepare.columns` and :mod:`~cell_lm.prepare.plan` decide how it is read,
:mod:`~cell_lm.prepare.part` reads it (:mod:`~cell_lm.prepare.quality` in one compiled pass per block),
:mod:`~cell_lm.prepare.join` joins all parts (:mod:`~cell_lm.prepare.duplicates` finds repeated cells), and
:mod:`~cell_lm.prepare.finish` writes the manifest. :mod:`~cell_lm.prepare.run` calls them in order.
"""

from cell_lm.prepare.columns import Columns, read_columns
from cell_lm.prepare.contains import Contained, find_cells
from cell_lm.prepare.plan import PrepareSettings
from cell_lm.prepare.run import Prepared, prepare

__all__ = ["Columns", "Contained", "PrepareSettings", "Prepared", "find_cells", "prepare", "read_columns"]
