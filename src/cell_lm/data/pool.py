"""Several datasets as one: a running index over all their cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cell_lm.data.batch import CellBatch
from cell_lm.data.cells import CellData
from cell_lm.data.tokeniser import Part, Tokeniser
from cell_lm.errors import InputError


class CellPool:
    """The cells of several datasets, one after the other, to be tokenised in any mixture.

    Parameters
    ----------
    datasets
        Aligned to one vocabulary; they may differ in the scale that they were given on.
    tokeniser
        Makes the tokens.

    Attributes
    ----------
    starts : ndarray
        int64 [datasets + 1]: cells ``starts[d]`` to ``starts[d + 1]`` are those of dataset ``d``.
    state : ndarray
        int8 [cells]: ``NORMAL``, ``TUMOUR`` or ``UNKNOWN``.
    lengths : ndarray
        int64 [cells]: tokens that each gives.

    Raises
    ------
    InputError
        There is no dataset, or their vocabularies differ.
    """

    def __init__(self, datasets: Sequence[CellData], tokeniser: Tokeniser) -> None:
        if not datasets:
            raise InputError("there are no datasets", fix="Give at least one")
        for other in datasets[1:]:
            if other.vocabulary.hash != datasets[0].vocabulary.hash:
                found = f"its vocabulary ({len(other.vocabulary):,} genes) is not that of {datasets[0].name}"
                raise InputError(found, where=other.name, fix="Read all datasets with the same vocabulary")
        self.datasets, self.tokeniser = tuple(datasets), tokeniser
        self.starts = np.cumsum([0, *map(len, datasets)], dtype=np.int64)
        self.state = np.concatenate([cells.state for cells in datasets])
        self.lengths = np.concatenate([tokeniser.lengths(cells) for cells in datasets])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def tokenise(self, index: NDArray[np.int64]) -> CellBatch:
        """Return the cells at ``index`` (int64 [C], in this order) as a batch, in the slots 0 to C - 1."""
        return self.tokeniser.assemble(self._parts(np.asarray(index, np.int64)), len(index))

    def _parts(self, index: NDArray[np.int64]) -> Iterator[Part]:
        which = np.searchsorted(self.starts, index, side="right") - 1
        if len(index) and not 0 <= which.min() <= which.max() < len(self.datasets):
            raise IndexError(f"cells {index.min()} to {index.max()} of {len(self)}")
        for number, cells in enumerate(self.datasets):
            places = np.flatnonzero(which == number)
            if len(places):
                yield Part(cells, index[places] - self.starts[number], places)
