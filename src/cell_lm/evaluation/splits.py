"""Train/test splits of cells, or of pairs of line and drug.

=============================  ========================================================================================
:func:`stratified`             the same fraction of the cells of every label tests
:func:`few_shot`               k labelled cells of each label train, all others test
:func:`leave_one_group_out`    each donor (line, tissue, drug) in turn tests
:func:`pairs`                  pairs of line and drug: warm, or with lines, drugs or tissues that no training pair has
=============================  ========================================================================================

Splits depend only on the seed, on every platform. :class:`~cell_lm.evaluation.saved_splits.Splits` stores them with a
hash of their cells. :func:`refuse_leakage` refuses a split with the same donor, line or cell in two parts.

Rare labels. A label keeps at least one training cell in every split. So that it can also be tested, at most half of its
cells are used for training (:func:`few_shot`); a label with a single cell is trained on and not tested. ``rare`` lists
the labels with fewer training cells than requested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import LeaveOneGroupOut, train_test_split

from cell_lm.errors import InputError
from cell_lm.evaluation.labels import Labels, as_labels

Rows: TypeAlias = NDArray[np.int64]
Kind: TypeAlias = Literal["warm", "cold_line", "cold_drug", "cold_both", "cold_tissue"]

FRACTIONS = (0.8, 0.1, 0.1)


def _none() -> Rows:
    return np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Split:
    """Training, validation and test rows; ascending, disjoint.

    Attributes
    ----------
    train, test : ndarray
        int64 rows.
    name : str
        Such as ``"seed 0"`` or ``"donor human3"``.
    unit : str
        What the parts do not share: ``"cell"``, ``"donor"``, ``"line"``, ``"pair"``.
    seed : int or None
        None if nothing is random.
    validation : ndarray
        int64 rows; empty by default.
    rare : tuple of str
        Labels with fewer training cells than requested.
    """

    train: Rows
    test: Rows
    name: str
    unit: str
    seed: int | None = None
    validation: Rows = field(default_factory=_none)
    rare: tuple[str, ...] = ()


def stratified(labels: Labels, test_size: float, seeds: Sequence[int]) -> list[Split]:
    """Return a split per seed, with the same test fraction of every label (scikit-learn's train_test_split).

    Raises
    ------
    InputError
        Labels are missing, or the fraction leaves a part without cells of each label.
    """
    names = as_labels(labels, where="labels")
    distinct, codes, sizes = np.unique(names, return_inverse=True, return_counts=True)
    usable = np.flatnonzero(sizes[codes] > 1)
    alone = np.setdiff1d(np.arange(len(names)), usable)
    rare = tuple(str(name) for name in distinct[sizes == 1])
    splits = []
    for seed in seeds:
        try:
            train, test = train_test_split(usable, test_size=test_size, stratify=codes[usable], random_state=seed)
        except ValueError as error:
            found = f"{len(usable):,} cells of {int((sizes > 1).sum())} labels cannot be divided at {test_size:g}"
            fix = "Choose a fraction, above 0 and below 1, that gives both sides a cell of each label"
            raise InputError(found, where="splits", fix=fix) from error
        splits.append(Split(_sorted(train, alone), np.sort(test), f"seed {seed}", "cell", seed, rare=rare))
    return splits


def few_shot(labels: Labels, per_type: int, seeds: Sequence[int]) -> list[Split]:
    """Return a split per seed: ``per_type`` training cells of each label, all others are test cells.

    A label with fewer than twice as many cells uses half of them for training (at least one), and is listed in
    ``rare``.

    Raises
    ------
    InputError
        Labels are missing, ``per_type`` is below 1, or no test cell is left.
    """
    names = as_labels(labels, where="labels")
    if per_type < 1:
        raise InputError(f"{per_type} cells per label", where="splits", fix="Ask for at least 1")
    members = {str(name): np.flatnonzero(names == name) for name in np.unique(names)}
    counts = {name: max(1, min(per_type, len(rows) // 2)) for name, rows in members.items()}
    if sum(counts.values()) == len(names):
        found = f"each of the {len(members)} labels has a single cell, so that none is left to test"
        raise InputError(found, where="splits", fix="Pass more cells, or coarser labels")
    rare = tuple(name for name, count in counts.items() if count < per_type)
    splits = []
    for seed in seeds:
        rng = np.random.default_rng((seed, per_type))
        train = _sorted(*(rng.permutation(rows)[: counts[name]] for name, rows in members.items()))
        test = np.setdiff1d(np.arange(len(names)), train)
        splits.append(Split(train, test, f"{per_type} per label, seed {seed}", "cell", seed, rare=rare))
    return splits


def leave_one_group_out(groups: Labels, *, unit: str = "donor") -> list[Split]:
    """Return a split per group, in sorted order: its cells are the test cells, all others the training cells.

    Parameters
    ----------
    groups
        One donor, line, tissue or drug per row.
    unit
        The kind of group.

    Raises
    ------
    InputError
        Groups are missing, or there is only one.
    """
    names = as_labels(groups, where=f"{unit}s")
    distinct = np.unique(names)
    if len(distinct) < 2:
        found = f"all {len(names):,} rows are of {unit} '{distinct[0]}'"
        raise InputError(found, where="splits", fix=f"Pass rows of at least 2 {unit}s, or split by cells")
    folds = LeaveOneGroupOut().split(names, groups=names)
    return [Split(train, test, f"{unit} {names[test[0]]}", unit) for train, test in folds]


def pairs(
    lines: Labels,
    drugs: Labels,
    kind: Kind = "warm",
    *,
    tissues: Labels | None = None,
    fractions: tuple[float, float, float] = FRACTIONS,
    seed: int = 0,
) -> Split:
    """Split measurements of pairs of line and drug into training, validation and test.

    ``warm``: by pair; a pair that was measured twice stays in one part, lines and drugs are in all parts.
    ``cold_line``, ``cold_drug``, ``cold_tissue``: by line, drug or tissue. ``cold_both``: by line and by drug; pairs
    whose line and drug are in different parts are left out.

    Parameters
    ----------
    lines, drugs
        One of each per measurement.
    kind
        What test and training do not share.
    tissues
        The tissue of the line of each measurement, for ``cold_tissue``.
    fractions
        Fractions of the measurements for training, validation and test, as closely as whole groups allow; for
        ``cold_both``, of the lines' and of the drugs' measurements each.
    seed
        Seed of the order in which groups are assigned.

    Raises
    ------
    InputError
        Values are missing or differ in number, fractions do not sum to 1, or there are too few groups.
    """
    line, drug = as_labels(lines, where="lines"), as_labels(drugs, where="drugs")
    if len(line) != len(drug):
        found = f"{len(line):,} lines but {len(drug):,} drugs"
        raise InputError(found, where="splits", fix="Pass one line and one drug for each measurement")
    if min(fractions) < 0 or min(fractions[0], fractions[2]) == 0 or abs(sum(fractions) - 1) > 1e-9:
        fix = "Give three shares that sum to 1, those of training and test above 0"
        raise InputError(f"fractions {fractions}", where="splits", fix=fix)
    rng = np.random.default_rng(seed)
    if kind == "cold_both":
        side, of_drug = _deal(line, fractions, rng, "line"), _deal(drug, fractions, rng, "drug")
        side = np.where(side == of_drug, side, -1)
    else:
        side = _deal(_unit_of_pairs(line, drug, tissues, kind), fractions, rng, _UNITS[kind])
    train, validation, test = (np.flatnonzero(side == number) for number in range(3))
    if not len(train) or not len(test):
        found = f"{len(train):,} pairs to learn from and {len(test):,} to test on"
        raise InputError(found, where=f"splits: {kind}", fix="Pass more pairs, or larger fractions")
    return Split(train, test, f"{kind}, seed {seed}", _UNITS[kind], seed, validation)


_UNITS = {"warm": "pair", "cold_line": "line", "cold_drug": "drug", "cold_both": "line", "cold_tissue": "tissue"}


def pair_names(lines: Labels, drugs: Labels) -> NDArray[np.str_]:
    """Return one name per pair of line and drug, for :func:`refuse_leakage`."""
    both = zip(as_labels(lines, where="lines"), as_labels(drugs, where="drugs"), strict=True)
    return np.array([f"{line} / {drug}" for line, drug in both])


def _unit_of_pairs(
    line: NDArray[np.str_], drug: NDArray[np.str_], tissues: Labels | None, kind: Kind
) -> NDArray[np.str_]:
    if kind == "cold_tissue":
        if tissues is None:
            raise InputError("no tissues", where="splits: cold_tissue", fix="Pass tissues=, one for each measurement")
        tissue = as_labels(tissues, where="tissues")
        if len(tissue) != len(line):
            found = f"{len(tissue):,} tissues for {len(line):,} measurements"
            raise InputError(found, where="splits", fix="Pass one tissue for each measurement")
        return tissue
    if kind not in _UNITS:
        raise InputError(f"kind '{kind}'", where="splits", fix=f"Choose one of {', '.join(_UNITS)}")
    return pair_names(line, drug) if kind == "warm" else line if kind == "cold_line" else drug


def _deal(units: NDArray[np.str_], fractions: Sequence[float], rng: np.random.Generator, unit: str) -> Rows:
    """Return the part of each row, 0, 1 or 2: whole units in random order, each part up to its fraction of the rows."""
    distinct, codes, sizes = np.unique(units, return_inverse=True, return_counts=True)
    sides = [number for number, fraction in enumerate(fractions) if fraction > 0]
    if len(distinct) < len(sides):
        found = f"{len(distinct)} different {unit}s for {len(sides)} sides"
        raise InputError(found, where="splits", fix=f"Pass more {unit}s, or leave out the validation (fraction 0)")
    order = rng.permutation(len(distinct))
    middle = (np.cumsum(sizes[order]) - sizes[order] / 2) / len(units)
    cuts = np.searchsorted(middle, np.cumsum([fractions[number] for number in sides])[:-1])
    for place in range(len(cuts)):  # a part whose fraction is smaller than any unit still gets one
        least = cuts[place - 1] + 1 if place else 1
        cuts[place] = min(max(cuts[place], least), len(distinct) - len(cuts) + place)
    side = np.empty(len(distinct), np.int64)
    side[order] = np.repeat(sides, np.diff([0, *cuts, len(distinct)]))
    return side[codes]


def refuse_leakage(split: Split, **units: Labels) -> None:
    """Refuse a split whose parts overlap.

    Parameters
    ----------
    split
        Training, validation and test.
    units
        What must not be in two parts, one value per row of the data: ``donor=obs["donor"], cell=obs_names``.

    Raises
    ------
    InputError
        The same row, or the same donor (line, cell ...) is in two parts; the message names it.
    """
    sides = {"training": split.train, "validation": split.validation, "test": split.test}
    rows = int(max(max(side, default=-1) for side in sides.values())) + 1
    named = {"row": np.arange(rows).astype(str)}
    named |= {unit: as_labels(values, where=f"{unit}s") for unit, values in units.items()}
    for unit, values in named.items():
        if len(values) < rows:
            found = f"{len(values):,} {unit}s, but the split has row {rows - 1:,}"
            raise InputError(found, where=split.name, fix="Pass one value for each row of the data the split is of")
        for first, second in (("training", "test"), ("training", "validation"), ("validation", "test")):
            both = np.intersect1d(values[sides[first]], values[sides[second]])
            if len(both):
                raise _leak(split, unit, both, f"{first} and {second}")


def _leak(split: Split, unit: str, both: NDArray[np.str_], where: str) -> InputError:
    examples = ", ".join(f"'{name}'" for name in both[:3]) + (" ..." if len(both) > 3 else "")
    verb = "is" if len(both) == 1 else "are"
    found = f"{unit} {examples} {verb} on both sides, {where} ({len(both):,} in all)"
    return InputError(found, where=split.name, fix=f"Split so that each {unit} is on one side")


def _sorted(*parts: NDArray[np.integer]) -> Rows:
    return np.sort(np.concatenate(parts)).astype(np.int64)
