"""Cell Ontology ids of cell types by name, from a small table in the package.

The ids and names are those of the Cell Ontology (https://obofoundry.org/ontology/cl, CC BY 4.0); the other names of a
type are ours. A label is compared with all names of a type without regard to case, plural, hyphens and the word "cell".
A name that is ambiguous by itself, as ``alpha`` or ``B``, counts only among labels of which three or more are types of
the same tissue. A label that the table lacks has no id: none is guessed.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

_TABLE = Path(__file__).parents[2] / "resources" / "cell_ontology.csv"
_SHARED = 3
"""Labels of one tissue among which its ambiguous names count."""


@dataclass(frozen=True)
class _Term:
    """A cell type: its id and name, and the tissue that its ambiguous names belong to."""

    id: str
    name: str
    context: str


@dataclass(frozen=True)
class _Table:
    by_name: dict[str, _Term] = field(default_factory=dict)
    by_short_name: dict[str, _Term] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """Name in the Cell Ontology by id."""


def ontology_ids(labels: Iterable[object]) -> dict[str, str]:
    """Return the Cell Ontology id of each label that is known: ``{"NK cells": "CL:0000623"}``.

    Parameters
    ----------
    labels
        All labels of a column or a classifier, since they decide what an ambiguous name means.
    """
    table = _table()
    keys = {str(label): _key(str(label)) for label in labels}
    sure = {
        label: table.by_name[key]
        for label, key in keys.items()
        if key in table.by_name and (len(key) > 1 or "cell" in label.casefold())  # "B cell", not a cluster "B"
    }
    short = {
        label: table.by_short_name[key]
        for label, key in keys.items()
        if label not in sure and key in table.by_short_name
    }
    tissues = Counter(term.context for term in (*sure.values(), *short.values()) if term.context)
    meant = {label: term for label, term in short.items() if tissues[term.context] >= _SHARED}
    return {label: term.id for label, term in (sure | meant).items()}


def ontology_column(classes: Iterable[object], codes: ArrayLike) -> pd.Categorical | None:
    """Return the id of the label of each cell; None if no label has one.

    Parameters
    ----------
    classes
        All labels.
    codes
        int [cells]: the label of each cell, by its place among them; -1 if it has none.
    """
    names = list(map(str, classes))
    ids = ontology_ids(names)
    if not ids:
        return None
    found = sorted(set(ids.values()))
    place = np.array([found.index(ids[name]) if name in ids else -1 for name in names] + [-1])
    return pd.Categorical.from_codes(place[np.asarray(codes, np.int64)], categories=pd.Index(found, dtype=object))


def ontology_name(identifier: str) -> str:
    """Return the name of a type in the Cell Ontology by its id; ``""`` if the table lacks it."""
    return _table().names.get(identifier, "")


@lru_cache(maxsize=1)
def _table() -> _Table:
    table = _Table()
    with _TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            term = _Term(row["id"], row["name"], row["context"])
            table.names[term.id] = term.name
            for name in (row["name"], *filter(None, row["synonyms"].split(";"))):
                table.by_name[_key(name)] = term
            for name in filter(None, row["short"].split(";")):
                table.by_short_name[_key(name)] = term
    return table


def _key(label: str) -> str:
    """Return what is compared: lower case, single words in singular, a trailing minus as ``neg``, without "cell"."""
    text = re.sub(r"(?<=\w)[-−](?=[\s/,;)]|$)", " neg ", label.strip().casefold())
    words = re.sub(r"[^\w]+|_", " ", text).split()
    singular = [re.sub(r"(?<=\w\w[^s])s$", "", word) for word in words]
    return " ".join(word for word in singular if word not in ("cell", "positive"))
