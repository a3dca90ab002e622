"""What a classifier of cell types knows of its own doubt: cells of no known type, and label sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cell_lm.data.view import CellView
from cell_lm.evaluation.linear_head import LeftOut
from cell_lm.files import JSON
from cell_lm.tasks.annotation.label_sets import LabelSets, calibrate_label_sets
from cell_lm.tasks.annotation.unknown import UnknownRule, fit_unknown
from cell_lm.tasks.estimator import Arrays

LEAST = 20
"""Fewest left-out cells to calibrate on: a rate of .05 needs twenty to be told from 0."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Calibrated on the cells that were left out of the fit.

    Attributes
    ----------
    unknown : UnknownRule or None
        Novelty of cells; None where it was not asked for.
    label_sets : LabelSets
        Sets of labels with a stated coverage.
    """

    unknown: UnknownRule | None
    label_sets: LabelSets

    @classmethod
    def of(
        cls,
        left_out: LeftOut | None,
        codes: NDArray[np.int64],
        donors: NDArray[np.object_] | None,
        cells: CellView,
        embedding: NDArray[np.float32] | None,
        *,
        rate: float | None,
        seed: int,
    ) -> Self | None:
        """Calibrate; None where fewer than :data:`LEAST` cells were left out.

        Parameters
        ----------
        left_out
            Predictions for left-out cells.
        codes, donors
            Of each labelled cell; donors None where none are given.
        cells, embedding
            The labelled cells, and their CLS [cells, width].
        rate
            Fraction of cells of known types that may be called unknown; None: no novelty.
        seed
            Seed of the folds without donors.
        """
        if left_out is None or len(left_out.cells) < LEAST:
            return None
        p = np.full((len(codes), left_out.log_probabilities.shape[1]), np.nan)
        p[left_out.cells] = np.exp(left_out.log_probabilities)
        rule = None
        if rate is not None and embedding is not None:
            rule = fit_unknown(
                embedding, codes, p, donors=donors, counts=cells.X, measured=cells.genes, rate=rate, seed=seed
            )
        return cls(rule, calibrate_label_sets(p, codes))

    def values(self) -> dict[str, JSON]:
        """Return what is saved as JSON."""
        unknown = None if self.unknown is None else self.unknown.values()
        return {"label_sets": self.label_sets.to_json(), "unknown": unknown}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what is saved as arrays."""
        return {} if self.unknown is None else dict(self.unknown.arrays())

    @classmethod
    def read(cls, values: Mapping[str, Any], arrays: Arrays, classes: int, width: int, genes: int) -> Self:
        """Read what :meth:`values` and :meth:`arrays` returned; ValueError or KeyError if it is inconsistent."""
        unknown = values["unknown"]
        rule = None if unknown is None else UnknownRule.restore(unknown, arrays, classes, width, genes)
        return cls(rule, LabelSets.from_json(values["label_sets"]))
