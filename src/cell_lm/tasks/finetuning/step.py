"""A step of fine-tuning, for the loop: encoder and linear head on labelled cells, in chunks of bounded size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from torch import Tensor, nn

from cell_lm.config import FineTuneConfig
from cell_lm.data.loading.batch import CellBatch
from cell_lm.data.loading.sampler import EpochSampler, random_subset
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.data.view import CellView
from cell_lm.engine.loop import Metrics
from cell_lm.engine.optimiser import build_optimiser
from cell_lm.evaluation.calibration import best_temperature, log_softmax
from cell_lm.evaluation.linear_head import LinearHead
from cell_lm.model import CellLM
from cell_lm.nn.counter import Counter, dropout
from cell_lm.objectives.thinning import divide_counts, with_counts

Codes = NDArray[np.int64]

MOST_LEFT_OUT = 2_000
"""Most left-out cells that a validation looks at."""
_HEAD_SITE = 1 << 20
"""Number of the dropout site before the head, above all of the encoder."""
_VIEWS = 2
"""View whose random numbers divide the counts; 0 and 1 are those of the encoder in pretraining."""


class LabelledCells(NamedTuple):
    """Cells with the class of each, and which of them are trained on and validated on (int64 rows)."""

    cells: CellView
    codes: Codes
    train: Codes
    left_out: Codes


def linear_of(head: LinearHead) -> nn.Linear:
    """Return a linear head as a layer of logits: the same probabilities, up to the rounding of float32."""
    layer = nn.Linear(head.coefficients.shape[1], len(head.classes))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.coefficients))
        layer.bias.copy_(torch.from_numpy(head.intercept - head.coefficients @ head.mean))
    return layer


class FineTuneStep:
    """Fine-tuning as a :class:`~cell_lm.engine.loop.Step`.

    The loss is the cross-entropy (nats), all classes having the same weight if ``config.balanced``. Random numbers are
    functions of seed, step and the place of a cell in the batch, so the chunks of a batch change nothing.

    Parameters
    ----------
    model
        A model whose trainable parameters have been chosen, on its device.
    head
        The linear head to begin with.
    labelled
        The cells.
    config
        Settings.
    """

    examples = "cells"
    if_not_finite = "Lower learning_rate"

    def __init__(self, model: CellLM, head: LinearHead, labelled: LabelledCells, config: FineTuneConfig) -> None:
        self.model, self.labelled, self.config = model, labelled, config
        self.readout, self.device = model.encoder.readout, model.device
        self.head = linear_of(head).to(self.device)
        only = config.part == "refinement"
        trained = {"norm": self.readout.norm, "refinement": self.readout.refinement} if only else {"e": model.encoder}
        self.module = nn.ModuleDict({**trained, "head": self.head})
        self.sampler = EpochSampler(len(labelled.train), min(config.batch_size, len(labelled.train)), config.seed)
        self.tokenise = Tokeniser(model.config.bins, model.config.max_genes)
        self.weights = _class_weights(labelled.codes[labelled.train], len(head.classes), balanced=config.balanced)
        self.judged = labelled.left_out[random_subset(len(labelled.left_out), MOST_LEFT_OUT, config.seed)]
        self.before = self._all_before() if only and not config.thinning else None
        self.least_f1 = self._judge()[1] if len(self.judged) else 0.0

    def optimiser(self) -> torch.optim.AdamW:
        """Return AdamW that decays matrices only."""
        return build_optimiser(self.module, self.config)

    def gradient(self, step: int) -> Metrics:
        """Add the gradient of the batch of a step to ``.grad``."""
        rows = self.labelled.train[self.sampler.batch(step)]
        weights = self.weights.to(self.device)
        codes = torch.from_numpy(self.labelled.codes[rows]).to(self.device)
        whole, total = weights[codes].sum(), 0.0
        for slots, cls, counter in self._encoded(rows, step):
            if counter is not None:
                keys = counter.rows(torch.arange(len(cls), device=self.device), torch.zeros_like(codes[slots]))
                cls = dropout(cls, keys, _HEAD_SITE, self.config.dropout)
            loss = F.cross_entropy(self.head(cls), codes[slots], weight=weights, reduction="sum") / whole
            torch.autograd.backward(loss)
            total += loss.item()
        return Metrics({"total": total}, len(rows))

    def validate(self) -> Metrics | None:
        """Judge the left-out cells, without dropout.

        ``loss`` is their mean log loss by class at the best temperature, since the final head is calibrated;
        ``macro_f1`` is that of their classes. ``total``, which chooses the step, is the loss; infinite where macro-F1
        is below that of step 0, since the loss often falls while the classes get worse.
        """
        if not len(self.judged):
            return None
        loss, f1 = self._judge()
        total = loss if f1 >= self.least_f1 else math.inf
        return Metrics({"total": total, "loss": loss, "macro_f1": f1}, len(self.judged))

    @torch.no_grad()
    def _judge(self) -> tuple[float, float]:
        logits = np.concatenate([each.double().cpu().numpy() for each in self._logits(self.judged)])
        codes = self.labelled.codes[self.judged]
        log = log_softmax(logits / best_temperature(logits, codes))[np.arange(len(codes)), codes]
        present = np.unique(codes)
        loss = -float(np.mean([log[codes == one].mean() for one in present]))
        return loss, float(f1_score(codes, logits.argmax(axis=1), labels=present, average="macro", zero_division=0.0))

    def describe(self, metrics: Metrics, per_second: float) -> str:
        """Return the loss and the speed."""
        return f"loss {metrics.total:.4f}, {per_second:,.0f} cells/s"

    def _logits(self, rows: Codes) -> Iterator[Tensor]:
        for start in range(0, len(rows), 256):
            for _, cls, _ in self._encoded(rows[start : start + 256], None):
                yield self.head(cls)

    def _encoded(self, rows: Codes, step: int | None) -> Iterator[tuple[slice, Tensor, Counter | None]]:
        """Yield the places in ``rows`` of each chunk, CLS of its cells, and their counter; none without a step."""
        if self.before is not None:
            slots = torch.arange(len(rows), device=self.device)
            cls = self.readout.refine(self.before[torch.from_numpy(rows)].to(self.device))
            yield slice(0, len(rows)), cls, None if step is None else Counter.of(self.config.seed, step, slots, 0)
            return
        start = 0
        for chunk in self._tokens(rows, step).chunks(self.config.token_budget):
            cells = chunk.to(self.device)
            counter = None if step is None else Counter.of(self.config.seed, step, cells.slots, 0)
            yield slice(start, start + len(cells)), self._cls(cells, counter), counter
            start += len(cells)

    def _cls(self, cells: CellBatch, counter: Counter | None) -> Tensor:
        if self.config.part != "refinement":
            cls: Tensor = self.model.encoder(cells, hidden=None, counter=counter, only_cls=True).cls
            return cls
        return self.readout.refine(self._before(cells))

    @torch.no_grad()
    def _before(self, cells: CellBatch) -> Tensor:
        """Return what the refinement reads, [C, width]."""
        with self.readout.unrefined():
            before: Tensor = self.model.encoder(cells, hidden=None, counter=None, only_cls=True).cls
        return before

    def _all_before(self) -> Tensor:
        """Return what the refinement reads for all cells, which does not change while it is trained."""
        rows = np.arange(len(self.labelled.codes))
        blocks = (self._tokens(rows[start : start + 1024], None) for start in range(0, len(rows), 1024))
        chunks = (chunk for block in blocks for chunk in block.chunks(self.config.token_budget))
        return torch.cat([self._before(chunk.to(self.device)).cpu() for chunk in chunks])

    def _tokens(self, rows: Codes, step: int | None) -> CellBatch:
        read = self.labelled.cells[rows].read(slice(0, len(rows)))
        batch = self.tokenise(read, np.arange(len(rows)))
        if step is None or not self.config.thinning or step % 2 == 0:
            return batch
        half = divide_counts(batch, Counter.of(self.config.seed, step, batch.slots, _VIEWS))[0]
        return with_counts(batch, half, self.model.config.bins).keep(half > 0)


def _class_weights(codes: Codes, classes: int, *, balanced: bool) -> Tensor:
    """Return the weight of each class in the loss, float32 [classes]; their mean over cells is 1."""
    sizes = np.bincount(codes, minlength=classes)
    weights = len(codes) / (classes * np.maximum(sizes, 1)) if balanced else np.ones(classes)
    return torch.from_numpy(weights.astype(np.float32))
