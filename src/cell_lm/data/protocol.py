"""What cells must offer to be learned from, wherever they are: in memory, in a store, in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypeGuard

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.genes import Vocabulary


class Rows(Protocol):
    """The three arrays of a CSR matrix, in memory or mapped into it, of whatever whole or floating type."""

    @property
    def data(self) -> NDArray[Any]:
        """Counts of all rows, one after the other."""

    @property
    def indices(self) -> NDArray[Any]:
        """Gene of the vocabulary of each, ascending within a row."""

    @property
    def indptr(self) -> NDArray[Any]:
        """Where each row begins, and the end of the last."""


class Known(Protocol):
    """What is known of cells without touching their counts."""

    @property
    def name(self) -> str:
        """Of the file, for messages."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The genes."""

    @property
    def malignancy(self) -> NDArray[np.int8]:
        """int8 [cells]: ``NORMAL``, ``TUMOUR`` or ``UNKNOWN``."""

    @property
    def genes_per_cell(self) -> NDArray[np.int64]:
        """int64 [cells]: expressed genes of the vocabulary."""

    @property
    def columns(self) -> Sequence[str]:
        """What else is known of the cells, by name."""

    def column(self, name: str) -> pd.Series[Any]:
        """Return one of the columns, a value a cell."""

    def __len__(self) -> int: ...


class Cells(Known, Protocol):
    """Cells whose counts can be addressed: :class:`~cell_lm.data.cells.CellData`, a shard of a store."""

    @property
    def X(self) -> Rows:  # noqa: N802
        """Counts, or what is proportional to them within a cell; positive, no row empty."""


class CellsInFile(Known, Protocol):
    """Cells whose counts are read from a file when they are asked for."""

    def read(self, rows: NDArray[np.int64]) -> Cells:
        """Return the cells at ``rows`` (ascending, each once), in this order."""


Part: TypeAlias = Cells | CellsInFile
"""Cells that can be addressed row by row."""


class Sharded(Protocol):
    """Cells in several parts: a store."""

    @property
    def name(self) -> str:
        """Of the store, for messages."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The genes."""

    @property
    def shards(self) -> Sequence[Cells]:
        """The parts, in order."""

    def __len__(self) -> int: ...


Dataset: TypeAlias = Cells | CellsInFile | Sharded
"""Whatever a model can be pretrained on."""


def in_file(part: Part) -> TypeGuard[CellsInFile]:
    """Tell whether the cells are read when they are asked for."""
    return hasattr(part, "read")


def parts_of(dataset: Dataset) -> Sequence[Part]:
    """Return the parts of a dataset that can be addressed row by row."""
    shards: Sequence[Part] | None = getattr(dataset, "shards", None)
    return (dataset,) if shards is None else shards  # type: ignore[return-value]
