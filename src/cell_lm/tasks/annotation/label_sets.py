"""Conformal label sets: the labels of a cell that cannot be excluded, with a stated coverage.

Split conformal prediction with the least ambiguous sets (Sadinle, Lei & Wasserman 2019, JASA 114:223, "LAC"): the score
of a cell is 1 - the probability of its true label; the threshold is the ceil((n + 1) coverage)-th smallest score of n
left-out cells; a set holds every label whose score is at most the threshold. If the cells to annotate are exchangeable
with the left-out ones, the true label is in the set with the stated probability, whatever the classifier. The sets are
those of ``mapie.classification.SplitConformalClassifier`` with ``conformity_score="lac"`` (tested); here they follow
from a few plain values, which are saved with the classifier.

A set may be *empty*: where a classifier is right more often than the stated coverage, only sets that leave out the
least confident cells have that coverage. An empty set means that no label is as probable as it usually is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cell_lm.errors import ConfigError, InputError
from cell_lm.files import JSON

Floats = NDArray[np.float64]

COVERAGE = 0.9
COVERAGES = (0.8, 0.9, 0.95, 0.99)
"""Coverages that are calibrated, and saved."""
SEPARATOR = "|"
"""Between the labels of a set as text."""
_ROUNDING = 1e-12


@dataclass(frozen=True)
class LabelSets:
    """Rule that turns probabilities into label sets.

    Attributes
    ----------
    least : tuple of float
        Smallest probability of a label in a set, for each of :data:`COVERAGES`.
    cells : int
        Number of left-out cells it was calibrated on.
    """

    least: tuple[float, ...]
    cells: int

    def least_probability(self, coverage: float = COVERAGE) -> float:
        """Return the smallest probability of a label in a set.

        Raises
        ------
        ConfigError
            The coverage is not one of :data:`COVERAGES`.
        """
        for each, least in zip(COVERAGES, self.least, strict=True):
            if abs(each - coverage) < _ROUNDING:
                return least
        known = ", ".join(f"{each:g}" for each in COVERAGES)
        raise ConfigError(f"a coverage of {coverage!r} is not calibrated", fix=f"Choose one of {known}")

    def contains(
        self, probabilities: ArrayLike, coverage: float = COVERAGE, *, empty: bool = True
    ) -> NDArray[np.bool_]:
        """Return which labels are in the set of each cell, bool [cells, classes].

        Parameters
        ----------
        probabilities
            [cells, classes].
        coverage
            Probability that the true label is in the set, one of :data:`COVERAGES`.
        empty
            Whether sets may be empty. False adds the most probable label to empty ones: the coverage is then that of
            the classifier's own labels where these are more often right.
        """
        p = np.asarray(probabilities, np.float64)
        inside = p >= self.least_probability(coverage) - _ROUNDING
        if not empty:
            inside[np.arange(len(p)), p.argmax(axis=1)] = True
        return inside

    def text(
        self, probabilities: ArrayLike, classes: Sequence[str] | NDArray[Any], coverage: float = COVERAGE, **how: bool
    ) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
        """Return the sets as text, labels joined by ``|``, the most probable first, and their sizes.

        Parameters are those of :meth:`contains`, and the names of the columns.

        Returns
        -------
        text : ndarray
            str objects [cells]; ``""`` for an empty set.
        size : ndarray
            int64 [cells].
        """
        p = np.asarray(probabilities, np.float64)
        inside = self.contains(p, coverage, **how)
        order = np.argsort(-p, axis=1, kind="stable")
        size = inside.sum(axis=1)
        # Labels in a set are at least as probable as those outside, so a set of k labels is the first k.
        text = [SEPARATOR.join(str(classes[k]) for k in row[:n]) for row, n in zip(order, size, strict=True)]
        return np.array(text, dtype=object), size.astype(np.int64)

    def to_json(self) -> dict[str, JSON]:
        """Return the plain values to save."""
        return {"coverages": list(COVERAGES), "least": list(self.least), "cells": self.cells}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Restore what :meth:`to_json` returned; ValueError, KeyError or TypeError if it is inconsistent."""
        least = tuple(map(float, values["least"]))
        if list(values["coverages"]) != list(COVERAGES) or len(least) != len(COVERAGES):
            raise ValueError("its label sets have other coverages")
        if not all(0 <= each <= 1 for each in least):
            raise ValueError("its label sets have thresholds that are no probabilities")
        return cls(least, int(values["cells"]))


def calibrate_label_sets(probabilities: ArrayLike, codes: ArrayLike) -> LabelSets:
    """Calibrate label sets on cells left out of the fit.

    Leave out whole donors where cells of other donors will be annotated: cells left out one by one resemble those of
    the fit more than a new donor's do, and the sets are then too small for it.

    Parameters
    ----------
    probabilities
        [cells, classes], each row predicted without the cell (and its donor); rows with NaN were not left out, and do
        not count.
    codes
        Column of the true label of each cell, int64.

    Raises
    ------
    InputError
        Shapes differ, or no cell was left out.
    """
    p, true = np.asarray(probabilities, np.float64), np.asarray(codes, np.int64)
    if p.ndim != 2 or true.shape != (len(p),):
        found = f"probabilities of shape {p.shape} for labels of shape {true.shape}"
        raise InputError(found, where="label sets", fix="Pass one row of probabilities and one label for each cell")
    known = np.isfinite(p).all(axis=1)
    if not known.any():
        found = "no cell was left out of the fit"
        raise InputError(found, where="label sets", fix="Give two or more labelled cells of each type")
    scores = np.sort(1.0 - p[known, true[known]])
    return LabelSets(tuple(1.0 - _quantile(scores, coverage) for coverage in COVERAGES), len(scores))


def _quantile(scores: Floats, coverage: float) -> float:
    """Return the conformal quantile of sorted scores; 1 (every label) where the cells are too few for the coverage."""
    place = int(np.ceil((len(scores) + 1) * coverage - _ROUNDING))
    return float(scores[place - 1]) if place <= len(scores) else 1.0
