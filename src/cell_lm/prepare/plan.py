"""How each file is to be read: the settings for all, with what the columns file says of it."""

from __future__ import annotations

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
from cell_lm.data.scale.check import Scale
from cell_lm.errors import ConfigError
from cell_lm.prepare.columns import Columns, MalignancyRule, Mapping
from cell_lm.reading import refuse_irregular

_READING = ("layer", "scale", "gene_column", "min_genes", "min_overlap")
"""Settings that are options of reading."""


class PrepareSettings(BaseModel):
    """What decides the content of a store, besides its files and its columns file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    layer: str | None = None
    """Which matrix of a file: X by default, a layer's name, or ``raw``."""
    scale: Scale = "counts"
    """What it holds: ``counts``, or the natural ``log1p`` of scaled counts."""
    gene_column: str | None = None
    """Column of ``var`` that holds gene symbols or Ensembl ids; default: the names of the genes."""
    min_genes: Annotated[int, Field(ge=1)] = 200
    """Fewest expressed genes of the vocabulary that a cell must have."""
    max_mito: Annotated[float, Field(ge=0.0, le=1.0)] = 0.2
    """Largest share of a cell's counts that mitochondrial genes may have; 1 leaves none out."""
    min_overlap: Annotated[int, Field(ge=1)] | None = None
    """Fewest genes of the vocabulary that must be among a file's; default: one in twenty."""
    shard_cells: Annotated[int, Field(ge=1)] = 65_536
    """Cells in a shard."""
    keep_duplicates: bool = False
    """Keep cells that are the same as an earlier one."""


@dataclass(frozen=True, eq=False)
class SourcePlan:
    """How a source is read.

    Attributes
    ----------
    path : Path
        As it was given.
    read : ReadOptions
        Its matrix, scale, genes and limits.
    max_mito : float
        As in :class:`PrepareSettings`.
    mapping : Mapping
        Where labels and malignancy come from.
    asked : frozenset of str
        Labels whose column was named for this very file: it must be there. A column named for all files may lack.
    samples : SampleSheet or None
        What is known of samples: columns for the cells.
    """

    path: Path
    read: ReadOptions
    max_mito: float
    mapping: Mapping
    asked: frozenset[str]
    samples: SampleSheet | None = None

    def settings(self) -> dict[str, Any]:
        """Return all that decides what is read of the source, flat, as JSON."""
        said: dict[str, Any] = {name: getattr(self.read, name) for name in _READING} | {"max_mito": self.max_mito}
        if self.samples is not None:
            said["sample"] = self.samples.describe(pd.DataFrame(index=["cell"]), self.path).iloc[0].to_dict()
        rules = self.mapping.rules()
        return said | {name: rule.model_dump(mode="json", exclude_defaults=True) for name, rule in rules.items()}

    @contextmanager
    def opened(self) -> Iterator[CellFile]:
        """Open the source to be read."""
        with open_cells(self.path, layer=self.read.layer, samples=self.samples) as cells:
            yield cells


def plan_sources(
    paths: Sequence[Path], settings: PrepareSettings, columns: Columns, samples: SampleSheet | None = None
) -> list[SourcePlan]:
    """Return how each file is read, in the order given.

    Raises
    ------
    ConfigError
        There is no file, or one is named twice.
    InputError
        There is no such file, it is a pipe or device, or it is none of the samples.
    """
    if not paths:
        raise ConfigError("there is no file of cells", fix="Name at least one")
    seen: set[Path] = set()
    for path in paths:
        if not path.is_dir():
            refuse_irregular(path)
        if path.resolve() in seen:
            raise ConfigError("the file is named twice", where=str(path), fix="Name it once")
        seen.add(path.resolve())
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
        samples.sample_of(path)  # refused before anything is read
    return SourcePlan(
        path,
        read,
        max_mito=settings.max_mito,
        mapping=mapping,
        asked=frozenset(asked),
        samples=samples,
    )


def refuse_absent_columns(plans: Sequence[SourcePlan], columns: Columns) -> None:
    """Refuse a column, named for all files, that no file has: most likely a slip of the pen.

    Files are opened, in order, only until all columns were seen.

    Raises
    ------
    InputError
        There is one; close names are told.
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
