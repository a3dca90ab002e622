r"""The contrastive loss of a whole batch and its gradient, in tiles: the full matrix of logits is never in memory.

Of N cells there are two views each, 2N unit vectors z. Each view has one positive, the other view of its cell, and 2N
- 2 negatives, all views of all other cells (NT-Xent, InfoNCE over both views [1]_). With :math:`s_{ij} = z_i \cdot z_j
/ \tau` and :math:`\ell_i = \log \sum_{j \ne i} e^{s_{ij}}`,

.. math:: L = \frac{1}{2N} \sum_i (\ell_i - s_{i,p(i)}), \qquad
   \frac{\partial L}{\partial z_i} = \frac{1}{2N\tau}
   \Big( \sum_{j \ne i} (e^{s_{ij} - \ell_i} + e^{s_{ij} - \ell_j}) z_j - 2 z_{p(i)} \Big).

One sweep over the tiles of s gives every :math:`\ell`, a second one the gradient. Memory beyond z and its gradient is
one tile. s is symmetric, so where one process computes all rows, a tile above the diagonal serves its rows and its
columns. Several ranks each compute the rows of their own cells, and exchange only :math:`\ell`, one number per view.

References
----------
.. [1] Chen et al. (2020). A simple framework for contrastive learning of visual representations. ICML, equation 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cell_lm.nn.linear import linear

TILE = 1024


class _Tile(NamedTuple):
    """A tile of s: its rows, its columns, and whether its transpose represents a tile below the diagonal."""

    rows: slice
    columns: slice
    similarity: Tensor
    mirrored: bool


def _blocks(start: int, stop: int, tile: int) -> list[slice]:
    return [slice(first, min(first + tile, stop)) for first in range(start, stop, tile)]


def _leave_out_self(similarity: Tensor, row: int, column: int) -> None:
    """Set the entries of a view with itself to -inf; the tile starts at ``row`` and ``column`` of s."""
    height, width = similarity.shape
    first, last = max(row, column), min(row + height, column + width)
    if first < last:
        similarity[first - row : last - row, first - column : last - column].diagonal().fill_(-torch.inf)


class _Tiles:
    """The tiles of all rows (on and above the diagonal), or of the rows of some cells (all columns).

    Parameters
    ----------
    z
        [2N, width]: the first views of all cells, then the second ones.
    cells
        Cells of the rows; None: all cells.
    temperature, tile
        As in :func:`info_nce`.
    """

    def __init__(self, z: Tensor, cells: slice | None, temperature: float, tile: int) -> None:
        self.z, self.temperature, self.whole = z, temperature, cells is None
        half = len(z) // 2
        self.columns = _blocks(0, len(z), tile)
        views = [(0, 2 * half)] if cells is None else [(v + cells.start, v + cells.stop) for v in (0, half)]
        self.rows = [block for start, stop in views for block in _blocks(start, stop, tile)]

    def __iter__(self) -> Iterator[_Tile]:
        for i, rows in enumerate(self.rows):
            for columns in self.columns[i:] if self.whole else self.columns:
                similarity = linear(self.z[rows], self.z[columns], None).div_(self.temperature)
                _leave_out_self(similarity, rows.start, columns.start)
                yield _Tile(rows, columns, similarity, self.whole and rows != columns)


def _log_sum_exp(tiles: _Tiles) -> Tensor:
    total = torch.full((len(tiles.z),), -torch.inf, dtype=tiles.z.dtype, device=tiles.z.device)
    for rows, columns, similarity, mirrored in tiles:
        total[rows] = torch.logaddexp(total[rows], similarity.logsumexp(1))
        if mirrored:
            total[columns] = torch.logaddexp(total[columns], similarity.logsumexp(0))
    return total


def info_nce(
    first: Tensor,
    second: Tensor,
    temperature: float,
    *,
    cells: slice | None = None,
    share: Callable[[Tensor], Tensor] | None = None,
    tile: int = TILE,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss (mean over all views, nats) and its gradient by both views.

    Parameters
    ----------
    first, second
        [N, width]: the two views, as unit vectors; row i of both is the same cell. N is at least 2.
    temperature
        Temperature of the softmax.
    cells
        Cells whose gradient is returned; default: all. The loss is over all cells in either case.
    share
        With ``cells``: given the log-sum-exp of the two views of those cells, [cells, 2], returns that of all, [N, 2].
    tile
        Rows and columns of a tile; limits memory, changes no result.

    Returns
    -------
    loss, gradient by first, gradient by second
        Scalar; [N, width] each, or one row per cell of ``cells``.
    """
    half = len(first)
    z = torch.cat([first, second]).detach()
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    tiles = _Tiles(z, cells, temperature, tile)
    total = _log_sum_exp(tiles)
    if cells is not None and share is not None:
        total = share(total.view(2, half).T[cells]).T.reshape(-1)
    loss = (total - (z * z.roll(half, 0)).sum(1) / temperature).mean()
    gradient = z.roll(half, 0).mul_(-2)
    for rows, columns, similarity, mirrored in tiles:
        weight = (similarity - total[rows, None]).exp_()
        weight += similarity.sub_(total[columns]).exp_()
        gradient[rows] += linear(weight, z[columns].T, None)
        if mirrored:
            gradient[columns] += linear(weight.T, z[rows].T, None)
    gradient /= 2 * half * temperature
    mine = slice(None) if cells is None else cells
    return loss, gradient[:half][mine], gradient[half:][mine]
