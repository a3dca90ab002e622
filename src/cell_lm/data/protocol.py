"""Interfaces of datasets to train on: in memory, in a store, or in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypeGuard

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data.scale.logarithms import Z_SCORED
from cell_lm.errors import CountsError
from cell_lm.genes import Vocabulary


class Rows(Protocol):
    """The three arrays of a CSR matrix, in memory or memory-mapped, of any integer or floating type."""

    @property
    def data(self) -> NDArray[Any]:
        """Counts of all rows, one after the other."""

    @property
    def indices(self) -> NDArray[Any]:
        """Vocabulary index of the gene of each entry, ascending within a row."""

    @property
    def indptr(self) -> NDArray[Any]:
        """Start of each row, and the end of the last."""


class Known(Protocol):
    """Properties of cells that need no access to their counts."""

    @property
    def name(self) -> str:
        """Name of the file, for messages."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Vocabulary of the genes."""

    @property
    def malignancy(self) -> NDArray[np.int8]:
        """int8 [cells]: ``NORMAL``, ``TUMOUR`` or ``UNKNOWN``."""

    @property
    def genes_per_cell(self) -> NDArray[np.int64]:
        """int64 [cells]: expressed genes of the vocabulary."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the other columns."""

    def column(self, name: str) -> pd.Series[Any]:
        """Return one of the columns, one value per cell."""

    def __len__(self) -> int: ...


class Cells(Known, Protocol):
    """Cells whose counts can be accessed by row: :class:`~cell_lm.data.cells.CellData`, a shard of a store."""

    @property
    def X(self) -> Rows:  # noqa: N802
        """Counts, or values proportional to them within a cell; positive, no row empty."""


class CellsInFile(Known, Protocol):
    """Cells whose counts are read from a file on demand."""

    def read(self, rows: NDArray[np.int64]) -> Cells:
        """Return the cells at ``rows`` (ascending, each once), in this order."""


Part: TypeAlias = Cells | CellsInFile
"""Cells with access by row."""


class Sharded(Protocol):
    """Cells in several parts: a store."""

    @property
    def name(self) -> str:
        """Name of the store, for messages."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Vocabulary of the genes."""

    @property
    def shards(self) -> Sequence[Cells]:
        """The parts, in order."""

    def __len__(self) -> int: ...


Dataset: TypeAlias = Cells | CellsInFile | Sharded
"""Any dataset for pretraining."""


def in_file(part: Part) -> TypeGuard[CellsInFile]:
    """Return whether the cells are read on demand."""
    return hasattr(part, "read")


def z_scored(dataset: object) -> bool:
    """Return whether the values of a dataset are z-scores rather than counts."""
    return getattr(dataset, "scale", "counts") == Z_SCORED


def refuse_z_scores(dataset: object, *, where: str) -> None:
    """Raise :class:`~cell_lm.errors.CountsError` for cells that only drug sensitivity can read."""
    if z_scored(dataset):
        fix = "Give raw counts, or a logarithm of them; z-scores are read by drug sensitivity alone"
        raise CountsError("it was read as z-scores, from which no expression comes back", where=where, fix=fix)


def parts_of(dataset: Dataset) -> Sequence[Part]:
    """Return the parts of a dataset, each with access by row."""
    shards: Sequence[Part] | None = getattr(dataset, "shards", None)
    return (dataset,) if shards is None else shards  # type: ignore[return-value]
