"""The calls of cells as a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def call_table(score: Floats, probability: Floats, call: Any, *, certainty: float, index: pd.Index) -> pd.DataFrame:
    """Return a row per cell.

    Parameters
    ----------
    score, probability
        Score, and probability of being sensitive [cells].
    call
        The more probable label of each cell.
    certainty
        A cell is flagged as uncertain if the probability of its call is lower.
    index
        Of the table.

    Returns
    -------
    DataFrame
        ``score``, ``probability``, ``call``, ``uncertain`` (bool).
    """
    columns = {
        "score": score,
        "probability": probability,
        "call": call,
        "uncertain": np.maximum(probability, 1 - probability) < certainty,
    }
    return pd.DataFrame(columns, index=index)
