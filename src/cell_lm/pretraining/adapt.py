"""Adaptation: fit a model to unlabelled cells, in seconds.

Two parts of the model change; its transformer does not.

1. *The linear path.* The components of the residuals are computed anew, from the covariance of the corpus (which the
   model's components stand for) and that of the new cells, weighted. Genes that vary in the new cells join the
   reference: hormones of the pancreas in a model that has never seen one. This is a closed form.
2. *The refinement*, the feed-forward block after the sum of linear path and transformer. The counts of every cell are
   divided over two halves; CLS of each has to predict the residuals of the other, and, with a small weight, to be
   closer to the other's CLS than to those of other cells. Some cells are left out for early stopping. This part is off
   by default: it takes minutes, and helps where there is one label a type, not with more (docs/representation.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from cell_lm.config import AdaptConfig, EncoderConfig
from cell_lm.data.loading.batch import CellBatch, concatenate
from cell_lm.data.loading.concat import ConcatCells
from cell_lm.data.loading.expression import MOST_CELLS
from cell_lm.data.loading.sampler import EpochSampler, Index, Order, random_subset, split
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.data.protocol import Dataset
from cell_lm.engine.best_weights import BestWeights
from cell_lm.engine.device import choose_device
from cell_lm.engine.loop import LoopSettings, Metrics, Trainer
from cell_lm.engine.sharding import load_weights
from cell_lm.errors import GeneError, InputError, ModelError
from cell_lm.genes.reference import Reference, extend_reference
from cell_lm.model import CellLM
from cell_lm.nn.counter import Counter
from cell_lm.objectives.contrastive import info_nce
from cell_lm.objectives.reconstruction import reconstruction_loss
from cell_lm.objectives.thinning import divide_counts, with_counts

LEAST_CELLS = 200
"""With fewer cells the components are noise."""
_VALIDATION_STEP = 1 << 40
"""Number of the step whose division of the counts all validations use."""


def adapt(
    model: CellLM,
    datasets: Sequence[Dataset],
    config: AdaptConfig | None = None,
    *,
    device: str | None = None,
    progress: Callable[[int, str], None] | None = None,
) -> CellLM:
    """Return a model adapted to cells; the given one is unchanged.

    Parameters
    ----------
    model
        A model with a linear path.
    datasets
        The cells, aligned to the vocabulary of the model; labels are not used. Of more than 20,000 cells, so many are
        drawn at random.
    config
        Settings.
    device
        Device of the training; None: CUDA where there is a device, else the CPU.
    progress
        Called after every step with the number of steps done, and a short description.

    Raises
    ------
    InputError
        There are fewer than 200 cells.
    GeneError
        They are aligned to another vocabulary.
    ModelError
        The model has no linear path.
    """
    config = config or AdaptConfig()
    cells = _cells(model, datasets, config)
    n = len(cells)
    train, held_out = split(n, config.validation if config.steps else 0.0, config.seed)
    adapted = _with_new_path(model, cells, train, config).to(choose_device(device))
    if config.steps:
        _refine(adapted, cells, train, held_out, config, progress)
    return adapted.cpu().eval()


def describe(name: str, datasets: Sequence[Dataset], config: AdaptConfig) -> str:
    """Return what an adapted model was made of, for its card."""
    cells = ", ".join(f"{cells.name} ({len(cells):,})" for cells in datasets)
    return (
        f"The model `{name}`, adapted to unlabelled cells: {cells}. Weight of these cells in the components "
        f"{config.weight}, at most {config.steps:,} steps of refinement."
    )


def _cells(model: CellLM, datasets: Sequence[Dataset], config: AdaptConfig) -> CellBatch:
    if model.reference is None:
        fix = "Name a model trained with encoder.linear_path = true, such as small"
        raise ModelError("the model has no linear path to adapt", fix=fix)
    for cells in datasets:
        if cells.vocabulary.hash != model.vocabulary.hash:
            found = f"it is aligned to {len(cells.vocabulary):,} genes that are not the model's"
            raise GeneError(found, where=cells.name, fix="Read it with vocabulary=model.vocabulary")
    pool = ConcatCells(datasets, Tokeniser(model.config.bins, model.config.max_genes))
    if len(pool) < LEAST_CELLS:
        found = f"{len(pool):,} cells to adapt to; at least {LEAST_CELLS} are needed"
        fix = "Add unlabelled cells of the same experiment, or use the model as it is"
        raise InputError(found, where=", ".join(cells.name for cells in datasets), fix=fix)
    return pool.tokenise(random_subset(len(pool), MOST_CELLS, config.seed))


def _with_new_path(model: CellLM, cells: CellBatch, train: Index, config: AdaptConfig) -> CellLM:
    """Return a copy of the model whose linear path is extended by the cells."""
    before = model.reference
    assert before is not None
    size = len(before.genes) + config.new_genes
    counts = cells.counts(len(model.vocabulary))[train]
    reference = extend_reference(before, counts, size, weight=config.weight, seed=config.seed)
    return with_reference(model, reference, seed=config.seed)


def with_reference(model: CellLM, reference: Reference, *, seed: int = 0) -> CellLM:
    """Return a copy of a model with a linear path whose path has another reference; ``seed`` is that of new weights."""
    encoder = EncoderConfig(**{**model.config.model_dump(), "reference_genes": len(reference.genes)})
    adapted = CellLM(encoder, model.vocabulary, model.objectives, seed=seed)
    replaced = ("encoder.readout.path.", "encoder.readout.refinement.", "encoder.readout.norm.", "residual_head.")
    kept = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(replaced)}
    adapted.load_state_dict(kept, strict=False)
    adapted.set_reference(reference)
    _change_basis(adapted, model)
    adapted.discriminated = model.discriminated  # its head is among what was changed to the new basis
    return adapted


@torch.no_grad()
def _change_basis(adapted: CellLM, model: CellLM) -> None:
    """Express what reads and writes CLS in the new components.

    With :math:`M = V_{old}^T V_{new}`, unscaled and uncentred components z of the new path are :math:`M z` of the old
    one, up to what the new one cannot express; what was written to old components c is projected to :math:`M^T c`.
    """
    old, new = model.encoder.readout.path, adapted.encoder.readout.path
    assert old is not None
    assert new is not None
    table = torch.zeros(len(model.vocabulary), old.components.shape[1])
    used = old.genes >= 0
    table[old.genes[used].cpu()] = old.components[used].cpu()
    now = new.genes >= 0
    rotation, ratio = table[new.genes[now]].T @ new.components[now], new.scale / old.scale.cpu()
    to_old, to_new = rotation * ratio, rotation.T / ratio
    shift = (rotation @ new.centre - old.centre.cpu()) / old.scale.cpu()
    readers: list[nn.Linear] = [adapted.encoder.readout.to_state, adapted.malignancy_head.logit]
    first = adapted.projection_head.network[0]
    readers += [first] if isinstance(first, nn.Linear) else []
    for linear in readers:
        linear.bias.add_(linear.weight @ shift)
        linear.weight.copy_(linear.weight @ to_old)
    writer = adapted.encoder.readout.correction
    writer.weight.copy_(to_new @ writer.weight)
    writer.bias.copy_(to_new @ writer.bias)


def _refine(
    model: CellLM,
    cells: CellBatch,
    train: Index,
    held_out: Index,
    config: AdaptConfig,
    progress: Callable[[int, str], None] | None,
) -> None:
    step = RefinementStep(model, cells, train, held_out, config)
    settings = LoopSettings(
        steps=config.steps,
        learning_rate=config.learning_rate,
        warmup=0.05,
        final_rate=0.05,
        clip=1.0,
        checkpoint_every=config.steps + 1,
        validate_every=config.validate_every,
        patience=config.patience,
    )
    best = BestWeights(step.module, progress)
    Trainer(step, settings, display=best, save=best.save).run()
    load_weights(step.module, best.tensors)


class RefinementStep:
    """A step of the refinement, for the loop.

    Parameters
    ----------
    model
        The model, on its device, with its new linear path.
    cells
        All cells, on the CPU.
    train, held_out
        int64: which of them are trained on, and which validated on.
    config
        Settings.
    """

    examples = "cells"
    if_not_finite = "Lower learning_rate (--set learning_rate=0.0003)"

    def __init__(
        self,
        model: CellLM,
        cells: CellBatch,
        train: Index,
        held_out: Index,
        config: AdaptConfig,
    ) -> None:
        self.model, self.cells, self.train, self.held_out, self.config = model, cells, train, held_out, config
        readout = model.encoder.readout
        assert readout.path is not None
        assert model.residual_head is not None
        self.readout, self.path, self.head = readout, readout.path, model.residual_head
        self.module = nn.ModuleDict(
            {"norm": readout.norm, "refinement": readout.refinement, "residual_head": self.head}
        )
        size = min(config.batch_size, len(train))
        self.sampler = EpochSampler(len(train), size, config.seed, Order())
        self.counts_used = self.path.genes >= 0

    def optimiser(self) -> torch.optim.AdamW:
        """Return AdamW over the refinement and the residual head."""
        config = self.config
        return torch.optim.AdamW(self.module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)

    def gradient(self, step: int) -> Metrics:
        """Add the gradient of a step to ``.grad``."""
        chosen = self.train[self.sampler.batch(step)]
        loss, values = self._losses(chosen, step)
        torch.autograd.backward(loss)
        return Metrics(values, len(chosen))

    @torch.no_grad()
    def validate(self) -> Metrics:
        """Return the losses of the held-out cells."""
        size = self.config.batch_size
        parts = [self.held_out[start : start + size] for start in range(0, len(self.held_out), size)]
        values = [self._losses(part, _VALIDATION_STEP)[1] for part in parts if len(part) > 1]
        weights = [len(part) for part in parts if len(part) > 1]
        means = {name: float(np.average([each[name] for each in values], weights=weights)) for name in values[0]}
        return Metrics(means, sum(weights))

    def describe(self, metrics: Metrics, per_second: float) -> str:
        """Return the error of the reconstruction, and the speed."""
        return f"error of the other half {metrics.values['reconstruction']:.4f}, {per_second:,.0f} cells/s"

    def _losses(self, chosen: Index, step: int) -> tuple[Tensor, dict[str, float]]:
        halves = self._halves(chosen, step)
        with torch.no_grad():
            first, second = self.path.dense(halves).chunk(2)
            before = self._before_refinement(halves)
        cls = self.readout.refine(before)
        views = len(halves)
        error = reconstruction_loss(self.head(cls), torch.cat([second, first]), self.counts_used) / views
        loss, value = error, error.new_tensor(torch.nan)
        if self.config.contrastive_weight:
            unit = nn.functional.normalize(cls, dim=-1)
            one, other = unit.chunk(2)
            value, *gradients = info_nce(one, other, self.config.temperature)
            loss = loss + self.config.contrastive_weight * (unit * torch.cat(gradients)).sum()
        reconstruction, contrastive = error.item(), value.item()
        total = reconstruction + (self.config.contrastive_weight * contrastive if self.config.contrastive_weight else 0)
        return loss, {"total": total, "reconstruction": reconstruction, "contrastive": contrastive}

    def _halves(self, chosen: Index, step: int) -> CellBatch:
        """Return both halves of the cells, one after the other, on the device of the model."""
        batch = self.cells.rows(chosen).to(self.model.device)
        counts = divide_counts(batch, Counter.of(self.config.seed, step, batch.slots, 0))
        return concatenate([with_counts(batch, row, self.model.config.bins).keep(row > 0) for row in counts])

    def _before_refinement(self, halves: CellBatch) -> Tensor:
        with self.readout.unrefined():
            return self.model.encoder(halves, hidden=None, counter=None, only_cls=True).cls  # type: ignore[no-any-return]
