"""The explained function: from the presence of each gene of a cell to the logits of the classifier.

The score is the logit of one class minus the mean of the others. Encoder and head are frozen; nothing in them is
changed, not even ``requires_grad`` of their parameters.

Shapes: C cells, T genes over all of them, V variants of their presence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from cell_lm.data.cells import CellData
from cell_lm.data.loading.batch import CellBatch
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.evaluation.linear_head import LinearHead
from cell_lm.model import CellLM
from cell_lm.nn.encoder import LatentEncoder
from cell_lm.tasks.annotation import CellTypeClassifier

BLOCK = 256
"""Cells tokenised at a time."""
_FLOATS_PER_TOKEN = 256
"""Entries of attention matrices that take as much memory as one token."""


@dataclass(frozen=True, eq=False)
class Explained:
    """A frozen classifier as a function of presence.

    Attributes
    ----------
    model : CellLM
        The encoder.
    head : LinearHead
        On its CLS.
    """

    model: CellLM
    head: LinearHead

    @classmethod
    def of(cls, classifier: CellTypeClassifier) -> Explained:
        """Return the function of a classifier; :class:`~cell_lm.errors.ModelError` if it has not been fitted."""
        return cls(classifier.model, classifier.head_)

    @property
    def device(self) -> torch.device:
        """Device of the encoder."""
        return next(self.model.parameters()).device

    def blocks(self, cells: CellData) -> Iterator[tuple[slice, CellBatch]]:
        """Yield the cells as tokens, :data:`BLOCK` of them at a time, with their indices."""
        tokenise = Tokeniser(self.model.config.bins, self.model.config.max_genes)
        for start in range(0, len(cells), BLOCK):
            stop = min(start + BLOCK, len(cells))
            yield slice(start, stop), tokenise(cells, np.arange(start, stop)).to(self.device)

    def cls(self, batch: CellBatch, presence: Tensor) -> Tensor:
        """Return the CLS of each variant, [V, C, width]; ``presence`` is [V, T], and may require gradients."""
        frozen = {name: value.detach() for name, value in self.model.encoder.named_parameters()}
        options = {"hidden": None, "counter": None, "only_cls": True, "presence": presence}
        encoded = functional_call(self.model.encoder, frozen, (batch,), options)
        cls: Tensor = encoded.cls
        return cls

    def scores(self, batch: CellBatch, presence: Tensor, targets: NDArray[np.int64]) -> Tensor:
        """Return the logit of each cell's target minus the mean of the other logits, float64 [V, C]."""
        directions, constants = self._contrast(targets)
        return (self.cls(batch, presence).double() * directions).sum(-1) + constants

    def probabilities(self, batch: CellBatch, presence: Tensor) -> NDArray[np.float64]:
        """Return the probabilities of the classes, [V, C, classes]; no gradient."""
        with torch.no_grad():
            cls = self.cls(batch, presence).double().cpu().numpy()
        return self.head.probabilities(cls.reshape(-1, cls.shape[-1])).reshape(*cls.shape[:2], -1)

    def _contrast(self, targets: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return the weights of CLS for each target, [C, width], and the intercept, [C]."""
        classes = len(self.head.classes)
        weights = np.where(np.eye(classes, dtype=bool), 1.0, -1.0 / (classes - 1))[targets]
        directions = weights @ self.head.coefficients
        constants = weights @ self.head.intercept - directions @ self.head.mean
        return torch.from_numpy(directions).to(self.device), torch.from_numpy(constants).to(self.device)

    def costs(self, batch: CellBatch) -> NDArray[np.int64]:
        """Return the memory of one variant of each cell, in tokens, int64 [C]; at least 1 per cell."""
        config = self.model.config
        lengths: NDArray[np.int64] = np.maximum(batch.lengths, 1)
        if config.attention != "full":
            return lengths
        rows: NDArray[np.int64] = lengths * config.heads * config.layers // _FLOATS_PER_TOKEN
        return lengths * (1 + rows)

    @property
    def latent(self) -> bool:
        """Whether latents read the genes."""
        return isinstance(self.model.encoder, LatentEncoder)


def pieces(costs: NDArray[np.int64], variants: int, budget: int) -> Iterator[tuple[slice, slice]]:
    """Cut cells times variants into pieces of at most ``budget``: runs of whole cells, or some variants of one cell.

    Parameters
    ----------
    costs
        Of one variant of each cell, int64 [C].
    variants
        V.
    budget
        Highest cost of a piece; one variant of one cell is always a piece.

    Yields
    ------
    tuple of slice
        Cells, and variants.
    """
    ends, start = np.cumsum(costs), 0
    while start < len(costs):
        before = ends[start - 1] if start else 0
        fits = int(np.searchsorted(ends, before + budget // variants, side="right"))
        stop = max(fits, start + 1)
        step = variants if fits > start else max(1, budget // int(costs[start]))
        for first in range(0, variants, step):
            yield slice(start, stop), slice(first, min(first + step, variants))
        start = stop
