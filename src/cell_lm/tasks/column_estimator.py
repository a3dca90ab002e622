"""Estimators that learn a column of ``obs``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Self, TypeAlias, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data.obs.columns import refuse_no_name
from cell_lm.data.obs.labels import read_groups
from cell_lm.data.opening import Data, Opened
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.data.view import CellView
from cell_lm.tasks.estimator import Estimator, Progress
from cell_lm.tasks.reference import Reference
from cell_lm.terminal import refuse_uncallable


class Target(NamedTuple):
    """Values to learn: one per cell, and which are known, bool [cells]."""

    values: NDArray[Any]
    known: NDArray[np.bool_]


Learn: TypeAlias = Callable[[CellView, Target, "NDArray[np.object_] | None"], None]
"""Learns from all cells of a fit, given which have a value, and the donors of those that have one."""


class ColumnEstimator(Estimator):
    """Learns a column of ``obs`` from cells."""

    @abstractmethod
    def _read_target(self, obs: pd.DataFrame, label: str, *, where: str, training: bool) -> Target:
        """Read a column; :class:`InputError` if it cannot be used to fit (or to evaluate)."""

    @abstractmethod
    def _learn(self, cells: CellView, values: NDArray[Any], groups: NDArray[np.object_] | None, run: Progress) -> None:
        """Learn from cells that all have a value; attributes are set last, so that a failed fit changes nothing."""

    def fit(
        self,
        data: Data,
        label: str,
        *,
        groups: str | None = None,
        progress: Progress = None,
        **how: Unpack[ReadKeywords],
    ) -> Self:
        """Learn from labelled cells.

        Parameters
        ----------
        data
            The reference.
        label
            Column of ``obs`` to learn. Cells without a value are left out.
        groups
            Column of ``obs`` with the donors or samples. Give it if there is one: hyperparameters are then tuned by
            leaving out whole donors, since the cells to predict will come from other donors.
        progress
            Called with the number of cells completed since the last call.
        **how
            How the cells are read: ``layer``, ``scale``, ``gene_column``, ``min_overlap``, ``min_genes``, or ``read=``
            with a :class:`cell_lm.data.ReadOptions`.

        Raises
        ------
        InputError
            No such column, no value at all, a single label; a labelled cell without donor, or a single donor; or the
            cells cannot be read.
        """
        refuse_uncallable(progress)
        return self._fit(data, label, groups, how, partial(self._learn_known, run=progress))

    def _learn_known(
        self, cells: CellView, target: Target, groups: NDArray[np.object_] | None, *, run: Progress
    ) -> None:
        """Learn from the cells that have a value; ``groups`` are theirs."""
        self._learn(cells[target.known], target.values[target.known], groups, run)

    def _fit(self, data: Data, label: str, groups: str | None, how: ReadKeywords, learn: Learn) -> Self:
        """Read and check cells, ``learn`` from all of them, and record them."""
        opened = Opened(data, read_options(**how))
        self._columns(opened.obs(_named(label, groups)), label, groups, opened.name)  # before the slow steps
        cells = self._usable(opened.cells(self.vocabulary))
        target, donors = self._columns(cells.obs(_named(label, groups)), label, groups, cells.name)
        self._refuse_other_vocabulary(cells, self.vocabulary)
        learn(cells, target, donors)
        self.reference_ = Reference(
            name=cells.name,
            label=label,
            groups=groups,
            cells=int(target.known.sum()),
            unlabelled=int((~target.known).sum()),
            genes=cells.genes,
            vocabulary=cells.vocabulary.hash,
        )
        return self

    def _columns(
        self, obs: pd.DataFrame, label: str, groups: str | None, where: str
    ) -> tuple[Target, NDArray[np.object_] | None]:
        target = self._read_target(obs, label, where=where, training=True)
        return target, None if groups is None else read_groups(obs, groups, target.known, where=where)


def _named(*columns: str | None) -> list[str]:
    named = [column for column in columns if column is not None]
    for column in named:
        refuse_no_name(column, axis="obs", where="label or groups")
    return named
