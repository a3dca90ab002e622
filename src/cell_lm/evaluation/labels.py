"""Labels of cells for the metrics: text, one per cell, none missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.errors import InputError

Labels: TypeAlias = "Sequence[object] | NDArray[np.generic] | pd.Series | pd.Categorical"


def as_labels(values: Labels, *, where: str) -> NDArray[np.str_]:
    """Return labels as strings, one per cell.

    Raises
    ------
    InputError
        There are no labels, labels are not a flat list, or some are missing (None, NaN).
    """
    array = np.asarray(values, dtype=object)
    if array.ndim != 1 or not len(array):
        found = f"expected one label a cell, found shape {array.shape}"
        raise InputError(found, where=where, fix="Pass a flat list of labels")
    missing = int(pd.isna(array).sum())
    if missing:
        found = f"{missing} of {len(array)} labels are missing"
        raise InputError(found, where=where, fix="Leave these cells out: a missing label cannot be scored")
    return array.astype(str)
