"""From matrices to tables of predictions, from SMILES to structures, and refusals of what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data.response.molecules import read_molecules
from cell_lm.data.response.table import ResponseTable
from cell_lm.data.view import CellView
from cell_lm.errors import InputError
from cell_lm.remedies import option
from cell_lm.tasks.response.core import LEAST_LINES, Predicted
from cell_lm.tasks.response.drugs import LEAST_DRUGS, Structures

MEASURED, WARM, GIVEN, LINE, DRUG, BOTH = (
    "measured",
    "known line",
    "line with measured drugs",
    "new line",
    "new drug",
    "both new",
)
"""What was known of a predicted pair."""


def structures_of(
    smiles: Mapping[str, str], drugs: list[Any], where: str, *, least: int = LEAST_DRUGS
) -> tuple[Structures | None, NDArray[np.bool_]]:
    """Return the structures of the drugs that have one, and which these are; none where there are too few."""
    known = np.array([drug in smiles for drug in drugs], np.bool_)
    if known.sum() < least:
        return None, known
    molecules = list(
        read_molecules({str(drug): smiles[drug] for drug in drugs if drug in smiles}, where=where).values()
    )
    return Structures.of(molecules), known


def long_table(names: list[str], drugs: list[str], predicted: Predicted, known: NDArray[Any]) -> pd.DataFrame:
    """Return a row per pair; a measured pair has no bounds."""
    measured = known == MEASURED
    half = np.where(measured, np.nan, predicted.half)
    return pd.DataFrame(
        {
            "line": np.repeat(np.array(names, object), len(drugs)),
            "drug": np.tile(np.array(drugs, object), len(names)),
            "response": predicted.mean.ravel(),
            "low": (predicted.mean - half).ravel(),
            "high": (predicted.mean + half).ravel(),
            "known": known.ravel().astype(object),
        }
    )


def refuse_few(found: int, asked: int, drugs: int, table: str, cells: CellView) -> None:
    """Say why there is too little to fit."""
    if drugs < 2:
        raise InputError("it has one drug only", where=table, fix="Give the responses to at least two drugs")
    names = ", ".join(repr(str(name)) for name in cells.index[:3])
    told = f"{found} of its {asked:,} lines have expression, fewer than {LEAST_LINES}"
    fix = f"Name the column of obs with the table's names by {option('line_column')}; obs_names are like {names}"
    raise InputError(told, where=table, fix=fix)


def refuse_other_unit(table: ResponseTable, unit: str, what: str) -> None:
    """Refuse responses in another unit than those of the fit."""
    if table.unit != unit:
        found = f"{what} are {table.unit}, those of the fit {unit}"
        raise InputError(found, where=table.name, fix="Give both in one unit")


def refuse_strangers(given: pd.DataFrame, names: list[str], where: str) -> None:
    """Refuse measured responses of lines that are not to be predicted."""
    strangers = [str(name) for name in given.index if name not in set(names)]
    if strangers:
        found = f"{len(strangers):,} of {len(given):,} lines with measured responses are not among the lines to predict"
        raise InputError(f"{found}, as '{strangers[0]}'", where=where, fix="Use the names that the expression data use")
