"""Groups of cells to balance batches over: tumour and normal, or the values of a column."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data.loading.balance import BalancedSampler
from cell_lm.data.obs.malignancy import NORMAL, TUMOUR
from cell_lm.data.protocol import Dataset, Part, parts_of
from cell_lm.errors import InputError

MALIGNANCY = "malignancy"
"""Name that balances tumour and normal cells; any other name is that of a column."""
_SHOWN = 6


@dataclass(frozen=True)
class Groups:
    """The group of each cell.

    Attributes
    ----------
    names : tuple of str
        Names of the groups.
    numbers : ndarray
        int32 [cells]: index of the group in ``names``; -1: no group.
    """

    names: tuple[str, ...]
    numbers: NDArray[np.int32]

    def describe(self, column: str, sampler: BalancedSampler) -> str:
        """Return one line with the fraction of each group, and how often cells of the most repeated one occur."""
        shares = sampler.quotas / sampler.batch_size
        order = np.argsort(-shares[:-1], kind="stable")
        named = [f"{self.names[g]} {shares[g]:.1%}" for g in order[:_SHOWN]]
        more = f", {len(order) - _SHOWN} more" if len(order) > _SHOWN else ""
        loose = f", without a value {shares[-1]:.1%}" if shares[-1] else ""
        often = sampler.repetition
        most = int(np.argmax(often[:-1]))
        note = f"balanced over '{column}', {len(self.names)} groups: {', '.join(named)}{more}{loose} of every batch"
        return f"{note}; cells of {self.names[most]} come {often[most]:.1f} times as often as in a plain pass"


def read_groups(datasets: Sequence[Dataset], column: str, malignancy: NDArray[np.int8]) -> Groups:
    """Return the groups of the cells of all datasets, in their order.

    Parameters
    ----------
    datasets
        The cells of a dataset without the column have no group.
    column
        ``"malignancy"``, or a column of ``obs`` (of a store: of its cells).
    malignancy
        int8: malignancy of all cells.

    Raises
    ------
    InputError
        No dataset has the column, or it holds fewer than two values.
    """
    if column == MALIGNANCY:
        numbers = np.where(malignancy == TUMOUR, 1, np.where(malignancy == NORMAL, 0, -1)).astype(np.int32)
        names: tuple[str, ...] = ("normal", "tumour")
    else:
        numbers, names = _number([part for dataset in datasets for part in parts_of(dataset)], column)
    sizes = np.bincount(numbers[numbers >= 0], minlength=len(names))
    if np.count_nonzero(sizes) < 2:
        found = f"there is nothing to balance: '{column}' holds {np.count_nonzero(sizes)} group(s) over all cells"
        raise InputError(found, fix="Name another column (data.balance), or leave it out")
    return Groups(names, numbers)


def _number(parts: Sequence[Part], column: str) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Encode the values of a column as integers, in alphabetical order; part by part, to save memory."""
    if not any(column in part.columns for part in parts):
        _refuse_absent(parts, column)
    index: dict[str, int] = {}
    numbered = []
    for part in parts:
        if column not in part.columns:
            numbered.append(np.full(len(part), -1, np.int32))
            continue
        codes, values = pd.factorize(part.column(column))
        codes_of = [index.setdefault(str(value), len(index)) for value in values]
        numbered.append(np.array([*codes_of, -1], np.int32)[codes])  # code -1, a missing value, is the last
    names = sorted(index)
    rank = np.array([*(names.index(name) for name in index), -1], np.int32)
    return rank[np.concatenate(numbered)], tuple(names)


def _refuse_absent(parts: Sequence[Part], column: str) -> NoReturn:
    known = sorted({MALIGNANCY, *(name for part in parts for name in part.columns)})
    close = difflib.get_close_matches(column, known, n=2)
    hint = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
    raise InputError(f"no data have a column '{column}' to balance by", fix=f"{hint}There are: {', '.join(known[:30])}")
