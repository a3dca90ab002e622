"""The explorer: cells on a map, as one self-contained HTML page that is used with the mouse or the keyboard.

:mod:`~cell_lm.explorer.collect` takes what is shown from an AnnData (:mod:`~cell_lm.explorer.columns` the columns of
``obs``, :mod:`~cell_lm.explorer.expression` the genes); :mod:`~cell_lm.explorer.page` quantises it and writes the page.
"""

from cell_lm.explorer.collect import collect
from cell_lm.explorer.content import Category, Explorer, Gene, Number
from cell_lm.explorer.page import write_explorer

__all__ = ["Category", "Explorer", "Gene", "Number", "collect", "write_explorer"]
