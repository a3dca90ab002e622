"""The content of a report as data: every section but the title is optional."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data.cells import CellData
from cell_lm.data.obs.columns import obs_column
from cell_lm.data.obs.malignancy import NORMAL, TUMOUR
from cell_lm.errors import InputError
from cell_lm.evaluation.geometry import Geometry
from cell_lm.evaluation.labels import Labels
from cell_lm.files import JSON
from cell_lm.genes.audit import AuditSummary
from cell_lm.plots.style import as_categories
from cell_lm.report.annotation import Annotation

NOTABLE = 12
"""Most renamed genes listed in a data set's row."""


@dataclass(frozen=True)
class Dataset:
    """One file of cells."""

    name: str
    cells: int
    audit: AuditSummary
    """What became of its genes."""
    tumour: int = 0
    """Cells labelled as tumour cells."""
    normal: int = 0
    """Cells labelled as normal cells; the others are unknown."""
    donors: int | None = None
    tissue: str | None = None
    role: str | None = None
    """What the cells were used for, as ``pretraining``."""
    source: str | None = None
    """Source and licence of the data."""
    renamed: tuple[tuple[str, str, str], ...] = ()
    """Renamed genes worth showing: (as given, approved symbol, how it was found)."""
    library_size: NDArray[np.floating] | None = None
    """Counts of each cell over the genes that were read; None where the input was not counts."""
    genes_per_cell: NDArray[np.integer] | None = None
    """Expressed genes of each cell."""

    @property
    def unknown(self) -> int:
        """Cells of unknown malignancy."""
        return self.cells - self.tumour - self.normal

    @classmethod
    def from_cells(
        cls,
        cells: CellData,
        *,
        donor: str | None = None,
        tissue: str | None = None,
        role: str | None = None,
        source: str | None = None,
    ) -> Dataset:
        """Describe cells that were read.

        Parameters
        ----------
        cells
            The cells; only numbers per cell are kept.
        donor, tissue
            Columns of ``obs``.
        role, source
            As the attributes.

        Raises
        ------
        InputError
            There is no such column.
        """
        names = [] if tissue is None else _distinct(obs_column(cells.obs, tissue, where=cells.name))
        return cls(
            name=cells.name,
            cells=len(cells),
            audit=cells.audit.shorten(),
            tumour=int((cells.malignancy == TUMOUR).sum()),
            normal=int((cells.malignancy == NORMAL).sum()),
            donors=None if donor is None else len(_distinct(obs_column(cells.obs, donor, where=cells.name))),
            tissue=", ".join([*names[:3], *(["…"] if len(names) > 3 else [])]) or None,
            role=role,
            source=source,
            renamed=_notable(cells),
            library_size=np.asarray(cells.X.sum(axis=1)).ravel() if cells.scale == "counts" else None,
            genes_per_cell=np.diff(cells.X.indptr),
        )


def _distinct(values: pd.Series) -> list[str]:
    return sorted(str(value) for value in values.dropna().unique())


def _notable(cells: CellData) -> tuple[tuple[str, str, str], ...]:
    """Return the renamed genes with the most expression."""
    table = cells.audit.table
    renamed = table[(table["status"] == "renamed") & (table["gene"] != table["symbol"])]
    weight = np.asarray(cells.X.sum(axis=0)).ravel()[renamed["index"].to_numpy(dtype=np.int64)]
    rows = renamed.iloc[np.argsort(-weight, kind="stable")[:NOTABLE]]
    return tuple((str(gene), str(symbol), str(how)) for gene, symbol, how in rows[["gene", "symbol", "how"]].to_numpy())


@dataclass(frozen=True)
class Baseline:
    """Value of a naive baseline, drawn with a curve."""

    value: float
    label: str
    """Name of the baseline, as ``always the most frequent bin``."""


@dataclass(frozen=True)
class Training:
    """The pretraining."""

    history: pd.DataFrame
    """What :func:`cell_lm.report.read_history` returns."""
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    """Baseline by column of the history, as ``masked_accuracy``."""
    seconds: float | None = None
    """Time of the training; by default the last ``seconds`` of the history."""


@dataclass(frozen=True)
class Panel:
    """One colouring of the map."""

    title: str
    values: Labels
    """One category per cell; missing ones (None, NaN) are shown as not given."""
    caption: str = ""
    """What to look for."""
    on_map: bool = False
    """Write the names of larger categories on the map, too."""

    @cached_property
    def categories(self) -> NDArray[np.str_]:
        """The categories as text."""
        return as_categories(self.values)


@dataclass(frozen=True)
class Embedding:
    """The embedding of the cells: a map, a geometry, or both."""

    coordinates: NDArray[np.floating] | None = None
    """Map coordinates [cells, 2], from :func:`cell_lm.report.project`."""
    panels: tuple[Panel, ...] = ()
    """Colourings of the map, the first one shown largest."""
    geometry: Mapping[str, Geometry] = field(default_factory=dict)
    """Geometry by the name of what was measured; the model's embedding first, others to compare it with."""
    cells: str = ""
    """Which cells these are, as ``1,204 cells of two donors that took no part in pretraining``."""
    method: str = "UMAP"
    """How the map was made; the name of its axes."""
    explorer: str = ""
    """Path from the report to the explorer of these cells; empty: there is none."""

    def __post_init__(self) -> None:
        if self.coordinates is None:
            return
        if self.coordinates.ndim != 2 or self.coordinates.shape[1] != 2:
            found = f"map coordinates of shape {self.coordinates.shape}"
            raise InputError(found, where="report", fix="Pass [cells, 2]")
        for panel in self.panels:
            if len(panel.values) != len(self.coordinates):
                found = f"panel '{panel.title}' has {len(panel.values)} values for {len(self.coordinates)} cells"
                raise InputError(found, where="report", fix="Pass one value a cell, in the same order")


@dataclass(frozen=True)
class Reproduction:
    """How to reproduce the run."""

    command: str
    version: str
    seed: int | None = None
    config: Mapping[str, JSON] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    """From :func:`cell_lm.report.environment`."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files next to the report: relative path by content."""


@dataclass(frozen=True)
class ReportData:
    """The content of a report."""

    title: str
    summary: str = ""
    """One or two sentences: what was done, on what."""
    parameters: int | None = None
    """Trainable parameters of the model."""
    model: str = ""
    """Description of the model, as ``small: latent attention, 4 layers of width 128``."""
    vocabulary: int | None = None
    """Genes in the model's vocabulary."""
    seconds: float | None = None
    """Time of the whole run."""
    datasets: tuple[Dataset, ...] = ()
    training: Training | None = None
    embedding: Embedding | None = None
    annotation: Annotation | None = None
    reproduction: Reproduction | None = None
    limits: tuple[str, ...] = ()
    """Limitations of this run, in addition to the general ones."""
