"""Scores of interactions, brought to 0 … 1: those of 0 … 1 as they are, STRING's of 0 … 1000 by a thousandth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import InputError
from cell_lm.genes.interactions.options import FULL_SCORE, NO_SCORES, SCORE
from cell_lm.genes.interactions.text import Rows

_STRING = 1000
_NO_STRING = 100
"""Whole numbers up to here may be percent; STRING has no score under 150."""
_ANOTHER = f"Name another with {SCORE}, or say {NO_SCORES}"


def read_scores(rows: Rows, column: str, where: str, *, full_score: float | None) -> NDArray[np.float32]:
    """Return the scores of a column, 0 to 1, float32 [rows].

    Parameters
    ----------
    rows, column, where
        The table, the name of the column, and of the file.
    full_score
        What 1 is in the file; default: 1 where no score is larger, 1000 where all are whole numbers, some over 100.

    Raises
    ------
    InputError
        Scores are missing, no numbers, negative, or of no known scale. It says how many, and where the first is.
    """
    values = _numbers(rows, column, where)
    _refuse(~np.isfinite(values), "missing or no finite numbers", rows, column, where)
    _refuse(values < 0, "negative", rows, column, where)
    scale = full_score if full_score is not None else _find_scale(values, column, where)
    if not scale > 0:
        fix = f"Name the score of a sure interaction, over 0, by {FULL_SCORE}"
        raise InputError(f"full_score is {scale:g}", where=where, fix=fix)
    _refuse(values > scale, f"over full_score ({scale:g})", rows, column, where)
    return (values / scale).astype(np.float32)


def _numbers(rows: Rows, column: str, where: str) -> NDArray[np.float64]:
    """Return a column as numbers, NaN where it is missing."""
    import pandas as pd

    values = rows.columns[column].to_pandas()
    if values.dtype == bool or str(values.dtype).startswith(("datetime", "timedelta")):
        found = f"the column '{column}' holds {values.dtype}, no scores"
        raise InputError(found, where=where, fix=_ANOTHER)
    numbers = pd.to_numeric(values, errors="coerce")
    text = numbers.isna().to_numpy(bool) & values.notna().to_numpy(bool)
    text[text] = ~values[text].astype(str).str.strip().str.lower().isin(["", "na", "nan", "null", "none"]).to_numpy(
        bool
    )
    if text.any():
        first = int(np.flatnonzero(text)[0])
        found = f"{int(text.sum()):,} of {len(values):,} scores in '{column}' are no numbers"
        example = f"(the first: '{str(values.iloc[first])[:40]}', {rows.place(first)})"
        raise InputError(f"{found} {example}", where=where, fix=_ANOTHER)
    return np.asarray(numbers.to_numpy(np.float64, na_value=np.nan))


def _find_scale(values: NDArray[np.float64], column: str, where: str) -> float:
    most = float(values.max(initial=0))
    if most <= 1:
        return 1
    if _NO_STRING < most <= _STRING and bool(np.all(values == np.round(values))):
        return _STRING
    found = f"the scores in '{column}' reach {most:g}: neither 0 … 1 nor STRING's 0 … 1000"
    raise InputError(found, where=where, fix=f"Say what a sure interaction has: {FULL_SCORE}, or say {NO_SCORES}")


def _refuse(wrong: NDArray[np.bool_], what: str, rows: Rows, column: str, where: str) -> None:
    if wrong.any():
        first = rows.place(int(np.flatnonzero(wrong)[0]))
        found = f"{int(wrong.sum()):,} of {len(wrong):,} scores in '{column}' are {what} (the first: {first})"
        fix = f"Leave these edges out, or say {NO_SCORES} to weigh all edges alike"
        raise InputError(found, where=where, fix=fix)
