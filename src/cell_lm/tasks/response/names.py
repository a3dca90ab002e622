"""Names of lines and drugs: matched, and refused with close ones where they do not match."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data.obs.columns import find_column
from cell_lm.data.view import CellView
from cell_lm.errors import InputError


def line_rows(
    cells: CellView, column: str | None, wanted: Iterable[object] | None, *, where: str
) -> tuple[NDArray[np.int64], list[str]]:
    """Return rows of the data and the names of their lines, sorted by name if some are wanted.

    Parameters
    ----------
    cells
        The data.
    column
        Column of ``obs`` with the names; None: ``obs_names``.
    wanted
        Names to choose; None: all lines, in their order. Rows without a name are left out.
    where
        The data, for messages.

    Raises
    ------
    InputError
        There is no such column, or two rows have the same (wanted) name.
    """
    names = cells.index if column is None else find_column(cells.obs([column]), column, axis="obs", where=where)
    series = pd.Series(
        np.arange(len(cells)), index=pd.Index(names).map(lambda name: None if pd.isna(name) else str(name))
    )
    series = series[series.index.notna()]
    if wanted is not None:
        series = series[series.index.isin([str(name) for name in wanted])].sort_index()
    repeated = series.index[series.index.duplicated()]
    if len(repeated):
        found = f"{len(set(repeated)):,} lines have more than one row of expression, as '{repeated[0]}'"
        raise InputError(found, where=where, fix="Keep one row per line, or average them")
    return series.to_numpy(np.int64), [str(name) for name in series.index]


def refuse_unknown_drugs(wanted: Sequence[object], known: NDArray[np.object_], *, where: str = "drugs") -> None:
    """Refuse drugs that are none of the fit; close names are suggested."""
    there = set(map(str, known))
    strange = [str(drug) for drug in wanted if str(drug) not in there]
    if not strange:
        return
    folded = {name.casefold(): name for name in there}
    close = [folded[match] for match in difflib.get_close_matches(strange[0].casefold(), folded, n=3, cutoff=0.5)]
    hint = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
    found = f"{len(strange):,} of {len(wanted):,} drugs are none of the {len(there):,} of the fit, as '{strange[0]}'"
    raise InputError(
        found, where=where, fix=f"{hint}Give the SMILES of a new drug by new_drugs= (--new-drug NAME=SMILES)"
    )
