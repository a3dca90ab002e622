"""Several datasets as one: one index over all their cells, in memory or on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from cell_lm.data import protocol
from cell_lm.data.loading.batch import CellBatch
from cell_lm.data.loading.readahead import ReadAhead
from cell_lm.data.loading.tokeniser import Part, Tokeniser
from cell_lm.data.protocol import Cells, CellsInFile, Dataset, in_file, parts_of, refuse_z_scores
from cell_lm.errors import InputError


class LoadedRows(NamedTuple):
    """Rows of a file that are now in memory: which ones, int64, ascending; and their cells, in the same order."""

    rows: NDArray[np.int64]
    cells: Cells


class ConcatCells:
    """The cells of several datasets under one index, to tokenise in any combination.

    Parameters
    ----------
    datasets
        In memory, in a store or in a file; aligned to one vocabulary. They may differ in scale.
    tokeniser
        Makes the tokens.

    Attributes
    ----------
    parts : tuple
        The datasets; a store has one part per shard.
    starts : ndarray
        int64 [parts + 1]: cells ``starts[p]`` to ``starts[p + 1]`` are those of part ``p``.
    malignancy : ndarray
        int8 [cells]: ``NORMAL``, ``TUMOUR`` or ``UNKNOWN``.

    Raises
    ------
    InputError
        There is no dataset, or their vocabularies differ.
    """

    def __init__(self, datasets: Sequence[Dataset], tokeniser: Tokeniser) -> None:
        if not datasets:
            raise InputError("there are no datasets", fix="Give at least one")
        for dataset in datasets:
            refuse_z_scores(dataset, where=dataset.name)
        for other in datasets[1:]:
            if other.vocabulary.hash != datasets[0].vocabulary.hash:
                found = f"its vocabulary ({len(other.vocabulary):,} genes) is not that of {datasets[0].name}"
                raise InputError(found, where=other.name, fix="Read all datasets with the same vocabulary")
        self.tokeniser, self._read_ahead = tokeniser, ReadAhead()
        self.parts = tuple(part for dataset in datasets for part in parts_of(dataset))
        self.starts = np.cumsum([0, *map(len, self.parts)], dtype=np.int64)
        self.malignancy = np.concatenate([np.empty(0, np.int8), *(part.malignancy for part in self.parts)])

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """int32 [cells]: tokens of each cell, known without reading the counts."""
        return np.concatenate([np.empty(0, np.int32), *map(self._lengths, self.parts)])

    def _lengths(self, part: protocol.Part) -> NDArray[np.int32]:
        return np.minimum(part.genes_per_cell, self.tokeniser.max_genes).astype(np.int32)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def reads_files(self) -> bool:
        """Whether some cells are read from a file on demand, which is faster for many at a time."""
        return any(in_file(part) for part in self.parts)

    def load(self, index: NDArray[np.integer[Any]]) -> Mapping[int, LoadedRows]:
        """Read the cells at ``index`` that are in files, all at once and in file order.

        Returns
        -------
        mapping
            Number of each part that is a file, to its rows; empty where no part is one.
        """
        if not self.reads_files:
            return {}
        cells = np.unique(np.asarray(index, np.int64))
        which = self._which(cells)
        return {
            number: self._read(part, cells[which == number] - self.starts[number])
            for number, part in enumerate(self.parts)
            if in_file(part)
        }

    def _read(self, part: CellsInFile, rows: NDArray[np.int64]) -> LoadedRows:
        return LoadedRows(rows, part.read(rows))

    def tokenise(self, index: NDArray[np.integer[Any]], loaded: Mapping[int, LoadedRows] | None = None) -> CellBatch:
        """Return the cells at ``index`` ([C], in this order) as a batch, in the slots 0 to C - 1.

        Parameters
        ----------
        index
            Indices of the cells.
        loaded
            What :meth:`load` returned for these cells, or for more; default: cells in files are read now.
        """
        cells = np.asarray(index, np.int64)
        if loaded is None:
            loaded = self.load(cells)
        parts, announce = list(self._parts(cells, loaded)), self._read_ahead.begin()
        if announce:
            for part in parts:
                if hasattr(part.cells, "announce"):
                    part.cells.announce(part.rows)
        batch = self.tokeniser.assemble(parts, len(index))
        self._read_ahead.end(len(index))
        return batch

    def _which(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        which = np.searchsorted(self.starts, index, side="right") - 1
        if len(index) and not 0 <= which.min() <= which.max() < len(self.parts):
            raise IndexError(f"cells {index.min()} to {index.max()} of {len(self)}")
        return which

    def _parts(self, index: NDArray[np.int64], loaded: Mapping[int, LoadedRows]) -> Iterator[Part]:
        which = self._which(index)
        order = np.argsort(which, kind="stable")  # one pass over the cells for any number of shards
        bounds = np.searchsorted(which[order], np.arange(len(self.parts) + 1))
        for number in np.flatnonzero(np.diff(bounds)):
            positions, part = order[bounds[number] : bounds[number + 1]], self.parts[number]
            rows = index[positions] - self.starts[number]
            if in_file(part):
                in_memory = loaded[int(number)]
                yield Part(in_memory.cells, np.searchsorted(in_memory.rows, rows), positions)
            else:
                yield Part(cast("Cells", part), rows, positions)
