"""The columns file: one small TOML that names the columns of labels, for all files or for some.

``docs/store.md`` shows an example. The text of a rule is a constant, as ``tissue = "blood"``; a table names a column of
``obs``, as ``tissue = { column = "organ" }``.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cell_lm.config import parse
from cell_lm.data.obs.columns import as_text, find_column
from cell_lm.data.obs.malignancy import MALIGNANCY_WORDS, MalignancyColumn
from cell_lm.data.scale.logarithms import Expression
from cell_lm.data.store.layout import LABELS
from cell_lm.errors import ConfigError
from cell_lm.reading import read_toml, reason

_RESERVED = {*LABELS, "malignancy", "source", "row", "barcode", "mitochondrial"}
_DOCS = "docs/store.md"
OtherName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class _Rule(BaseModel):
    """A rule is a column or a constant; the text alone is a constant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str | None = None
    """Column of ``obs``."""
    constant: str | None = None
    """Value for all cells."""

    @model_validator(mode="before")
    @classmethod
    def _text_is_a_constant(cls, value: Any) -> Any:
        return {"constant": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_of_both(self) -> _Rule:
        if (self.column is None) == (self.constant is None):
            raise ValueError("name either a column or a constant")
        return self


class LabelRule(_Rule):
    """Source of a label of the cells."""

    values: dict[str, str] = {}
    """New names for values of the column; other values are not changed."""

    def read(self, obs: pd.DataFrame, *, where: str) -> pd.Series[Any]:
        """Return the label of each cell as text, missing if there is none.

        Raises
        ------
        InputError
            There is no such column.
        """
        if self.constant is not None:
            return pd.Series(self.constant, index=obs.index, dtype=object)
        column = find_column(obs, self.column or "", axis="obs", where=where)
        renamed = {value: self.values.get(text := as_text(value), text) for value in column.dropna().unique()}
        return column.astype(object).map(renamed).where(column.notna(), None)


class MalignancyRule(_Rule):
    """Source of the malignancy of the cells; values have the same meaning as in ``MalignancyColumn``."""

    tumour: list[str] = []
    normal: list[str] = []
    unknown: list[str] = []
    """Values of the column that mean unknown."""

    @model_validator(mode="after")
    def _means_malignancy(self) -> MalignancyRule:
        if self.constant is not None and self.constant not in MALIGNANCY_WORDS:
            raise ValueError(f"'{self.constant}' is none of tumour, normal, unknown")
        every = [*self.tumour, *self.normal, *self.unknown]
        twice = next((value for value in every if every.count(value) > 1), None)
        if twice is not None:
            raise ValueError(f"'{twice}' is given two meanings")
        return self

    def read(self, obs: pd.DataFrame, *, where: str) -> NDArray[np.int8]:
        """Return the malignancy of each cell, int8 [cells].

        Raises
        ------
        InputError
            There is no such column, or it has values that are not recognised.
        """
        if self.constant is not None:
            return np.full(len(obs), MALIGNANCY_WORDS[self.constant], np.int8)
        meanings = (("tumour", self.tumour), ("normal", self.normal), ("unknown", self.unknown))
        values = {value: malignancy for malignancy, given in meanings for value in given}
        return MalignancyColumn(self.column or "", values).read(obs, where=where)


class Mapping(BaseModel):
    """The rules for the cells of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tissue: LabelRule | None = None
    disease: LabelRule | None = None
    donor: LabelRule | None = None
    cell_type: LabelRule | None = None
    malignancy: MalignancyRule | None = None
    other: dict[OtherName, LabelRule] = {}
    """Further labels to keep, by the name of their column in the store."""

    @model_validator(mode="after")
    def _other_names_are_free(self) -> Mapping:
        taken = sorted(_RESERVED & set(self.other))
        if taken:
            raise ValueError(f"'{taken[0]}' is a column that every store has: set it outside of other")
        return self

    def labels(self) -> dict[str, LabelRule]:
        """Return the rules of the labels that have one, in the order of the store's columns."""
        rules = {name: rule for name in LABELS if isinstance(rule := getattr(self, name), LabelRule)}
        return rules | self.other

    def rules(self) -> dict[str, LabelRule | MalignancyRule]:
        """Return all rules, that of malignancy included."""
        return {**self.labels(), **({} if self.malignancy is None else {"malignancy": self.malignancy})}

    def over(self, base: Mapping) -> Mapping:
        """Return the rules of ``base``, overridden by these."""
        own = {name: getattr(self, name) for name in (*LABELS, "malignancy") if getattr(self, name) is not None}
        return base.model_copy(update={**own, "other": base.other | self.other})


class FileRules(Mapping):
    """Rules for some files, which override those for all, and options for reading these files."""

    name: str
    """Name of the file or folder, or its path as given, with ``*`` and ``?``."""
    layer: str | None = None
    scale: Expression | None = None
    gene_column: str | None = None

    def fits(self, path: Path) -> bool:
        """Return whether these rules apply to a file."""
        return any(fnmatchcase(text, self.name) for text in (path.name, str(path), path.as_posix()))


class Columns(Mapping):
    """The content of a columns file: rules for all files, and for some."""

    file: list[FileRules] = []

    def for_file(self, path: Path) -> list[FileRules]:
        """Return the rules for one file; later ones override earlier ones."""
        return [rules for rules in self.file if rules.fits(path)]


def read_columns(path: Path) -> Columns:
    """Read a columns file.

    Raises
    ------
    ConfigError
        It cannot be read, is not TOML, or has an unknown key or value.
    """
    try:
        values = read_toml(path)
    except (OSError, ValueError) as error:
        found, fix = f"it cannot be read as TOML ({reason(error)})", f"See {_DOCS} for an example"
        raise ConfigError(found, where=str(path), fix=fix) from None
    return parse(Columns, values, where=str(path), docs=_DOCS)
