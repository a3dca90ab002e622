"""How to read each file: the settings for all files, combined with its rules in the columns file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cell_lm.data.formats.sample_sheet import MALIGNANCY, SampleSheet
from cell_lm.data.formats.stream import CellFile, open_cells
from cell_lm.data.obs.columns import find_column
from cell_lm.data.read_options import ReadOptions
from cell_lm.data.scale.logarithms import Expression
from cell_lm.errors import ConfigError
from cell_lm.prepare.columns import Columns, MalignancyRule, Mapping
from cell_lm.reading import refuse_irregular

_READING = ("layer", "scale", "gene_column", "min_genes", "min_overlap")
"""Settings that are options for reading."""


class PrepareSettings(BaseModel):
    """Settings that decide the content of a store, besides its files and its columns file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    layer: str | None = None
    """Matrix of a file: X by default, the name of a layer, or ``raw``."""
    scale: Expression = "counts"
    """Scale of the matrix: ``counts``, or the natural ``log1p`` of scaled counts."""
    gene_column: str | None = None
    """Column of ``var`` that holds gene symbols or Ensembl ids; default: the names of the genes."""
    min_genes: Annotated[int, Field(ge=1)] = 200
    """Fewest expressed genes of the vocabulary that a cell must have."""
    max_mito: Annotated[float, Field(ge=0.0, le=1.0)] = 0.2
    """Largest fraction of a cell's counts in mitochondrial genes; 1 keeps all cells."""
    min_overlap: Annotated[int, Field(ge=1)] | None = None
    """Fewest genes of the vocabulary that a file must have; default: one in twenty."""
    shard_cells: Annotated[int, Field(ge=1)] = 65_536
    """Cells per shard."""
    keep_duplicates: bool = False
    """Keep cells with the same genes and counts as an earlier one."""


@dataclass(frozen=True, eq=False)
class SourcePlan:
    """How a source is read.

    Attributes
    ----------
    path : Path
        The path as given.
    read : ReadOptions
        Its matrix, scale, genes and limits.
    max_mito : float
        As in :class:`PrepareSettings`.
    mapping : Mapping
        Sources of labels and malignancy.
    asked : frozenset of str
        Labels whose column was named for this file: it must exist. A column named for all files may be missing.
    samples : SampleSheet or None
        Table of samples, which gives columns for the cells.
    """

    path: Path
    read: ReadOptions
    max_mito: float
    mapping: Mapping
    asked: frozenset[str]
    samples: SampleSheet | None = None

    def settings(self) -> dict[str, Any]:
        """Return all settings that decide what is read from the source, flat, as JSON."""
        settings: dict[str, Any] = {name: getattr(self.read, name) for name in _READING} | {"max_mito": self.max_mito}
        if self.samples is not None:
            settings["sample"] = self.samples.describe(pd.DataFrame(index=["cell"]), self.path).iloc[0].to_dict()
        rules = self.mapping.rules()
        return settings | {name: rule.model_dump(mode="json", exclude_defaults=True) for name, rule in rules.items()}

    @contextmanager
    def opened(self) -> Iterator[CellFile]:
        """Open the source for reading."""
        with open_cells(self.path, layer=self.read.layer, samples=self.samples) as cells:
            yield cells


def plan_sources(
    paths: Sequence[Path], settings: PrepareSettings, columns: Columns, samples: SampleSheet | None = None
) -> list[SourcePlan]:
    """Return how each file is read, in the order given.

    Raises
    ------
    ConfigError
        There is no file, or one is given twice.
    InputError
        A file does not exist, is a pipe or device, or is not in the sample sheet.
    """
    if not paths:
        raise ConfigError("there is no file of cells", fix="Name at least one")
    seen: set[str] = set()
    for path in paths:
        if not path.is_dir():
            refuse_irregular(path)
        if os.path.realpath(path) in seen:
            raise ConfigError("the file is named twice", where=str(path), fix="Name it once")
        seen.add(os.path.realpath(path))
    return [_plan(path, settings, columns, samples) for path in paths]


def _plan(path: Path, settings: PrepareSettings, columns: Columns, samples: SampleSheet | None) -> SourcePlan:
    mapping, asked = Mapping(**{name: getattr(columns, name) for name in Mapping.model_fields}), set[str]()
    read = ReadOptions(**{name: getattr(settings, name) for name in _READING})
    for rules in columns.for_file(path):
        mapping, asked = rules.over(mapping), asked | set(rules.rules())
        read = replace(read, **{name: value for name in _READING if (value := getattr(rules, name, None)) is not None})
    if mapping.malignancy is None and samples is not None and samples.tells_malignancy:
        mapping = mapping.model_copy(update={"malignancy": MalignancyRule(column=MALIGNANCY)})
    if samples is not None:
        samples.sample_of(path)  # raises before anything is read
    return SourcePlan(
        path,
        read,
        max_mito=settings.max_mito,
        mapping=mapping,
        asked=frozenset(asked),
        samples=samples,
    )


def refuse_absent_columns(plans: Sequence[SourcePlan], columns: Columns) -> None:
    """Refuse a column, named for all files, that no file has: most likely a typing error.

    Files are opened, in order, only until all columns were seen.

    Raises
    ------
    InputError
        There is one; the error suggests close names.
    """
    rules = {label: rule.column for label, rule in columns.rules().items() if rule.column is not None}
    concerned = {label: [plan for plan in plans if label not in plan.asked] for label in rules}
    wanted = {label: column for label, column in rules.items() if concerned[label]}
    obs = pd.DataFrame()
    for plan in plans:
        if not any(plan in concerned[label] for label in wanted):
            continue
        with plan.opened() as cells:
            obs = cells.obs
        wanted = {
            label: column
            for label, column in wanted.items()
            if plan not in concerned[label] or column not in obs.columns
        }
    for label, column in wanted.items():
        where = f"{label} of all {len(plans):,} sources" if len(plans) > 1 else str(plans[0].path)
        find_column(obs, column, axis="obs", where=where)
