"""Positions of the rows of each cell among packed rows, computed once per batch and used by all layers.

The lengths are on the CPU, so that nothing here waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cell_lm.data.loading.batch import CellBatch, to_device

_GROWTH = 1.25
"""Largest ratio of lengths in a bucket, for long cells: at most a fifth of a bucket is padding."""
_SHORT = 8
"""Lengths far below this fall into few buckets."""


@dataclass(frozen=True)
class Segments:
    """Packed rows, one segment for each of C cells.

    Attributes
    ----------
    lengths : ndarray
        int64 [C]: number of rows of each cell, 0 or more.
    offsets : Tensor
        int32 [C + 1], on the device of the rows: cell ``c`` holds the rows ``offsets[c]`` to ``offsets[c + 1]``.
    """

    lengths: NDArray[np.int64]
    offsets: Tensor

    @classmethod
    def of(cls, lengths: NDArray[np.int64], device: torch.device) -> Segments:
        """Return the segments of given lengths."""
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return cls(lengths, to_device(offsets.astype(np.int32), device))

    @classmethod
    def equal(cls, cells: int, rows: int, device: torch.device) -> Segments:
        """Return segments of equally many rows."""
        return cls.of(np.full(cells, rows, np.int64), device)

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def sizes(self) -> list[int]:
        """The lengths as Python integers."""
        sizes: list[int] = self.lengths.tolist()
        return sizes

    @cached_property
    def rows(self) -> int:
        """Rows over all cells."""
        return sum(self.sizes)

    @cached_property
    def longest(self) -> int:
        """Rows of the longest cell; 0 without cells."""
        return max(self.sizes, default=0)


@dataclass(frozen=True)
class Bucket:
    """Cells of similar lengths, which are computed together.

    Attributes
    ----------
    cells : Tensor
        int64 [c]: indices of the cells, on the device of the rows.
    queries, keys : int
        Rows of the longest cell of the bucket.
    filled : Tensor | None
        bool [c, keys]: False for padding; None if there is no padding.
    """

    cells: Tensor
    queries: int
    keys: int
    filled: Tensor | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells, queries and keys."""
        return len(self.cells), self.queries, self.keys


@dataclass(frozen=True)
class Buckets:
    """All cells of a batch in buckets.

    Attributes
    ----------
    buckets : tuple of Bucket
    query_rows, key_rows : Tensor
        int64 [R]: index of each packed row among the padded rows of all buckets, concatenated.
    """

    buckets: tuple[Bucket, ...]
    query_rows: Tensor
    key_rows: Tensor

    def split_queries(self, rows: Tensor) -> Iterator[Tensor]:
        """Spread packed rows [R, ...] over the buckets, [c, queries, ...] each; padding is zero."""
        return self._split(rows, self.query_rows, [(len(b.cells), b.queries) for b in self.buckets])

    def split_keys(self, rows: Tensor) -> Iterator[Tensor]:
        """Spread packed rows [R, ...] over the buckets, [c, keys, ...] each; padding is zero."""
        return self._split(rows, self.key_rows, [(len(b.cells), b.keys) for b in self.buckets])

    @staticmethod
    def _split(rows: Tensor, index: Tensor, shapes: list[tuple[int, int]]) -> Iterator[Tensor]:
        # no index occurs twice, so this and its gradient (a gather) are deterministic
        sizes = [cells * longest for cells, longest in shapes]
        padded = rows.new_zeros(sum(sizes), *rows.shape[1:]).index_copy(0, index, rows)
        for part, shape in zip(torch.split(padded, sizes), shapes, strict=True):
            yield part.view(*shape, *rows.shape[1:])

    def join_queries(self, parts: list[Tensor]) -> Tensor:
        """Return packed rows: the inverse of :meth:`split_queries`."""
        return torch.cat([part.flatten(0, 1) for part in parts]).index_select(0, self.query_rows)


