"""The table of calls: label, confidence, novelty and label set of each cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data.view import BLOCK, CellView
from cell_lm.errors import ConfigError
from cell_lm.tasks.annotation.evidence import Evidence
from cell_lm.tasks.annotation.label_sets import COVERAGE
from cell_lm.tasks.annotation.unknown import UNKNOWN, UnknownRule


@dataclass(frozen=True, eq=False)
class Caller:
    """Makes the table of calls of a fitted classifier.

    Attributes
    ----------
    classes : ndarray
        str objects: the labels, in the order of the probabilities.
    evidence : Evidence or None
        Of the classifier.
    by_donor : bool
        Whether whole donors were left out to calibrate it.
    embed : callable
        Returns CLS of cells, float32 [cells, width].
    """

    classes: NDArray[np.object_]
    evidence: Evidence | None
    by_donor: bool
    embed: Callable[[CellView], NDArray[np.float32]]

    @property
    def rule(self) -> UnknownRule | None:
        """The rule of novelty, if there is one."""
        return None if self.evidence is None else self.evidence.unknown

    def rate(self, asked: float | None) -> float:
        """Return the rate at which cells are called unknown, 0 for never.

        None asks for that of the fit, where whole donors were left out to calibrate it; where none were, how many cells
        of a new donor would be called unknown is not known, and none are.

        Raises
        ------
        ConfigError
            The classifier has no novelty, or the rate is not from 0 to below 1.
        """
        if asked is None:
            return 0.0 if self.rule is None or not self.by_donor else self.rule.rate
        if not 0 <= asked < 1:
            fix = "Choose one from 0 (never) to below 1, as 0.05"
            raise ConfigError(f"the rate of unknown cells is {asked!r}", where="unknown types", fix=fix)
        if asked and self.rule is None:
            found = "the classifier has no novelty: too few cells could be left out of its fit, or none was asked for"
            fix = "Fit it on several cells of each type, or ask for a rate of 0"
            raise ConfigError(found, where="unknown types", fix=fix)
        return asked

    def table(self, cells: CellView, probabilities: NDArray[np.float64], unknown: float | None) -> pd.DataFrame:
        """Return the calls of cells; see :meth:`CellTypeClassifier.table`."""
        rate, codes, names = self.rate(unknown), probabilities.argmax(axis=1), list(self.classes)
        columns: dict[str, object] = {"confidence": probabilities.max(axis=1)}
        if self.rule is not None:
            novelty = self._novelty(self.rule, cells, probabilities)
            columns["novelty"] = novelty
            if rate:
                names = names if UNKNOWN in names else [*names, UNKNOWN]
                codes = np.where(novelty > 1 - rate, names.index(UNKNOWN), codes)
        if self.evidence is not None:
            sets, sizes = self.evidence.label_sets.text(probabilities, self.classes, COVERAGE)
            columns |= {"label_set": sets, "set_size": sizes}
        labels = pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype=object))
        return pd.DataFrame({"label": labels, **columns}, index=cells.index)

    def _novelty(self, rule: UnknownRule, cells: CellView, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.empty(len(cells))
        for start in range(0, len(cells), BLOCK):
            here = slice(start, start + BLOCK)
            found[here] = rule.novelty(self.embed(cells[here]), probabilities[here], cells[here].X)
        return found
