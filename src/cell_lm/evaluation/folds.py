"""Cross-validation folds of the training cells, to select hyperparameters without the test cells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

Codes: TypeAlias = NDArray[np.int64]
Fold: TypeAlias = tuple[Codes, Codes]
"""The cells to fit on, and those to score on: int64 indices."""

FOLDS = 5


def training_folds(codes: Codes, groups: NDArray[np.object_] | None, seed: int) -> Iterator[Fold]:
    """Yield up to five folds; a fold is scored only on cells of classes that its other cells have.

    Parameters
    ----------
    codes
        The class of each training cell, int64 from 0.
    groups
        One donor per cell: whole donors are left out. Without it, cells are left out, stratified by class.
    seed
        Seed of the folds without ``groups``.
    """
    for rest, left_out in _grouped(groups) if groups is not None else _stratified(codes, seed):
        known = np.unique(codes[rest])
        validation = left_out[np.isin(codes[left_out], known)]
        if len(known) > 1 and len(validation):
            yield rest, validation


def _grouped(groups: NDArray[np.object_]) -> Iterator[Fold]:
    distinct, members = np.unique(groups, return_inverse=True)
    if len(distinct) > 1:
        yield from GroupKFold(min(FOLDS, len(distinct))).split(members, groups=members)


def _stratified(codes: Codes, seed: int) -> Iterator[Fold]:
    """Deal the cells to the folds class by class, so that small classes are also spread evenly."""
    order = np.random.default_rng(seed).permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    fold = np.empty(len(codes), np.int64)
    fold[order] = np.arange(len(codes)) % FOLDS
    for number in range(FOLDS):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)
