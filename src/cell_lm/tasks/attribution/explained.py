"""The explained function: from the presence of each gene of a cell to the logits of the classifier.

The score is the logit of one class minus the mean of the others, summed over the linear views of the classifier with
their weights: on CLS of the encoder, on CLS of the adapted encoder, and on the expression of the genes. Trees
(:mod:`cell_lm.tasks.annotation.trees`) and labels spread over a graph of cells
(:mod:`cell_lm.tasks.annotation.propagation`) have no gradient and are left out. Everything is frozen; nothing is
changed, not even ``requires_grad`` of the parameters.

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
from cell_lm.errors import ConfigError
from cell_lm.evaluation.calibration import log_softmax
from cell_lm.model import CellLM
from cell_lm.nn.encoder import LatentEncoder
from cell_lm.tasks.annotation import CellTypeClassifier
from cell_lm.tasks.annotation.views import Linear

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
    encoders : tuple of (CellLM, Linear)
        The encoders that are read, each with the weighted logits from its CLS.
    genes : Linear or None
        The weighted logits from the expression of the genes.
    classes : int
        Number of classes.
    """

    model: CellLM
    encoders: tuple[tuple[CellLM, Linear], ...]
    genes: Linear | None
    classes: int

    @classmethod
    def of(cls, classifier: CellTypeClassifier, measured: NDArray[np.int64] | None = None) -> Explained:
        """Return the function of a classifier.

        Parameters
        ----------
        classifier
            The classifier.
        measured
            Genes of the vocabulary that the cells measured, as :meth:`~cell_lm.tasks.annotation.views.Pool.measuring`
            takes them; None: all.

        Raises
        ------
        ModelError
            It has not been fitted.
        ConfigError
            It has no linear view.
        """
        pool = classifier.pool_
        linear = pool.linear if measured is None else pool.measuring(measured).linear
        if not linear:
            found = "it has no view that is linear in genes or CLS"
            raise ConfigError(found, where="attribution", fix="Fit it with views=('genes', 'model')")
        models = {"model": classifier.encoder_, "adapted": classifier.adapted_}
        encoders = [(model, linear[name]) for name, model in models.items() if model is not None and name in linear]
        return cls(classifier.encoder_, tuple(encoders), linear.get("genes"), len(classifier.classes_))

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

    def scores(self, batch: CellBatch, presence: Tensor, targets: NDArray[np.int64]) -> Tensor:
        """Return the logit of each cell's target minus the mean of the others, float64 [V, C].

        ``presence`` is [V, T], and may require gradients.
        """
        contrast = np.where(np.eye(self.classes, dtype=bool), 1.0, -1.0 / (self.classes - 1))[targets]
        total: Tensor | float = 0.0
        for model, linear in self.encoders:
            weights, constants = self._tensor(contrast @ linear.coefficients), self._tensor(contrast @ linear.intercept)
            total = total + (_cls(model, batch, presence).double() * weights).sum(-1) + constants
        if self.genes is not None:
            constants = self._tensor(contrast @ self.genes.intercept)
            total = total + self._from_genes(batch, presence, contrast @ self.genes.coefficients) + constants
        return torch.as_tensor(total)

    def probabilities(self, batch: CellBatch, presence: Tensor) -> NDArray[np.float64]:
        """Return the probabilities of the classes, [V, C, classes]; no gradient."""
        logits = np.zeros((len(presence), len(batch), self.classes))
        with torch.no_grad():
            for model, linear in self.encoders:
                logits += linear.logits(_cls(model, batch, presence).double().cpu().numpy())
            if self.genes is not None:
                for number, row in enumerate(self.genes.coefficients):
                    every = np.broadcast_to(row, (len(batch), len(row)))
                    logits[..., number] += self._from_genes(batch, presence, every).cpu().numpy()
                logits += self.genes.intercept
        return np.exp(log_softmax(logits))

    def _from_genes(self, batch: CellBatch, presence: Tensor, weights: NDArray[np.float64]) -> Tensor:
        """Return the sum of expression times weight [C, genes] over the genes that are present, float64 [V, C]."""
        cell = np.repeat(np.arange(len(batch)), batch.lengths)
        each = self._tensor(weights[cell, batch.genes.cpu().numpy()]) * batch.values.double()
        zero = presence.new_zeros(len(presence), len(batch), dtype=torch.float64)
        return zero.index_add(1, torch.from_numpy(cell).to(zero.device), presence.double() * each)

    def _tensor(self, array: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(array).to(self.device)

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


def _cls(model: CellLM, batch: CellBatch, presence: Tensor) -> Tensor:
    """Return the CLS of each variant, [V, C, width]."""
    frozen = {name: value.detach() for name, value in model.encoder.named_parameters()}
    options = {"hidden": None, "counter": None, "only_cls": True, "presence": presence}
    cls: Tensor = functional_call(model.encoder, frozen, (batch,), options).cls
    return cls


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
