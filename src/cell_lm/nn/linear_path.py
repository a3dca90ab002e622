r"""The linear path: principal components of a cell's Pearson residuals, added to CLS past the transformer.

The count x of gene g in a cell of depth d is compared with the count expected from a reference profile p,

.. math:: r_g = \frac{x - \mu}{\sqrt{\mu + \mu^2 / \theta}}, \qquad \mu = d\,p_g,

clipped at ±10, with :math:`\theta` = 100 (analytic Pearson residuals [1]_). The profile is that of the corpus, so a
residual is a property of the cell alone. The components :math:`z = \sum_g V_g r_g` over all reference genes are
computed from the expressed genes of the cell, since an unexpressed gene's residual :math:`r_g(0)` depends on d alone:

.. math:: z = \sum_{g\ expressed} V_g (r_g(x) - r_g(0)) + \sum_g V_g r_g(0).

A gene whose expression is hidden counts as expressed as expected (r = 0), and d is then the total of the others divided
by their share of the profile: hidden counts do not enter. Genes without a row in the reference do not enter z; they
reach CLS through the transformer.

References
----------
.. [1] Lause, Berens, Kobak (2021). Analytic Pearson residuals for normalization of single-cell RNA-seq UMI data. Genome
   Biology 22, 258.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cell_lm.data.loading.batch import PER_CELL, CellBatch, to_device
from cell_lm.genes.reference import CLIP, DISPERSION, Reference
from cell_lm.nn.layout import cell_of_gene
from cell_lm.nn.linear import linear


@dataclass(frozen=True)
class TokenResiduals:
    """Residuals of the expressed genes of a batch; C cells, T genes over all of them.

    Attributes
    ----------
    above_zero : Tensor
        float32 [T]: residual minus the residual of a count of 0; 0 for a gene outside the reference. For a hidden gene
        minus the residual of a count of 0, so that its residual is 0.
    residual : Tensor
        float32 [T]: the residual; 0 for hidden genes and genes outside the reference.
    rows : Tensor
        int64 [T]: row of each gene in the reference; S for genes outside it.
    depths : Tensor
        float32 [C]: the depth, without hidden genes.
    """

    above_zero: Tensor
    residual: Tensor
    rows: Tensor
    depths: Tensor


class LinearPath(nn.Module):
    """Components of the Pearson residuals of a cell.

    The reference is data, not trained: buffers that are saved with the weights. Until
    :meth:`set_reference` it is empty, and CLS is the state of the transformer.

    Parameters
    ----------
    genes
        G, the size of the vocabulary.
    size
        S, the number of genes of the reference; unused rows have the gene -1 and components 0.
    width
        Number of components.
    """

    genes: Tensor
    profile: Tensor
    components: Tensor
    centre: Tensor
    spread: Tensor
    dispersion: Tensor
    rows: Tensor
    shares: Tensor

    def __init__(self, genes: int, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("genes", torch.full((size,), -1))
        self.register_buffer("profile", torch.zeros(genes))
        self.register_buffer("components", torch.zeros(size, width))
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("dispersion", torch.tensor(DISPERSION))
        self.register_buffer("rows", torch.full((genes,), size), persistent=False)
        self.register_buffer("shares", torch.zeros(size + 1), persistent=False)
        self.is_empty = True
        self.register_load_state_dict_post_hook(_index_rows)  # type: ignore[no-untyped-call]

    @property
    def scale(self) -> Tensor:
        """Root mean square of the components over the reference cells, a scalar; components are divided by it."""
        return self.spread.square().mean().sqrt().clamp(min=1e-6)

    @property
    def reference(self) -> Reference | None:
        """The reference; None while it is empty."""
        if self.is_empty:
            return None
        used = self.genes >= 0
        tensors = self.genes[used], self.components[used], self.centre, self.spread, self.profile
        return Reference(*(tensor.detach().cpu().numpy() for tensor in tensors))

    @torch.no_grad()
    def set_reference(self, reference: Reference) -> None:
        """Set the reference; it has at most S genes."""
        used = len(reference.genes)
        self.genes.fill_(-1)
        self.genes[:used] = torch.from_numpy(reference.genes)
        self.components.zero_()
        self.components[:used] = torch.from_numpy(reference.components)
        self.profile.copy_(torch.from_numpy(reference.profile))
        self.centre.copy_(torch.from_numpy(reference.centre))
        self.spread.copy_(torch.from_numpy(reference.spread))
        _index_rows(self, None)

    def residuals(self, batch: CellBatch, hidden: Tensor | None) -> TokenResiduals:
        """Return the residuals of the genes of a batch; ``hidden`` as bool [T] on the device of the batch."""
        cell = cell_of_gene(batch)
        dtype = self.components.dtype
        counts = torch.expm1(batch.values.to(dtype)) * (batch.depths.to(dtype) / PER_CELL)[cell]
        rows = self.rows[batch.genes]
        shares = self.shares[rows]
        depths = _sum_by_cell(counts if hidden is None else counts.masked_fill(hidden, 0.0), cell, len(batch))
        if hidden is not None:
            missing = _sum_by_cell(self.profile[batch.genes].masked_fill(~hidden, 0.0), cell, len(batch))
            depths = depths / (1.0 - missing).clamp(min=0.05)
        expected = depths[cell] * shares
        deviation = (expected + expected.square() / self.dispersion).clamp(min=1e-12).sqrt()
        known = shares > 0
        residual = ((counts - expected) / deviation).clamp(-CLIP, CLIP).masked_fill(~known, 0.0)
        if hidden is not None:
            residual = residual.masked_fill(hidden, 0.0)
        at_zero = -(expected / deviation).clamp(max=CLIP)
        return TokenResiduals((residual - at_zero).masked_fill(~known, 0.0), residual, rows, depths)

    def zeros(self, depths: Tensor) -> Tensor:
        """Return the residual of a count of 0 for every gene of the reference, [C, S], at given depths [C]."""
        expected = depths[:, None] * self.shares[:-1]
        return -(expected / (1.0 + expected / self.dispersion)).sqrt().clamp(max=CLIP)

    def dense(self, batch: CellBatch) -> Tensor:
        """Return the residuals of all genes of the reference, float32 [C, S], nothing being hidden."""
        found = self.residuals(batch, None)
        everything = F.pad(self.zeros(found.depths), (0, 1))
        index = cell_of_gene(batch) * everything.shape[1] + found.rows
        flat = everything.flatten().index_add(0, index, found.above_zero)
        return flat.view(everything.shape)[:, :-1]

    def forward(self, batch: CellBatch, found: TokenResiduals, presence: Tensor | None = None) -> Tensor:
        """Return the components, float32 [C, width], or [V, C, width] for presences [V, T] of the genes.

        They are centred on the reference and divided by one number, so that their mean square is 1 there. An absent
        gene counts as a count of 0 at the same depth.
        """
        weights = found.above_zero[None] if presence is None else found.above_zero * presence
        offsets = to_device(batch.offsets[:-1], weights.device)
        table = F.pad(self.components, (0, 0, 0, 1))
        with torch.autocast(weights.device.type, enabled=False):
            base = linear(self.zeros(found.depths), self.components.T.contiguous(), None) - self.centre
            sums = [F.embedding_bag(found.rows, table, offsets, mode="sum", per_sample_weights=row) for row in weights]
        components = (torch.stack(sums) + base) / self.scale
        return components[0] if presence is None else components


def _sum_by_cell(values: Tensor, cell: Tensor, cells: int) -> Tensor:
    # float64: a sum of whole counts is exact in any order
    return values.new_zeros(cells, dtype=torch.float64).index_add_(0, cell, values.double()).to(values.dtype)


def _index_rows(path: nn.Module, _: object) -> None:
    """Compute the row of each gene of the vocabulary, and the share of each row; the last row is of no gene."""
    assert isinstance(path, LinearPath)
    used = path.genes >= 0
    path.is_empty = not bool(used.any())
    path.rows.fill_(len(path.genes))
    path.rows[path.genes[used]] = torch.nonzero(used).squeeze(1)
    path.shares.zero_()
    path.shares[:-1][used] = path.profile[path.genes[used]]
