r"""The contrastive loss of a whole batch and its gradient, in tiles: the logits are never held whole.

Of N cells there are two views each, 2N unit vectors z. Each view has one positive, the other view of its cell, and 2N
- 2 negatives, all views of all other cells (NT-Xent, InfoNCE over both views [1]_). With :math:`s_{ij} = z_i \cdot z_j
/ \tau` and :math:`\ell_i = \log \sum_{j \ne i} e^{s_{ij}}`,

.. math:: L = \frac{1}{2N} \sum_i (\ell_i - s_{i,p(i)}), \qquad
   \frac{\partial L}{\partial z_i} = \frac{1}{2N\tau}
   \Big( \sum_{j \ne i} (e^{s_{ij} - \ell_i} + e^{s_{ij} - \ell_j}) z_j - 2 z_{p(i)} \Big).

s is symmetric, so a tile above the diagonal serves its rows and its columns: one sweep over the upper tiles gives every
:math:`\ell`, a second one the gradient. Memory beyond z and its gradient is one tile.

References
----------
.. [1] Chen et al. (2020). A simple framework for contrastive learning of visual representations. ICML, equation 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

TILE = 1024


def _tiles(z: Tensor, temperature: float, tile: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield the tiles on and above the diagonal: rows, columns, s without self-similarity."""
    blocks = [slice(start, min(start + tile, len(z))) for start in range(0, len(z), tile)]
    for i, rows in enumerate(blocks):
        for columns in blocks[i:]:
            similarity = (z[rows] @ z[columns].T).div_(temperature)
            if rows == columns:
                similarity.fill_diagonal_(-torch.inf)
            yield rows, columns, similarity


def _log_sum_exp(z: Tensor, temperature: float, tile: int) -> Tensor:
    total = torch.full((len(z),), -torch.inf, dtype=z.dtype, device=z.device)
    for rows, columns, similarity in _tiles(z, temperature, tile):
        total[rows] = torch.logaddexp(total[rows], similarity.logsumexp(1))
        if rows != columns:
            total[columns] = torch.logaddexp(total[columns], similarity.logsumexp(0))
    return total


def info_nce(first: Tensor, second: Tensor, temperature: float, *, tile: int = TILE) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss (mean over all views, nats) and its gradient by both views.

    Parameters
    ----------
    first, second
        [N, width]: the two views, on the unit sphere; row i of both is the same cell. N is at least 2.
    temperature
        Of the softmax.
    tile
        Rows and columns of a tile; bounds memory, changes nothing else.
    """
    cells = len(first)
    z = torch.cat([first, second]).detach()
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    positive = z.roll(cells, 0)
    total = _log_sum_exp(z, temperature, tile)
    loss = (total - (z * positive).sum(1) / temperature).mean()
    gradient = -2 * positive
    for rows, columns, similarity in _tiles(z, temperature, tile):
        weight = (similarity - total[rows, None]).exp_() + (similarity - total[columns]).exp_()
        gradient[rows] += weight @ z[columns]
        if rows != columns:
            gradient[columns] += weight.T @ z[rows]
    gradient /= 2 * cells * temperature
    return loss, gradient[:cells], gradient[cells:]
