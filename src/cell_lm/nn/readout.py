"""How CLS is read out: by the linear path, and by the transformer's correction of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cell_lm.config import EncoderConfig
from cell_lm.data.loading.batch import CellBatch
from cell_lm.nn.attended import attended_genes
from cell_lm.nn.feed_forward import FeedForward, start_at_zero
from cell_lm.nn.layout import HiddenGenes
from cell_lm.nn.linear import Linear
from cell_lm.nn.linear_path import LinearPath


@dataclass(frozen=True)
class ReadCells:
    """What the transformer reads: some genes of each cell, their hidden ones and presences, and the linear part of CLS.

    Attributes
    ----------
    batch : CellBatch
        The genes that attention reads.
    masked : HiddenGenes | None
        The hidden genes among them; all that are predicted are.
    presence : Tensor | None
        [V, T'] of these genes.
    linear : Tensor | None
        [C, width], or [V, C, width] with presences: the linear path; None without one.
    """

    batch: CellBatch
    masked: HiddenGenes | None
    presence: Tensor | None
    linear: Tensor | None


class Readout(nn.Module):
    """CLS from its state in the transformer and the linear path, and the choice of the genes that attention reads.

    With a linear path, CLS = y + FeedForward(y), where y is the linear path plus a linear function of the normalised
    state; both terms beside the linear path are 0 at the start. Without one, CLS is the normalised state.
    """

    def __init__(self, config: EncoderConfig, genes: int) -> None:
        super().__init__()
        self.most, self._refines = config.attended_genes, True
        self.path = LinearPath(genes, config.reference_genes, config.width) if config.linear_path else None
        if self.path is not None:
            self.to_state = Linear(config.width, config.width)
            self.correction = Linear(config.width, config.width)
            self.norm = nn.LayerNorm(config.width)
            self.refinement = FeedForward(config.width, config.feedforward)
            start_at_zero(self.correction)
            start_at_zero(self.refinement.out)

    def read(
        self, batch: CellBatch, hidden: Tensor | None, presence: Tensor | None, predicted: Tensor | None = None
    ) -> ReadCells:
        """Compute the linear path, and choose the genes that attention reads."""
        masked = None if hidden is None else HiddenGenes.of(hidden, batch, predicted)
        linear, score = None, batch.values if masked is None else batch.values.masked_fill(masked.mask, 0.0)
        if self.path is not None:
            found = self.path.residuals(batch, None if masked is None else masked.mask)
            linear, score = self.path(batch, found, presence), found.residual.abs()
        chosen = attended_genes(batch, score, masked, self.most)
        if chosen is None:
            return ReadCells(batch, masked, presence, linear)
        if presence is not None:
            presence = presence.index_select(1, chosen.index)
        return ReadCells(chosen.of(batch), None if masked is None else masked.among(chosen.index), presence, linear)

    def without_transformer(self, batch: CellBatch, hidden: Tensor | None, presence: Tensor | None) -> Tensor:
        """Return CLS from the linear path alone, [C, width], or [V, C, width] with presences."""
        assert self.path is not None
        hidden = None if hidden is None else hidden.to(batch.genes.device)
        y: Tensor = self.path(batch, self.path.residuals(batch, hidden), presence)
        return self.refine(y) if self._refines else y

    def state(self, linear: Tensor) -> Tensor:
        """Return what the linear path adds to the state of CLS before the first layer, [..., width]."""
        added: Tensor = self.to_state(linear)
        return added

    def forward(self, normalised: Tensor, linear: Tensor | None) -> Tensor:
        """Return CLS from its normalised state, [..., width]."""
        if linear is None or self.path is None or self.path.is_empty:
            return normalised
        y = linear + self.correction(normalised)
        return self.refine(y) if self._refines else y

    @property
    def corrects(self) -> bool:
        """Whether the transformer has any part in CLS."""
        return (
            self.path is None or self.path.is_empty or bool(self.correction.weight.any() or self.correction.bias.any())
        )

    @property
    def is_all_of_cls(self) -> bool:
        """Whether CLS needs no transformer: it has no part in CLS yet, and no gradient is asked; waits for a GPU."""
        return not torch.is_grad_enabled() and not self.corrects

    @contextmanager
    def unrefined(self) -> Iterator[None]:
        """Leave out :meth:`refine` inside this context."""
        self._refines = False
        try:
            yield
        finally:
            self._refines = True

    def refine(self, y: Tensor) -> Tensor:
        """Add the feed-forward block, which adaptation trains; [..., width]."""
        refined: Tensor = y + self.refinement(self.norm(y))
        return refined
