r"""Divide and conquer: a step on a batch of any size in the memory of a chunk, equal to the step on the whole batch.

The contrastive loss of a batch couples all its cells, so the usual remedy for little memory, gradient accumulation over
small batches, optimises another loss. This engine computes the gradient of the whole batch:

1. **Divide.** Every chunk goes through the encoder without a graph; only the embeddings z of its views are kept.
2. **Conquer.** The loss of all N cells is computed on z alone, with :math:`g = \partial L / \partial z`. Over several
   ranks z is gathered first, so the negatives span all of them.
3. **Replay.** Every chunk goes through the encoder again, now with a graph, and :math:`\langle z, g \rangle` is
   back-propagated, together with the chunk's part of the masked-LM and discrimination losses, which need no further
   forward pass.

*Why it is equal.* By the chain rule :math:`\nabla_\theta L = \sum_c (\partial z_c / \partial \theta)^\top g_c`, a sum
over chunks c as soon as two things hold: :math:`z_c` depends on no other chunk, and the replay computes the same
:math:`z_c` as the first pass. The first holds because the encoder has no operation across cells; the second because
dropout and masking are functions of (seed, step, slot, view, gene, site) and not draws from a generator. The other two
losses are sums over genes and cells divided by counts of the *whole* batch over all ranks, so the parts of the chunks
add up, too. The result does not depend on the chunking.

On a GPU, a pass over a chunk synchronises once, to read which genes its views keep and hide: the lengths of the packed
rows are computed on the CPU. All sums stay on the GPU until the step ends.

The idea is the paper's (CellLM, section 3.3) and that of GradCache (Gao et al. 2021, arXiv 2101.06983).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from cell_lm.config import ObjectivesConfig
from cell_lm.data.loading.batch import CellBatch, concatenate, to_device
from cell_lm.data.obs.malignancy import UNKNOWN
from cell_lm.model import CellLM, Output
from cell_lm.nn.counter import Counter
from cell_lm.objectives.contrastive import info_nce
from cell_lm.objectives.discrimination import discrimination_loss
from cell_lm.objectives.masked import choose_hidden, choose_predicted, choose_read, masked_loss
from cell_lm.objectives.ranks import (
    all_reduce_gradients,
    cut_alike,
    gather_rows,
    is_sharded,
    reduce_with_this_pass,
    reshard,
    sum_over_ranks,
    world_size,
)
from cell_lm.objectives.reconstruction import reconstruction_loss
from cell_lm.objectives.thinning import divide_counts, with_counts


@dataclass(frozen=True)
class Losses:
    """The losses of a whole batch over all ranks, in nats; NaN if an objective is off or has no gene or cell."""

    total: float
    """Weighted sum, the optimised loss."""
    masked: float
    """Mean cross-entropy per predicted gene."""
    discrimination: float
    """Mean cross-entropy per cell of known malignancy."""
    contrastive: float
    """Mean InfoNCE per view."""
    reconstruction: float
    """Mean squared error per view and reference gene."""
    masked_accuracy: float
    """Fraction of predicted genes whose bin was right."""
    discrimination_accuracy: float
    """Fraction of cells of known malignancy that were predicted correctly."""
    masked_genes: int
    """Number of predicted genes over both views."""
    labelled_cells: int
    """Number of views of cells of known malignancy."""
    cells: int
    """Cells."""


@dataclass(frozen=True)
class _Views:
    """A chunk with its views concatenated, ready for the model."""

    batch: CellBatch
    counter: Counter
    hidden: Tensor
    """bool [T], on the CPU: genes whose expression is hidden."""
    predicted: Tensor
    """bool [T], on the CPU: those of them that are predicted."""

    def targets(self) -> Tensor:
        """Return the bins of the predicted genes, int64 [M]."""
        bins = self.batch.bins
        return bins.index_select(0, to_device(np.flatnonzero(self.predicted.numpy()), bins.device))

    def counts(self) -> Tensor:
        """Return how many genes are predicted, how many views are of known malignancy, how many views there are."""
        known = (self.batch.malignancy != UNKNOWN).sum()
        numbers = (int(self.predicted.sum()), len(self.batch))
        predicted, views = (known.new_full((), number) for number in numbers)
        return torch.stack([predicted, known, views])


@dataclass(frozen=True)
class _Counts:
    """Denominators of the losses of the whole batch over all ranks."""

    masked: int
    labelled: int
    views: int

    @classmethod
    def over_ranks(cls, counts: Tensor, group: dist.ProcessGroup | None) -> _Counts:
        return cls(*sum_over_ranks(counts, group).tolist())


@dataclass(frozen=True)
class _FirstPass:
    """Result of the first pass: embeddings of each chunk, views and outputs of those kept, and the counts."""

    projections: list[Tensor]
    kept: list[tuple[_Views, Output]]
    counts: _Counts


def _zero(output: Output) -> Tensor:
    """Return zero that depends on every parameter, so that all ranks reduce the gradients of the same ones."""
    parts = output.cls, output.projection, output.malignancy, output.expression, output.residuals
    return 0.0 * torch.stack([part.sum() for part in parts]).sum()


class DivideAndConquer:
    """The engine of pretraining: losses and gradients of a whole batch, a chunk at a time.

    Parameters
    ----------
    model
        Encoder and heads.
    objectives
        Weights and settings of the three objectives.
    seed
        Seed of dropout and masking.
    token_budget
        Most genes in one chunk, over all views. It limits memory and changes no result.
    keep
        Number of chunks whose graph is kept from the first pass instead of computed again; trades memory for time,
        changes no result.
    autocast
        Factory of the autocast context of the model.
    group
        Process group that shares the batch; None: the default group if ``torch.distributed`` is initialised, else this
        process.
    """

    def __init__(
        self,
        model: CellLM,
        objectives: ObjectivesConfig,
        *,
        seed: int,
        token_budget: int,
        keep: int = 0,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        self.model, self.objectives = model, objectives
        self.seed, self.token_budget, self.keep = seed, token_budget, keep
        self.autocast, self.group = autocast, group
        self.contrasts = bool(objectives.contrastive.weight)
        self._path = model.encoder.readout.path
        self._reconstruct = objectives.reconstructs(model.config)
        self.views = objectives.views(model.config)
        self._only_cls = not objectives.masked.weight

    def step(self, batch: CellBatch, step: int, *, loss_scale: float = 1.0, synchronise: bool = True) -> Losses:
        """Add the gradient of ``loss_scale`` times the total loss of the whole batch to ``.grad``.

        Parameters
        ----------
        batch
            The cells of this rank, with their slots in the global batch.
        step
            Number of the optimiser step; with the seed it determines dropout and masking.
        loss_scale
            Factor of the gradient, for example one over the number of accumulated batches.
        synchronise
            Sum ``.grad`` over the ranks, in one all-reduce (a sharded model: into shards, with the last chunk). With
            accumulated batches, set it only for the last one.
        """
        self.model.redraw_features(self.seed, step)
        chunks = self._divide(batch)
        first = self._first_pass(chunks, step)
        contrastive, gradients = self._conquer(first.projections)
        sums = self._zeros(torch.float64, 5)
        for left in reversed(range(len(chunks))):  # the kept graphs first: they are freed
            chunk, gradient = chunks[left], gradients[left]
            views, output = first.kept.pop() if first.kept else self._encode(chunk, step)
            loss, parts = self._local_losses(output, views, first.counts)
            if gradient is not None:
                loss = loss + self.objectives.contrastive.weight * (output.projection * gradient).sum()
            if is_sharded(self.model):
                loss = loss + _zero(output)
                reduce_with_this_pass(self.model, synchronise and not left)
            if loss.requires_grad:  # a chunk can be without predicted genes and labelled cells
                (loss * loss_scale).backward()  # type: ignore[no-untyped-call]
            sums += parts
        if synchronise:
            all_reduce_gradients(self.model, self.group)
        return self._losses(contrastive, sum_over_ranks(sums, self.group), first.counts)

    @torch.no_grad()
    def evaluate(self, batch: CellBatch, step: int) -> Losses:
        """Return the losses of a batch as :meth:`step` would, dropout and masking included; no gradient.

        The random features of ``performer`` are those of step 0, so that evaluations differ only by the weights; they
        are restored afterwards.
        """
        one = _Counts(1, 1, 1)
        counts, sums = self._zeros(torch.int64, 3), self._zeros(torch.float64, 5)
        projections: list[Tensor] = []
        with self.model.features_of(self.seed, 0):
            for chunk in self._divide(batch):
                views, output = self._encode(chunk, step)
                counts += views.counts()
                sums += self._local_losses(output, views, one)[1]
                projections.append(output.projection)
        reshard(self.model)
        contrastive, _ = self._conquer(projections)
        everywhere = _Counts.over_ranks(counts, self.group)
        return self._losses(contrastive, sum_over_ranks(sums, self.group), everywhere)

    def _zeros(self, dtype: torch.dtype, numbers: int) -> Tensor:
        return torch.zeros(numbers, dtype=dtype, device=self.model.device)

    def _divide(self, batch: CellBatch) -> list[CellBatch]:
        budget = max(1, self.token_budget // self.views)
        return cut_alike(batch, budget, self.group) if is_sharded(self.model) else list(batch.chunks(budget))

    def _first_pass(self, chunks: Sequence[CellBatch], step: int) -> _FirstPass:
        """Encode every chunk for its embeddings, the last ``keep`` of them with their graph, and count genes and cells.

        Without the contrastive objective nothing is encoded: only the counts are needed.
        """
        counts = self._zeros(torch.int64, 3)
        projections: list[Tensor] = []
        kept: list[tuple[_Views, Output]] = []
        for left, chunk in zip(range(len(chunks), 0, -1), chunks, strict=True):
            views = self._make_views(chunk, step)
            counts += views.counts()
            if not self.contrasts:
                projections.append(self.model.no_projection())
                continue
            keep = left <= self.keep
            with torch.set_grad_enabled(keep):
                output = self._forward(views, only_cls=self._only_cls or not keep, reconstruct=keep)
            projections.append(output.projection.detach())
            if keep:
                kept.append((views, output))
        return _FirstPass(projections, kept, _Counts.over_ranks(counts, self.group))

    def _make_views(self, chunk: CellBatch, step: int) -> _Views:
        chunk = chunk.to(self.model.device)
        counts = self._divide_counts(chunk, step)
        counted, kept_genes, hidden, predicted = self._choose(chunk, step, counts)
        tokens = [chunk.kept(row, among) for row, among in zip(kept_genes, counted, strict=True)]
        whole = [chunk] * self.views
        if counts is not None:
            whole = [with_counts(chunk, row, self.model.config.bins) for row in counts]
        parts = zip(whole, tokens, strict=True)
        batch = concatenate([part if len(kept) == part.tokens else part.take(kept) for part, kept in parts])
        view = torch.arange(self.views, device=chunk.slots.device).repeat_interleave(len(chunk))
        counter = Counter.of(self.seed, step, batch.slots, view)
        masks = [
            np.concatenate([row[kept] for row, kept in zip(rows, tokens, strict=True)]) for rows in (hidden, predicted)
        ]
        return _Views(batch, counter, *map(torch.from_numpy, masks))

    def _divide_counts(self, chunk: CellBatch, step: int) -> Tensor | None:
        """Return the counts of both views, [2, T]; None if both have all counts."""
        if self.views == 1 or not self.objectives.contrastive.thinning:
            return None
        return divide_counts(chunk, Counter.of(self.seed, step, chunk.slots, 0))

    def _choose(self, chunk: CellBatch, step: int, counts: Tensor | None) -> Iterator[NDArray[np.bool_]]:
        """Return which genes each view has counts of, keeps, hides, and predicts, each bool [views, T] on the CPU.

        All are copied from the device at once.
        """
        masking, fraction = self.objectives.masked, self.objectives.contrastive.gene_fraction
        counters = [Counter.of(self.seed, step, chunk.slots, view) for view in range(self.views)]
        counted = [] if counts is None else list(counts > 0)
        read = [choose_read(chunk, each, fraction) for each in counters] if self.views == 2 and fraction < 1.0 else []
        hiding = (counters if masking.per_view else counters[:1]) if masking.weight else []
        hidden = [choose_hidden(chunk, each, masking.rate) for each in hiding]
        predicted = [choose_predicted(chunk, each, masking.rate, masking.most) for each in hiding]
        masks = [*counted, *read, *hidden, *predicted]
        found = torch.stack(masks).cpu().numpy() if masks else np.zeros((0, chunk.tokens), bool)
        parts = np.split(found, np.cumsum([len(counted), len(read), len(hidden)]))
        for part, default in zip(parts, (True, True, False, False), strict=True):
            yield np.broadcast_to(part if len(part) else default, (self.views, chunk.tokens))

    def _forward(self, views: _Views, *, only_cls: bool, reconstruct: bool) -> Output:
        with self.autocast():
            output: Output = self.model(
                views.batch,
                hidden=views.hidden,
                predicted=views.predicted,
                counter=views.counter,
                only_cls=only_cls,
                reconstruct=reconstruct and self._reconstruct,
            )
        return output

    def _encode(self, chunk: CellBatch, step: int) -> tuple[_Views, Output]:
        views = self._make_views(chunk, step)
        return views, self._forward(views, only_cls=self._only_cls, reconstruct=True)

    def _conquer(self, projections: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor | None]]:
        """Return the contrastive loss over all ranks, and its gradient by the embeddings of each chunk of this one.

        The input is the embeddings of the two views of each chunk, concatenated by view.
        """
        if not self.contrasts:
            return self._zeros(torch.float64, 1)[0] * torch.nan, [None] * len(projections)
        no_cell = self.model.no_projection()  # a rank can be empty
        pairs = [projection.chunk(2) for projection in projections]
        halves = [torch.cat(views) for views in zip((no_cell, no_cell), *pairs, strict=True)]
        everyone, mine = gather_rows(torch.cat(halves, dim=1), self.group)
        first, second = everyone.chunk(2, dim=1)
        alone = world_size(self.group) == 1
        loss, *gradients = info_nce(
            first,
            second,
            self.objectives.contrastive.temperature,
            cells=None if alone else mine,
            share=lambda rows: gather_rows(rows, self.group)[0],
        )
        sizes = [len(views[0]) for views in pairs]
        by_chunk = zip(*(torch.split(gradient, sizes) for gradient in gradients), strict=True)
        return loss, [torch.cat(views) for views in by_chunk]

    def _local_losses(self, output: Output, views: _Views, counts: _Counts) -> tuple[Tensor, Tensor]:
        """Return a chunk's part of the weighted loss, and its sums.

        The sums are masked, masked correct, discrimination, discrimination correct, reconstruction.
        """
        loss = output.projection.new_zeros(())
        sums = [loss] * 5
        if self.objectives.masked.weight and counts.masked:
            sums[0], sums[1] = masked_loss(output.expression, views.targets())
            loss = loss + self.objectives.masked.weight / counts.masked * sums[0]
        if self.objectives.discrimination.weight and counts.labelled:
            sums[2], sums[3] = discrimination_loss(output.malignancy, views.batch.malignancy)
            loss = loss + self.objectives.discrimination.weight / counts.labelled * sums[2]
        if self._reconstruct and self._path is not None:
            with torch.no_grad():
                first, second = self._path.dense(views.batch).chunk(2)
            sums[4] = reconstruction_loss(output.residuals, torch.cat([second, first]), self._path.genes >= 0)
            loss = loss + self.objectives.reconstruction.weight / counts.views * sums[4]
        return loss, torch.stack([part.detach().double() for part in sums])

    def _losses(self, contrastive: Tensor, sums: Tensor, counts: _Counts) -> Losses:
        weights = self.objectives
        nan, numbers = float("nan"), sums.tolist()
        masked, masked_right = (x / counts.masked if counts.masked else nan for x in numbers[:2])
        labelled = bool(weights.discrimination.weight and counts.labelled)
        discrimination, discrimination_right = (x / counts.labelled if labelled else nan for x in numbers[2:4])
        reconstruction = numbers[4] / counts.views if self._reconstruct and counts.views else nan
        terms = [
            (weights.masked.weight, masked),
            (weights.discrimination.weight, discrimination),
            (weights.contrastive.weight, float(contrastive)),
            (weights.reconstruction.weight, reconstruction),
        ]
        # an objective without genes or cells adds nothing; a loss that is itself NaN must stay visible
        counted = [bool(counts.masked), labelled, self.contrasts, self._reconstruct]
        total = sum(weight * term for (weight, term), on in zip(terms, counted, strict=True) if weight and on)
        return Losses(
            total,
            masked,
            discrimination,
            float(contrastive),
            reconstruction,
            masked_right,
            discrimination_right,
            counts.masked,
            counts.labelled,
            counts.views // self.views,
        )
