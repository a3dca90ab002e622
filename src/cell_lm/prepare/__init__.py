"""From many files to one store: :func:`prepare`; and whether cells are in one: :func:`find_cells`.

The journey of a file: :mod:`~cell_lm.prepare.columns` and :mod:`~cell_lm.prepare.plan` say how it is read,
:mod:`~cell_lm.prepare.part` reads it (:mod:`~cell_lm.prepare.quality` in one compiled pass a block),
:mod:`~cell_lm.prepare.join` puts all parts together (:mod:`~cell_lm.prepare.duplicates` finds what is there twice), and
:mod:`~cell_lm.prepare.finish` writes the manifest. :mod:`~cell_lm.prepare.run` is the way through.
"""

from cell_lm.prepare.columns import Columns, read_columns
from cell_lm.prepare.contains import Contained, find_cells
from cell_lm.prepare.plan import PrepareSettings
from cell_lm.prepare.run import Prepared, prepare

__all__ = ["Columns", "Contained", "PrepareSettings", "Prepared", "find_cells", "prepare", "read_columns"]
