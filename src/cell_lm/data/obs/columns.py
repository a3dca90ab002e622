"""Columns of ``obs`` and ``var``, by name; the error for a missing one lists the existing ones."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np
import pandas as pd

from cell_lm.errors import InputError

_LISTED = 30


def refuse_no_name(name: object, *, axis: str, where: str) -> None:
    """Raise :class:`InputError` for a column that was asked for by something else than its name, such as its values."""
    if isinstance(name, str):
        return
    own = name.name if isinstance(name, pd.Series) else None
    fix = f"Give its name, '{own}'" if isinstance(own, str) else "Give its name as a text"
    raise InputError(f"a column of {axis} was asked for by a {type(name).__name__}", where=where, fix=fix)


def find_column(frame: pd.DataFrame, name: str, *, axis: str, where: str) -> pd.Series[Any]:
    """Return a column of ``obs`` or ``var`` (``axis`` names it in messages).

    Raises
    ------
    InputError
        There is no column of that name, or more than one; or ``name`` is no text.
    """
    refuse_no_name(name, axis=axis, where=where)
    columns = [str(column) for column in frame.columns]
    if columns.count(name) == 1:
        return frame.iloc[:, columns.index(name)]
    if name in columns:
        found = f"{columns.count(name)} columns of {axis} are called '{name}'"
        raise InputError(found, where=where, fix="Rename all but one")
    folded = {column.casefold(): column for column in columns}
    close = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=2)]
    hint = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
    listed = ", ".join(columns[:_LISTED]) + (", …" if len(columns) > _LISTED else "")
    raise InputError(f"{axis} has no column '{name}'", where=where, fix=f"{hint}It has: {listed or 'no columns'}")


def obs_column(obs: pd.DataFrame, name: str, *, where: str, classes: int = 1) -> pd.Series[Any]:
    """Return a column of ``obs`` that holds labels.

    Parameters
    ----------
    obs
        One row per cell.
    name
        Name of the column.
    where
        The file, for messages.
    classes
        Fewest different labels it must hold.

    Returns
    -------
    Series
        The unchanged column; the caller handles single missing labels.

    Raises
    ------
    InputError
        There is no such column (close names are suggested), all of it is missing, or it holds too few different labels.
    """
    series = find_column(obs, name, axis="obs", where=where)
    labels = series.dropna().unique()
    if not len(labels):
        found = f"obs column '{name}' is missing (NaN) for all {len(obs):,} cells"
        raise InputError(found, where=where, fix="Choose a column that holds labels")
    if len(labels) < classes:
        found = f"obs column '{name}' holds one label only, '{labels[0]}' ({series.notna().sum():,} cells)"
        raise InputError(found, where=where, fix=f"At least {classes} different labels are needed")
    return series


def as_text(value: object) -> str:
    """Return a label as text: 1.0, an integer in a column with missing values, becomes 1."""
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)  # type: ignore[call-overload]
