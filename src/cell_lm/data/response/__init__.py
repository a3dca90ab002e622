"""Tables of drug response: which line was treated with which drug, and how it responded.

:func:`read_response` reads GDSC's and PRISM's own files, CSV, TSV, Excel and parquet; :func:`response_table` takes a
DataFrame. Both give a :class:`ResponseTable` with one row per pair of line and drug.
:mod:`~cell_lm.data.response.molecules` reads SMILES.
"""

from cell_lm.data.response.columns import ResponseColumns
from cell_lm.data.response.read import read_response, response_table
from cell_lm.data.response.table import ResponseTable
from cell_lm.data.response.units import Scale, Unit

__all__ = ["ResponseColumns", "ResponseTable", "Scale", "Unit", "read_response", "response_table"]
