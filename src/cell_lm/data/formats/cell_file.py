"""Cells of a file, read in blocks: the common interface of all formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from cell_lm.data.formats.source import Source, X, plain, sparse_damage
from cell_lm.errors import InputError
from cell_lm.remedies import option

MOST_ENTRIES = 1 << 22
"""Most entries per read: 32 to 64 MB; a block of cells with more entries ends early."""


@dataclass(frozen=True)
class CellFile:
    """Cells of one file, on any scale, read in blocks of consecutive cells; nothing large is in memory.

    Attributes
    ----------
    name : str
        The file, for messages.
    place : str
        Location of the matrix: ``X``, ``layer 'counts'``, ``raw``, ``matrix``.
    obs, var : DataFrame
        The cells, under their barcodes, and the genes, under their names in the file.
    elsewhere : tuple of str
        The other matrices, each as a value for ``layer``.
    read : callable
        Yields consecutive cells as CSR, at most the given number at a time; use :meth:`blocks`, which checks them.
    remarks : tuple of str
        Choices made to read the file, to show to the user.
    """

    name: str
    place: str
    obs: pd.DataFrame
    var: pd.DataFrame
    elsewhere: tuple[str, ...]
    read: Callable[[int], Iterator[sparse.csr_matrix[Any]]] = field(repr=False)
    remarks: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Location of the matrix, for messages."""
        return f"{self.name}, {self.place}"

    def __len__(self) -> int:
        return len(self.obs)

    def blocks(self, cells: int) -> Iterator[sparse.csr_matrix[Any]]:
        """Yield all cells in the order of ``obs``, at most ``cells`` at a time (fewer if cells are large).

        Yields
        ------
        csr_matrix
            [some cells, genes of ``var``], any real dtype, canonical: sorted, no duplicates. Zeros may be stored.

        Raises
        ------
        InputError
            The block is damaged, or the file ends too early.
        """
        if cells < 1:
            raise ValueError(f"blocks of {cells} cells")
        done = 0
        for block in self.read(cells):
            yield _tidy(block, f"{self.where}, from cell {done:,} on", len(self.var))
            done += block.shape[0]
        if done != len(self.obs):
            found = f"{done:,} of its {len(self.obs):,} cells were read"
            raise InputError(found, where=self.where, fix="Copy or download the file again")

    def whole(self) -> Source:
        """Read all cells into memory."""
        blocks = list(self.blocks(1 << 14))
        joined = sparse.csr_matrix(sparse.vstack(blocks, format="csr")) if len(blocks) != 1 else blocks[0]
        matrix = plain(joined, (len(self.obs), len(self.var)), where=self.where)
        return Source(self.name, self.place, matrix, self.obs, self.var, self.elsewhere, self.remarks)


def _tidy(block: sparse.csr_matrix[Any], where: str, genes: int) -> sparse.csr_matrix[Any]:
    """Check a block, then sort it and sum duplicates."""
    if block.shape[1] != genes:
        raise InputError(f"it has {block.shape[1]:,} columns for {genes:,} genes", where=where)
    damage = sparse_damage(block.data, block.indices, block.indptr, block.shape)
    if damage:
        raise InputError(f"its sparse index is damaged: {damage}", where=where, fix="Write it again from its source")
    block.sort_indices()
    if not block.has_canonical_format:
        if block.dtype.kind in "bui":
            block = block.astype(np.int64)  # sums of narrow integers could overflow
        block.sum_duplicates()
    return block


def only_matrix(layer: str | None, name: str) -> None:
    """Refuse ``layer`` for a format without layers."""
    if layer not in (None, X):
        found = f"it has no layer '{layer}': a file of this format holds one matrix"
        raise InputError(found, where=name, fix=f"Leave {option('layer')} out")
