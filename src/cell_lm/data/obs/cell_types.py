"""Columns of ``obs`` with cell types: words that mean no type, and types of too few cells to learn.

A type of one cell cannot be cross-validated: where the cell is left out, none is left to learn from. It is therefore
refused unless it is dropped (``min_cells=2``) or kept on purpose (``min_cells=1``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cell_lm.data.obs.labels import Labels, SharedTypesWarning, read_labels, say, too_few
from cell_lm.errors import ConfigError, InputError
from cell_lm.remedies import option

LISTED = 6
"""Most labels that a message lists."""
_NO_TYPE = re.compile(
    r"(unknown|unassigned|unlabell?ed|unclassified|undetermined|undefined|unidentified|ambiguous|doublets?|multiplets?"
    r"|low quality|lowq|failed qc|debris)( .*)?|n a|na|null|none|not available|not assigned|no label|empty|[-?.]+"
)
_SEPARATORS = re.compile(r"[\s_/().,;:]+")


@dataclass(frozen=True)
class LabelRules:
    """How a column of cell types is read.

    Raises
    ------
    ConfigError
        A value cannot be used.
    """

    missing: tuple[str, ...] = ()
    """Labels that mean that the type of the cell is not known, such as ``"Unassigned"``, in upper or lower case."""
    min_cells: int | None = None
    """Types of fewer cells are left out. None refuses types of one cell; 1 keeps them."""

    def __post_init__(self) -> None:
        least = self.min_cells
        if least is not None and (not isinstance(least, int) or isinstance(least, bool) or least < 1):
            raise ConfigError(f"min_cells is {least!r}", where="labels", fix="Give a whole number from 1 on")


def as_words(words: object) -> tuple[str, ...]:
    """Return labels that mean none, from what a user gave; :class:`ConfigError` unless it is a list of texts."""
    each = tuple(words) if isinstance(words, Iterable) and not isinstance(words, str) else (None,)
    if not all(isinstance(word, str) and word.strip() for word in each):
        fix = 'Give a list of labels, such as ["Unknown", "NA"]'
        raise ConfigError(f"missing_labels is {words!r}", where="labels", fix=fix)
    return tuple(map(str, each))


AS_THEY_ARE = LabelRules(min_cells=1)
"""Every label is one, however few cells have it."""


def read_cell_types(
    obs: pd.DataFrame, column: str, *, where: str, rules: LabelRules | None = None, training: bool = True
) -> Labels:
    """Read a column of cell types.

    Parameters
    ----------
    obs
        One row per cell.
    column
        Its name.
    where
        The file, for messages.
    rules
        How it is read; default :class:`LabelRules`.
    training
        Whether a classifier is to learn them: at least two types, of enough cells.

    Raises
    ------
    InputError
        As :func:`~cell_lm.data.obs.labels.read_labels`; to learn from, also a column with as many types as cells, types
        of one cell, or fewer than two types of enough cells.

    Warns
    -----
    LabelWarning
        Labels had blanks around them, were dropped, or look as if they meant that there is no label.
    """
    rules = rules or LabelRules()
    labels = read_labels(obs, column, where=where, classes=2 if training else 1)
    labels = _without(labels, rules.missing, column, where)
    _offer(labels, column, where)
    return _learnable(labels, rules.min_cells, column, where) if training else labels


def listed(names: Iterable[object], most: int = LISTED) -> str:
    """Return names in quotes, the first few of them."""
    each = [str(name) for name in names]
    return ", ".join(f"'{name}'" for name in each[:most]) + (f", … ({len(each):,} in all)" if len(each) > most else "")


def means_no_type(label: str) -> bool:
    """Return whether a label looks as if it meant that the type is not known, as ``"Unassigned"`` or ``"N/A"``."""
    plain = _SEPARATORS.sub(" ", label.replace("-", " ") if len(label) > 1 else label).strip().casefold()
    return _NO_TYPE.fullmatch(plain or label) is not None


def strangers(truth: Labels, classes: Iterable[object]) -> list[str]:
    """Return the types of a column that a classifier does not know, sorted."""
    return sorted(set(truth.text[truth.known]) - set(map(str, classes)))


def warn_of_no_shared_type(truth: Labels, classes: Iterable[object], column: str, *, where: str) -> None:
    """Warn if none of the types of a column is one of those of a classifier."""
    theirs, ours = sorted(map(str, classes)), set(truth.text[truth.known])
    if ours.isdisjoint(theirs):
        both = f"{listed(sorted(ours))} there, {listed(theirs)} here"
        found = f"obs column '{column}' and the classifier share no type: {both}"
        fix = "Every cell counts as wrong: rename the labels, or name another column"
        say(found, where=where, fix=fix, kind=SharedTypesWarning)


def _without(labels: Labels, missing: Sequence[str], column: str, where: str) -> Labels:
    """Return the labels without those that mean none."""
    if not missing:
        return labels
    folded = np.array([value.casefold() for value in labels.text], object)
    wanted = {word.strip().casefold(): word.strip() for word in missing}
    unseen = [word for fold, word in wanted.items() if fold not in set(folded)]
    if unseen:
        say(f"no cell of obs column '{column}' is labelled {listed(unseen)}", where=where, fix="Check the spelling")
    known = labels.known & ~np.isin(folded, list(wanted))
    if not known.any():
        found = f"obs column '{column}' holds no label other than {listed(wanted.values())}"
        raise InputError(found, where=where, fix="Choose a column that holds labels")
    return Labels(np.where(known, labels.text, "").astype(object), known)


def _offer(labels: Labels, column: str, where: str) -> None:
    """Name the labels that look as if they meant none."""
    sizes = Counter(labels.text[labels.known])
    doubtful = sorted(name for name in sizes if means_no_type(name))
    if not doubtful or len(doubtful) == len(sizes):
        return
    told = ", ".join(f"'{name}' ({sizes[name]:,} cells)" for name in doubtful[:LISTED])
    flag = ",".join(doubtful)
    given = f'missing_labels=[{", ".join(map(repr, doubtful))}] (--unlabelled "{flag}")'
    say(
        f"obs column '{column}' holds {told}, which may mean that there is no label",
        where=where,
        fix=f"If so, give {given}",
    )


def _learnable(labels: Labels, least: int | None, column: str, where: str) -> Labels:
    """Return the labels without those of too few cells, and refuse a column of names or of types of one cell."""
    sizes = Counter(labels.text[labels.known])
    cells = int(labels.known.sum())
    if least is None and len(sizes) == cells and cells > 2:
        found = f"obs column '{column}' holds as many different labels as cells, {cells:,}"
        fix = f"Name the column of cell types; to learn from one cell of each type, give {option('min_cells', 1)}"
        raise InputError(found, where=where, fix=fix)
    alone = sorted(name for name, size in sizes.items() if size == 1)
    if least is None and alone:
        found = f"{len(alone)} of {len(sizes)} types of obs column '{column}' have one cell each: {listed(alone)}"
        fix = (
            "They cannot be cross-validated: rename or merge them, leave them out with "
            f"{option('min_cells', 2)}, or keep them with {option('min_cells', 1)}"
        )
        raise InputError(found, where=where, fix=fix)
    rare = sorted(name for name, size in sizes.items() if size < (least or 1))
    if not rare:
        if len(sizes) < 2:
            raise too_few(sorted(sizes), cells, column, 2, where)
        return labels
    if len(sizes) - len(rare) < 2:
        found = f"{len(sizes) - len(rare)} of {len(sizes)} types of obs column '{column}' have {least:,} cells or more"
        raise InputError(found, where=where, fix=f"Lower {option('min_cells')}; at least 2 types are needed")
    known = labels.known & ~np.isin(labels.text, rare)
    lost = cells - int(known.sum())
    say(f"types of fewer than {least:,} cells were left out: {listed(rare)} ({lost:,} cells)", where=where)
    return Labels(np.where(known, labels.text, "").astype(object), known)
