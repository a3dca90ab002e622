"""The table of calls, and checks that classifier and pretrained head share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.errors import ConfigError

CALLS = ("normal", "tumour")
"""The two calls, in the order of their codes."""


def check_fraction(name: str, value: float, least: float, where: str) -> None:
    """Raise :class:`ConfigError` unless a parameter is from ``least`` to below 1."""
    if not least <= value < 1:
        raise ConfigError(f"{name} is {value}", where=where, fix=f"Give a fraction from {least:g} to below 1")


def call_table(
    probability: NDArray[np.float64],
    distance: NDArray[np.float64] | None,
    unlike: NDArray[np.bool_] | None,
    *,
    certainty: float,
    index: pd.Index[Any],
) -> pd.DataFrame:
    """Return probability, call and doubt of each cell.

    Parameters
    ----------
    probability
        Of being a tumour cell [cells].
    distance, unlike
        Distance from the cells of the fit, and whether it is above the threshold [cells]; None: not known.
    certainty
        Least probability of a call that is not uncertain.
    index
        Names of the cells.
    """
    tumour = probability > 0.5
    doubt = np.where(tumour, probability, 1 - probability) < certainty
    columns: dict[str, Any] = {
        "probability": probability,
        "call": pd.Categorical.from_codes(tumour.astype(np.int8), categories=pd.Index(CALLS, dtype=object)),
        "uncertain": doubt if unlike is None else doubt | unlike,
    }
    if unlike is not None:
        columns |= {"unlike": unlike, "distance": distance}
    return pd.DataFrame(columns, index=index)
