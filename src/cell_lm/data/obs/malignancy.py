"""Tumour or normal cell: malignancy from a column of ``obs``, by the terms in common use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data.obs.columns import as_text, obs_column
from cell_lm.errors import ConfigError, InputError

NORMAL, TUMOUR, UNKNOWN = 0, 1, -1
"""Whether a cell is a tumour cell, as a number."""

MALIGNANCY_WORDS = {"tumour": TUMOUR, "tumor": TUMOUR, "normal": NORMAL, "unknown": UNKNOWN}
"""Names of the meanings."""
_TUMOUR = ["tumour", "tumor", "cancer", "malignant", "neoplastic", "cancerous", "tumoural", "tumoral"]
_WORDS: dict[str, int] = {
    **dict.fromkeys(_TUMOUR, TUMOUR),
    **{f"{word} cell": TUMOUR for word in _TUMOUR},
    **dict.fromkeys(("normal", "healthy", "normal cell", "healthy cell"), NORMAL),
    **{f"non{gap}{word}": NORMAL for word in _TUMOUR for gap in ("", " ")},
    **dict.fromkeys(("unknown", "", "na", "n/a", "nan", "none", "unassigned", "undetermined", "unclear"), UNKNOWN),
}
_ANSWERS = {"yes": TUMOUR, "true": TUMOUR, "1": TUMOUR, "no": NORMAL, "false": NORMAL, "0": NORMAL}
_QUESTION = re.compile(r"malignan|tumou?r|cancer|neoplas", re.IGNORECASE)
_NEGATED = re.compile(r"non|not|normal|healthy|free", re.IGNORECASE)


@dataclass(frozen=True)
class MalignancyColumn:
    """The column of ``obs`` that separates tumour from normal cells.

    These values are recognised by default, ignoring case: tumour, tumor, cancer, malignant, neoplastic and the like,
    with or without "cell"; normal, healthy and the forms with "non-"; unknown, unassigned and missing values. Yes, no,
    true, false, 1 and 0 are recognised only in a column with a name such as ``malignant`` or ``is_tumour``, since they
    are ambiguous elsewhere.

    Attributes
    ----------
    column : str
        Its name.
    values : mapping of str to str
        Meanings of other values: ``{"Epithelial": "tumour", "putative": "unknown"}``; they take precedence.

    Raises
    ------
    ConfigError
        A value is mapped to something other than tumour, normal or unknown.
    """

    column: str
    values: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for value, malignancy in self.values.items():
            if malignancy not in MALIGNANCY_WORDS:
                found = f"'{value}' of column '{self.column}' is to mean '{malignancy}'"
                raise ConfigError(found, fix="Say tumour, normal or unknown")

    def read(self, obs: pd.DataFrame, *, where: str) -> NDArray[np.int8]:
        """Return the malignancy of each cell, int8 [cells]: ``TUMOUR``, ``NORMAL`` or ``UNKNOWN``.

        Raises
        ------
        InputError
            There is no such column, or some of its values are not recognised; the message lists them with their numbers
            of cells.
        """
        labels = obs_column(obs, self.column, where=where).map(as_text, na_action="ignore").astype(object)
        labels = labels.where(labels.notna(), "unknown")
        meaning = {label: self._meaning(label) for label in labels.unique()}
        strange = labels[labels.map(lambda label: meaning[label] is None).astype(bool)].value_counts()
        if len(strange):
            self._refuse(strange, where)
        return labels.map(meaning).to_numpy(dtype=np.int8)

    def _meaning(self, label: str) -> int | None:
        if label in self.values:
            return MALIGNANCY_WORDS[self.values[label]]
        word = " ".join(re.split(r"[\s_-]+", label.strip().casefold()))
        word = word.removesuffix("s") if word.endswith("cells") else word
        asks = _QUESTION.search(self.column) and not _NEGATED.search(self.column)
        return _WORDS.get(word, _ANSWERS.get(word) if asks else None)

    def _refuse(self, strange: pd.Series[int], where: str) -> None:
        shown = ", ".join(f"'{label}' ({count:,} cells)" for label, count in strange.head(5).items())
        more = f" and {len(strange) - 5:,} more" if len(strange) > 5 else ""
        found = f"obs column '{self.column}' holds values that mean neither tumour nor normal here: {shown}{more}"
        first = strange.index[0]
        fix = (
            f"Say what each means with --tumour, --normal and --unknown, as --unknown '{first}' (in Python "
            f"MalignancyColumn('{self.column}', {{'{first}': 'unknown'}}), in a columns file unknown = ['{first}'])"
        )
        raise InputError(found, where=where, fix=fix)


Malignancy: TypeAlias = MalignancyColumn | Literal["tumour", "normal"] | None
"""Malignancy of the cells of a file: from a column, the same for all, or unknown."""


def read_malignancy(malignancy: Malignancy, obs: pd.DataFrame, *, where: str) -> NDArray[np.int8]:
    """Return the malignancy of each cell, int8 [cells]."""
    if isinstance(malignancy, MalignancyColumn):
        return malignancy.read(obs, where=where)
    return np.full(len(obs), UNKNOWN if malignancy is None else MALIGNANCY_WORDS[malignancy], np.int8)
