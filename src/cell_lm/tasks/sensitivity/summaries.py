"""From single cells to clusters and samples: how many of their cells are sensitive."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from cell_lm.errors import InputError

NO_GROUP = ""


def summarise(
    groups: Sequence[object] | pd.Series, probability: ArrayLike, uncertain: ArrayLike | None = None
) -> pd.DataFrame:
    """Summarise the cells of each group.

    Parameters
    ----------
    groups
        Cluster or sample of each cell; cells without one are left out.
    probability
        Probability of being sensitive [cells].
    uncertain
        Whether the call of a cell is uncertain [cells]; None: not known.

    Returns
    -------
    DataFrame
        One row per group, the most sensitive first: ``group``, ``cells``, ``sensitive`` (cells called so),
        ``fraction`` (of its cells), ``low`` and ``high`` (95 % interval of the fraction over the sampling of cells,
        Wilson 1927; the errors of the calls are not in it), ``expected`` (mean probability), ``uncertain`` (fraction).

    Raises
    ------
    InputError
        Lengths differ, or no cell has a group.
    """
    names = pd.Series(np.asarray(groups, object))
    p = np.asarray(probability, np.float64)
    doubt = np.zeros(len(p)) if uncertain is None else np.asarray(uncertain, np.float64)
    if not len(names) == len(p) == len(doubt):
        found = f"{len(names):,} groups for {len(p):,} probabilities"
        raise InputError(found, where="summary", fix="Pass one of each per cell")
    known = (names.notna() & (names.astype(str) != NO_GROUP)).to_numpy()
    if not known.any():
        raise InputError("no cell has a group", where="summary", fix="Choose a column of clusters or samples")
    frame = pd.DataFrame({"group": names.astype(str), "called": p >= 0.5, "p": p, "doubt": doubt})[known]
    table = frame.groupby("group", sort=True).agg(
        cells=("p", "size"),
        sensitive=("called", "sum"),
        fraction=("called", "mean"),
        expected=("p", "mean"),
        uncertain=("doubt", "mean"),
    )
    counts = zip(table["sensitive"], table["cells"], strict=True)
    bounds = [binomtest(int(called), int(cells)).proportion_ci(method="wilson") for called, cells in counts]
    table.insert(3, "low", [float(each.low) for each in bounds])
    table.insert(4, "high", [float(each.high) for each in bounds])
    return table.sort_values("expected", ascending=False, kind="stable").reset_index()
