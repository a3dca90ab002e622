"""Columns of ``obs`` with labels and groups, read as text."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data.obs.columns import as_text, obs_column
from cell_lm.errors import InputError

MISSING = frozenset({"", "nan", "NaN", "None", "NaT", "<NA>"})
"""Text that means no label: a missing value converted to text, and blanks."""


class LabelWarning(UserWarning):
    """Labels that were changed, dropped, or are perhaps not meant as labels."""


class SharedTypesWarning(LabelWarning):
    """The true labels and those of a classifier have no name in common."""


class Labels(NamedTuple):
    """One column of labels.

    Attributes
    ----------
    text : ndarray
        str objects [cells]; ``""`` if there is none.
    known : ndarray
        bool [cells]: whether there is one.
    """

    text: NDArray[np.object_]
    known: NDArray[np.bool_]


def say(found: str, *, where: str, fix: str = "", kind: type[LabelWarning] = LabelWarning) -> None:
    """Issue a :class:`LabelWarning` in the form of the errors: where, what was found, what to do."""
    warnings.warn(f"{where}: {found}{'. ' if fix else ''}{fix}", kind, stacklevel=3)


def read_labels(obs: pd.DataFrame, column: str, *, where: str, classes: int = 1) -> Labels:
    """Read a column of labels of any kind: text, categories, integers (also 1.0 for 1), booleans.

    Blanks before and after a label are removed.

    Parameters
    ----------
    obs
        One row per cell.
    column
        Its name.
    where
        The file, for messages.
    classes
        Fewest different labels that it must hold.

    Raises
    ------
    InputError
        There is no such column (close names are suggested), no cell has a label, there are too few different labels, or
        it holds floating-point numbers.

    Warns
    -----
    LabelWarning
        Labels had blanks around them.
    """
    series = obs_column(obs, column, where=where)
    _refuse_fractions(series, column, where)
    raw = np.array(["" if missing else as_text(x) for x, missing in zip(series, series.isna(), strict=True)], object)
    text = np.array([value.strip() for value in raw], object)
    text[[value in MISSING for value in text]] = ""
    known = text != ""
    distinct = sorted(set(text[known]))
    if not distinct:
        found = f"obs column '{column}' holds no label: all {len(text):,} are blank"
        raise InputError(found, where=where, fix="Choose a column that holds labels")
    if len(distinct) < classes:
        raise too_few(distinct, int(known.sum()), column, classes, where)
    padded = known & (raw != text)
    if padded.any():
        first = raw[padded][0]
        say(
            f"blanks around {padded.sum():,} labels of obs column '{column}' were removed, as in {first!r}", where=where
        )
    return Labels(text, np.asarray(known, bool))


def too_few(distinct: list[str], cells: int, column: str, classes: int, where: str) -> InputError:
    """Return the error for a column with fewer different labels than are needed."""
    held = f"one label only, '{distinct[0]}'" if len(distinct) == 1 else f"{len(distinct)} different labels"
    found = f"obs column '{column}' holds {held} ({cells:,} cells)"
    return InputError(found, where=where, fix=f"At least {classes} different labels are needed")


def _refuse_fractions(series: pd.Series[Any], column: str, where: str) -> None:
    """Refuse numbers such as scores; 1.0 in a column with missing values is the integer 1."""
    values = series.cat.categories if isinstance(series.dtype, pd.CategoricalDtype) else series
    if not pd.api.types.is_float_dtype(values.dtype):
        return
    numbers = np.asarray(values.dropna(), np.float64)
    broken = numbers[numbers != np.floor(numbers)]
    if len(broken):
        found = f"obs column '{column}' holds floating-point numbers, such as {broken[0]:g}, not labels"
        raise InputError(found, where=where, fix="Name a column of labels; cut numbers into named classes first")


def read_groups(obs: pd.DataFrame, column: str, known: NDArray[np.bool_], *, where: str) -> NDArray[np.object_]:
    """Read the donors (or samples) of the labelled cells, str objects [labelled cells]; all of them must have one.

    Raises
    ------
    InputError
        There is no such column, a labelled cell has no donor, or they all have the same one.
    """
    labels = read_labels(obs, column, where=where)
    without = int((known & ~labels.known).sum())
    if without:
        found = f"obs column '{column}' is blank for {without:,} of the {known.sum():,} labelled cells"
        raise InputError(found, where=where, fix="Fill it in, or leave groups= out")
    groups = labels.text[known]
    if len(set(groups)) < 2:
        found = f"obs column '{column}' holds one group only, '{groups[0]}' ({len(groups):,} labelled cells)"
        raise InputError(found, where=where, fix="Leave groups= out: then single cells are left out in turn")
    return groups
