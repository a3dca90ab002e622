"""The table of calls: label, confidence, novelty and label set of each cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data.view import BLOCK, CellView
from cell_lm.errors import ConfigError
from cell_lm.tasks.annotation.label_sets import COVERAGE
from cell_lm.tasks.annotation.unknown import UNKNOWN, UnknownRule

if TYPE_CHECKING:
    from cell_lm.tasks.annotation.classifier import CellTypeClassifier


def rate_of(classifier: CellTypeClassifier, asked: float | None) -> float:
    """Return the rate at which cells are called unknown, 0 for never.

    None asks for that of the fit, where whole donors were left out to calibrate it; where none were, how many cells of
    a new donor would be called unknown is not known, and none are.

    Raises
    ------
    ConfigError
        The classifier has no novelty, or the rate is not from 0 to below 1.
    """
    rule = rule_of(classifier)
    if asked is None:
        return 0.0 if rule is None or classifier.reference_.groups is None else rule.rate
    if not 0 <= asked < 1:
        raise ConfigError(
            f"the rate of unknown cells is {asked!r}", fix="Choose one from 0 (never) to below 1, as 0.05"
        )
    if asked and rule is None:
        found = "the classifier has no novelty: no cell could be left out, or it was fitted with unknown=None"
        raise ConfigError(
            found, where="unknown types", fix="Fit it on several cells of each type, or ask for a rate of 0"
        )
    return asked


def rule_of(classifier: CellTypeClassifier) -> UnknownRule | None:
    """Return the rule of novelty of a classifier, if it has one."""
    return None if classifier.evidence_ is None else classifier.evidence_.unknown


def novelty_of(
    classifier: CellTypeClassifier, cells: CellView, probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the novelty of each cell, float64 [cells], 0 to 1."""
    rule = rule_of(classifier)
    assert rule is not None
    found = np.empty(len(cells))
    for start in range(0, len(cells), BLOCK):
        here = slice(start, start + BLOCK)
        found[here] = rule.novelty(classifier.embed(cells[here]), probabilities[here], cells[here].X)
    return found


def call_table(
    classifier: CellTypeClassifier, cells: CellView, probabilities: NDArray[np.float64], *, unknown: float | None
) -> pd.DataFrame:
    """Return the calls of cells; see :meth:`CellTypeClassifier.table`."""
    rate, codes = rate_of(classifier, unknown), probabilities.argmax(axis=1)
    names = list(classifier.classes_)
    columns: dict[str, object] = {"confidence": probabilities.max(axis=1)}
    if rule_of(classifier) is not None:
        novelty = novelty_of(classifier, cells, probabilities)
        columns["novelty"] = novelty
        if rate:
            names = names if UNKNOWN in names else [*names, UNKNOWN]
            codes = np.where(novelty > 1 - rate, names.index(UNKNOWN), codes)
    if classifier.evidence_ is not None:
        sets, sizes = classifier.evidence_.label_sets.text(probabilities, classifier.classes_, COVERAGE)
        columns |= {"label_set": sets, "set_size": sizes}
    labels = pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype=object))
    return pd.DataFrame({"label": labels, **columns}, index=cells.index)
