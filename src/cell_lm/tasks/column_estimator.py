"""Estimators that learn a column of ``obs``."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self, TypeAlias, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data.obs.cell_types import LabelRules
from cell_lm.data.obs.columns import refuse_no_name
from cell_lm.data.obs.labels import LabelWarning, read_groups
from cell_lm.data.opening import Data, Opened, genes_in
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.data.view import CellView
from cell_lm.errors import GeneError
from cell_lm.tasks.estimator import CoverageWarning, Estimator, Progress
from cell_lm.tasks.reference import Reference, mean_expression
from cell_lm.terminal import refuse_uncallable


class Target(NamedTuple):
    """Values to learn: one per cell, and which are known, bool [cells]."""

    values: NDArray[Any]
    known: NDArray[np.bool_]


FEWEST_SHARED = 10
"""Fewest genes of both the reference and the cells to predict that a fit on shared genes takes."""

Learn: TypeAlias = Callable[[CellView, Target, "NDArray[np.object_] | None"], None]
"""Learns from all cells of a fit, given which have a value, and the donors of those that have one."""


@dataclass(frozen=True)
class FitOptions:
    """Which labels and which genes a fit uses."""

    rules: LabelRules | None = None
    """How labels are read, by estimators that learn labels; None: this one does not."""
    genes_of: Data | Opened | None = None
    """Cells whose genes are the only ones that are learned from; None: all genes of the reference."""


class ColumnEstimator(Estimator):
    """Learns a column of ``obs`` from cells."""

    @abstractmethod
    def _read_target(
        self, obs: pd.DataFrame, label: str, *, where: str, training: bool, rules: LabelRules | None = None
    ) -> Target:
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

    def _fit(
        self,
        data: Data,
        label: str,
        groups: str | None,
        how: ReadKeywords,
        learn: Learn,
        options: FitOptions | None = None,
    ) -> Self:
        """Read and check cells, ``learn`` from all of them, and record them."""
        options = options or FitOptions()
        opened = Opened(data, read_options(**how))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LabelWarning)  # issued below, for the cells that are read
            self._columns(opened.obs(_named(label, groups)), label, groups, opened.name, options.rules)
        cells = self._usable(opened.cells(self.vocabulary))
        self._refuse_other_vocabulary(cells, self.vocabulary)
        if options.genes_of is not None:
            cells = self._cut_to_shared(cells, genes_in(options.genes_of, self.vocabulary, read_options(**how)))
        target, donors = self._columns(cells.obs(_named(label, groups)), label, groups, cells.name, options.rules)
        learn(cells, target, donors)
        self.reference_ = Reference(
            name=cells.name,
            label=label,
            groups=groups,
            cells=int(target.known.sum()),
            unlabelled=int((~target.known).sum()),
            genes=cells.genes,
            vocabulary=cells.vocabulary.hash,
            cut=options.genes_of is not None,
            expression=mean_expression(cells[target.known]),
        )
        return self

    def _cut_to_shared(self, cells: CellView, genes: NDArray[np.int64]) -> CellView:
        """Return the cells cut to these genes, without those that express none of them."""
        cut = cells.cut(genes)
        if len(cut.genes) < FEWEST_SHARED:
            found = f"it shares {len(cut.genes):,} of its {len(cells.genes):,} genes with the cells to predict"
            fix = f"At least {FEWEST_SHARED} are needed: give a reference with the genes of the panel"
            raise GeneError(found, where=cells.name, fix=fix)
        rows = cut.expressing()
        if not rows.all():
            found = f"{(~rows).sum():,} of {len(rows):,} cells express none of the {len(cut.genes):,} shared genes"
            warnings.warn(f"{cells.name}: {found} and were left out", CoverageWarning, stacklevel=5)
            cut = cut[rows]
        return cut

    def _columns(
        self, obs: pd.DataFrame, label: str, groups: str | None, where: str, rules: LabelRules | None
    ) -> tuple[Target, NDArray[np.object_] | None]:
        given = {} if rules is None else {"rules": rules}
        target = self._read_target(obs, label, where=where, training=True, **given)
        return target, None if groups is None else read_groups(obs, groups, target.known, where=where)


def _named(*columns: str | None) -> list[str]:
    named = [column for column in columns if column is not None]
    for column in named:
        refuse_no_name(column, axis="obs", where="label or groups")
    return named