@dataclass(frozen=True)
class AttentionLayout:
    """Queries and keys of each cell; queries attend to the keys of their own cell.

    Attributes
    ----------
    queries, keys : Segments
        Segments of the same cells.
    """

    queries: Segments
    keys: Segments

    def __len__(self) -> int:
        return len(self.queries)

    def with_more_queries(self, times: int) -> AttentionLayout:
        """Return the layout of ``times`` query rows in place of each one."""
        return AttentionLayout(Segments(self.queries.lengths * times, self.queries.offsets * times), self.keys)

    @cached_property
    def buckets(self) -> Buckets:
        """The cells in buckets of similar counts of queries and of keys."""
        kinds = np.stack([_length_class(part.lengths) for part in (self.queries, self.keys)])
        _, bucket = np.unique(kinds, axis=1, return_inverse=True)
        bucket, device = bucket.reshape(-1), self.queries.offsets.device
        members = [np.flatnonzero(bucket == number) for number in range(int(bucket.max(initial=-1)) + 1)]
        return Buckets(
            tuple(self._bucket(cells, device) for cells in members),
            to_device(_padded_rows(self.queries.lengths, members), device),
            to_device(_padded_rows(self.keys.lengths, members), device),
        )

    def _bucket(self, cells: NDArray[np.int64], device: torch.device) -> Bucket:
        queries, lengths = int(self.queries.lengths[cells].max()), self.keys.lengths[cells]
        keys, filled = int(lengths.max()), None
        if (lengths < keys).any():
            filled = torch.arange(keys, device=device) < to_device(lengths, device)[:, None]
        return Bucket(to_device(cells, device), queries, keys, filled)


def _length_class(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a class for each length, equal for similar lengths; cells without rows have their own class."""
    number = np.floor(np.log((lengths + _SHORT) / _SHORT) / np.log(_GROWTH)).astype(np.int64)
    return np.where(lengths == 0, -1, number)


def _padded_rows(lengths: NDArray[np.int64], members: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the index of each packed row when the cells of each bucket are padded to its longest, int64 [R]."""
    first, done = np.zeros(len(lengths), np.int64), 0
    for cells in members:
        longest = int(lengths[cells].max())
        first[cells] = done + longest * np.arange(len(cells))
        done += longest * len(cells)
    packed = np.cumsum(lengths) - lengths
    result: NDArray[np.int64] = np.arange(int(lengths.sum())) + np.repeat(first - packed, lengths)
    return result


def cell_of_gene(batch: CellBatch) -> Tensor:
    """Return the cell that each gene of the batch belongs to, int64 [T]."""
    device = batch.genes.device
    lengths = to_device(batch.lengths, device)
    return torch.arange(len(batch), device=device).repeat_interleave(lengths, output_size=batch.tokens)


@dataclass(frozen=True)
class HiddenGenes:
    """The genes of a batch whose expression is hidden, and those of them that are predicted.

    Attributes
    ----------
    mask : Tensor
        bool [T], on the device of the batch: the hidden genes.
    index : Tensor
        int64 [M]: indices of the predicted genes, on that device.
    lengths : ndarray
        int64 [C]: number of predicted genes of each cell.
    """

    mask: Tensor
    index: Tensor
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, hidden: Tensor, batch: CellBatch, predicted: Tensor | None = None) -> HiddenGenes:
        """Return the hidden genes given bool [T], all predicted by default; if that is on a GPU, this waits for it."""
        device = batch.genes.device
        index = np.flatnonzero((hidden if predicted is None else predicted).cpu().numpy())
        mask = hidden if hidden.device == device else to_device(hidden.numpy(), device)
        lengths = np.diff(np.searchsorted(index, batch.offsets))
        return cls(mask, to_device(index, device), lengths)

    def among(self, genes: Tensor) -> HiddenGenes:
        """Return them among some genes of the batch, given by index, ascending; all predicted ones are among those."""
        return HiddenGenes(self.mask.index_select(0, genes), torch.searchsorted(genes, self.index), self.lengths)
