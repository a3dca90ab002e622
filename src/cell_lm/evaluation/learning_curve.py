"""Few-shot curve: macro-F1 against the number of labelled cells of each type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import InputError
from cell_lm.evaluation.annotation_metrics import macro_f1
from cell_lm.evaluation.intervals import Interval, mean_interval
from cell_lm.evaluation.labels import Labels, as_labels
from cell_lm.evaluation.splits import few_shot

Rows: TypeAlias = NDArray[np.int64]
Predict: TypeAlias = Callable[[Rows, Rows, int], Labels]
"""Fits on the first rows, and returns the labels of the second ones; the number is the seed."""

PER_TYPE = (1, 2, 5, 10, 20, 50)
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class FewShotCurve:
    """Macro-F1 on all other cells by number of labelled cells.

    Attributes
    ----------
    per_type : tuple of int
        Labelled cells of each type; a type with fewer than twice as many uses half of its cells.
    scores : tuple of tuple of float
        Macro-F1 of each seed, for each of them.
    """

    per_type: tuple[int, ...]
    scores: tuple[tuple[float, ...], ...]

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """Mean over the seeds with its 95 % interval, within 0 and 1."""
        found = (mean_interval(np.array(each)) for each in self.scores)
        return tuple(replace(one, low=max(one.low, 0.0), high=min(one.high, 1.0)) for one in found)

    @property
    def by_number(self) -> dict[int, Interval]:
        """Interval by number of labelled cells."""
        return dict(zip(self.per_type, self.intervals, strict=True))


def few_shot_curve(
    predict: Predict, labels: Labels, *, per_type: Sequence[int] = PER_TYPE, seeds: Sequence[int] = SEEDS
) -> FewShotCurve:
    """Fit on few labelled cells of each type, score on all others.

    Parameters
    ----------
    predict
        Called with training rows, test rows and seed; returns the label of each test row.
    labels
        One label per cell.
    per_type
        Numbers of labelled cells; those above half of the cells of the largest type are left out.
    seeds
        Seeds of the draws.

    Raises
    ------
    InputError
        Labels are missing, or every type has a single cell.
    """
    names = as_labels(labels, where="labels")
    most = int(np.unique(names, return_counts=True)[1].max()) // 2
    wanted = tuple(number for number in sorted(set(per_type)) if number <= max(most, 1))
    if not wanted:
        found = f"the largest type has {2 * most:,} cells, too few for {min(per_type):,} labelled ones"
        raise InputError(found, where="few-shot curve", fix="Ask for fewer")
    scores = []
    for number in wanted:
        drawn = zip(few_shot(names, number, seeds), seeds, strict=True)
        scores.append(tuple(_score(predict, names, split.train, split.test, seed) for split, seed in drawn))
    return FewShotCurve(wanted, tuple(scores))


def _score(predict: Predict, names: NDArray[np.str_], train: Rows, test: Rows, seed: int) -> float:
    return macro_f1(names[test], predict(train, test, seed))
