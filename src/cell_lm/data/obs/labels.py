"""Columns of ``obs`` with labels and groups, read as text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data.obs.columns import as_text, obs_column
from cell_lm.errors import InputError

MISSING = frozenset({"", "nan", "NaN", "None", "NaT", "<NA>"})
"""Text that means no label: a missing value converted to text, and blanks."""


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


def read_labels(obs: pd.DataFrame, column: str, *, where: str, classes: int = 1) -> Labels:
    """Read a column of labels of any kind: text, categories, integers (also 1.0 for 1), booleans.

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
        There is no such column (close names are suggested), no cell has a label, or there are too few different labels.
    """
    series = obs_column(obs, column, where=where)
    text = np.array(["" if missing else as_text(x) for x, missing in zip(series, series.isna(), strict=True)], object)
    text[[value.strip() in MISSING for value in text]] = ""
    known = text != ""
    distinct = sorted(set(text[known]))
    if not distinct:
        found = f"obs column '{column}' holds no label: all {len(text):,} are blank"
        raise InputError(found, where=where, fix="Choose a column that holds labels")
    if len(distinct) < classes:
        found = f"obs column '{column}' holds one label only, '{distinct[0]}' ({known.sum():,} cells)"
        raise InputError(found, where=where, fix=f"At least {classes} different labels are needed")
    return Labels(text, np.asarray(known, bool))


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
