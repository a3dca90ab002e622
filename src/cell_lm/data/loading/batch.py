"""A packed batch of cells: the genes of all cells in one array, with the start of each cell; no padding.

Shapes: C cells, T genes over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

PER_CELL = 10_000.0
"""Total that the counts of a cell are scaled to before the logarithm."""


@dataclass(frozen=True)
class CellBatch:
    """Tokenised cells, one after the other.

    Attributes
    ----------
    genes : Tensor
        int64 [T]: index of the gene in the vocabulary.
    bins : Tensor
        int64 [T]: bin of its expression.
    values : Tensor
        float32 [T]: log1p of its counts per 10,000.
    offsets : ndarray
        int64 [C + 1], on the CPU: cell ``c`` holds the tokens ``offsets[c]`` to ``offsets[c + 1]``; no cell is empty.
    malignancy : Tensor
        int64 [C]: ``NORMAL``, ``TUMOUR`` or ``UNKNOWN``.
    slots : Tensor
        int64 [C]: the position of each cell in the global batch. Dropout and masking are functions of it, so a cell
        keeps its slot when the batch is cut into chunks or spread over ranks.
    depths : Tensor
        float32 [C]: sequencing depth, the total of the counts of each cell over the vocabulary. A cell whose expression
        is not whole counts has a nominal depth (:mod:`cell_lm.data.loading.tokeniser`).
    """

    genes: Tensor
    bins: Tensor
    values: Tensor
    offsets: NDArray[np.int64]
    malignancy: Tensor
    slots: Tensor
    depths: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def tokens(self) -> int:
        """T, the number of genes over all cells."""
        return int(self.offsets[-1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Genes in each cell, int64 [C]."""
        return np.diff(self.offsets)

    def __getitem__(self, cells: slice) -> CellBatch:
        """Return consecutive cells, as views on the same memory; they keep their slots."""
        start, stop, stride = cells.indices(len(self))
        if stride != 1:
            raise IndexError("a batch is cut into consecutive cells only")
        stop = max(start, stop)
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        return CellBatch(
            self.genes[first:last],
            self.bins[first:last],
            self.values[first:last],
            self.offsets[start : stop + 1] - first,
            self.malignancy[start:stop],
            self.slots[start:stop],
            self.depths[start:stop],
        )

    def expression(self, genes: int) -> sparse.csr_matrix[np.float32]:
        """Return the values as a sparse matrix, float32 [C, genes]; on the CPU."""
        values, columns = self.values.cpu().numpy(), self.genes.cpu().numpy()
        return sparse.csr_matrix((values, columns, self.offsets), shape=(len(self), genes))

    def counts(self, genes: int) -> sparse.csr_matrix[np.float32]:
        """Return the counts as a sparse matrix, float32 [C, genes]; on the CPU."""
        matrix, depths = self.expression(genes), self.depths.cpu().numpy()
        matrix.data = np.expm1(matrix.data) * np.repeat(depths / np.float32(PER_CELL), self.lengths)
        return matrix

    def rows(self, cells: NDArray[np.integer[Any]]) -> CellBatch:
        """Return the cells at given positions, in this order; on the CPU."""
        cells = np.asarray(cells, np.int64)
        lengths = self.lengths[cells]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        tokens = np.arange(offsets[-1]) + np.repeat(self.offsets[cells] - offsets[:-1], lengths)
        of_token, of_cell = torch.from_numpy(tokens), torch.from_numpy(cells)
        genes, bins, values = (part.index_select(0, of_token) for part in (self.genes, self.bins, self.values))
        cell_parts = (part.index_select(0, of_cell) for part in (self.malignancy, self.slots, self.depths))
        return CellBatch(genes, bins, values, offsets, *cell_parts)

    def keep(self, genes: Tensor) -> CellBatch:
        """Return the same cells with only some of their genes, given as bool [T]; a cell that keeps none keeps all."""
        return self.take(self.kept(genes.cpu().numpy()))

    def kept(self, genes: NDArray[np.bool_], among: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Return the tokens that :meth:`keep` keeps, in order; on the CPU.

        With ``among``, bool [T], only those are there to be kept.
        """
        cell = np.repeat(np.arange(len(self)), self.lengths)
        genes = genes if among is None else genes & among
        left = np.bincount(cell[genes], minlength=len(self))
        found = genes | (left == 0)[cell]
        return np.flatnonzero(found if among is None else found & among)

    def take(self, tokens: NDArray[np.int64]) -> CellBatch:
        """Return the same cells with only the given tokens, in ascending order."""
        index, offsets = to_device(tokens, self.genes.device), np.searchsorted(tokens, self.offsets)
        genes, bins, values = (part.index_select(0, index) for part in (self.genes, self.bins, self.values))
        return replace(self, genes=genes, bins=bins, values=values, offsets=offsets)

    def with_expression(self, values: Tensor, bins: Tensor, depths: Tensor) -> CellBatch:
        """Return the same genes with other values and bins, [T], at other depths, [C]."""
        return replace(self, values=values, bins=bins, depths=depths)

    def chunks(self, token_budget: int) -> Iterator[CellBatch]:
        """Cut into runs of consecutive cells of at most ``token_budget`` genes; a longer cell is a chunk of its own."""
        start = 0
        while start < len(self):
            fits = int(np.searchsorted(self.offsets, self.offsets[start] + token_budget, side="right")) - 1
            stop = max(fits, start + 1)
            yield self[start:stop]
            start = stop

    def with_slots(self, first: int) -> CellBatch:
        """Return the same cells in the slots ``first``, ``first + 1`` and so on."""
        return replace(self, slots=torch.arange(first, first + len(self), device=self.slots.device))

    def pin(self) -> CellBatch:
        """Return the batch in pinned memory, for asynchronous copies to a GPU; the offsets are unchanged."""
        return self._each(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> CellBatch:
        """Move all but the offsets to a device; to a GPU asynchronously."""
        batch = self.pin() if device.type == "cuda" and self.genes.device.type == "cpu" else self
        return batch._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> CellBatch:
        return CellBatch(
            genes=change(self.genes),
            bins=change(self.bins),
            values=change(self.values),
            offsets=self.offsets,
            malignancy=change(self.malignancy),
            slots=change(self.slots),
            depths=change(self.depths),
        )


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """Return an array as a tensor on a device; to a GPU it is copied asynchronously."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def concatenate(batches: Sequence[CellBatch]) -> CellBatch:
    """Join batches in order; every cell keeps its slot."""
    shifts = np.cumsum([0, *(batch.tokens for batch in batches)])
    offsets = [batch.offsets[1:] + shift for batch, shift in zip(batches, shifts, strict=False)]
    return CellBatch(
        torch.cat([batch.genes for batch in batches]),
        torch.cat([batch.bins for batch in batches]),
        torch.cat([batch.values for batch in batches]),
        np.concatenate([np.zeros(1, np.int64), *offsets]),
        torch.cat([batch.malignancy for batch in batches]),
        torch.cat([batch.slots for batch in batches]),
        torch.cat([batch.depths for batch in batches]),
    )
