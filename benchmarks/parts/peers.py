"""Other methods for a step on a whole batch: one end-to-end graph, GradCache, sentence-transformers' cached loss.

The two packages slice batches along the first dimension. Packed cells cannot be sliced, so both get the indices of
cells, and a wrapper of the encoder looks the cells up: the code of the packages is unchanged. GradCache's package
(``gradcache`` 0.0.1) imports itself under another name than it installs; that name is added as an alias.

All use the same encoder, cells, views, dropout and masks. Dropout and masks are ours, by counter, so that end to end
and GradCache must give our gradient (the benchmark checks it). The two packages still save and restore random states at
their usual cost. Sentence-transformers computes a different loss: first views against second ones only.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cell_lm.data import CellBatch, concatenate
from cell_lm.model import CellLM
from cell_lm.nn.counter import Counter
from cell_lm.objectives.masked import choose_hidden, choose_read

SEED, STEP = 3, 5
PACKAGES = {"gradcache": "gradcache", "sentence_transformers": "sentence-transformers"}


def nt_xent(
    first: Tensor, second: Tensor, temperature: float, product: Callable[[Tensor, Tensor], Tensor] = F.linear
) -> Tensor:
    """The contrastive loss by its definition: one softmax over all logits, in place where autograd allows it."""
    z = torch.cat([first, second])
    logits = product(z / temperature, z)
    logits = logits.fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(first)))


def make_view(model: CellLM, batch: CellBatch, view: int) -> tuple[CellBatch, Counter]:
    """Return the genes that a view reads, and where its dropout comes from."""
    counter = Counter.of(SEED, STEP, batch.slots, view)
    share = model.objectives.contrastive.gene_fraction
    return (batch.keep(choose_read(batch, counter, share)) if share < 1 else batch), counter


def end_to_end(model: CellLM, batch: CellBatch) -> float:
    """All cells and views in one graph, the three losses by their definitions, the gradient by autograd."""
    objectives = model.objectives
    model.redraw_features(SEED, STEP)
    parts = [make_view(model, batch, view) for view in range(2)]
    both = concatenate([part for part, _ in parts])
    hidden = choose_hidden(both, Counter.of(SEED, STEP, both.slots, 0), objectives.masked.rate)
    output = model(both, hidden=hidden, counter=Counter(torch.cat([counter.cells for _, counter in parts])))
    known = both.malignancy >= 0
    loss = objectives.masked.weight * F.cross_entropy(output.expression, both.bins[hidden])
    labels = both.malignancy[known].to(output.malignancy.dtype)
    discrimination = F.binary_cross_entropy_with_logits(output.malignancy[known], labels)
    loss = loss + objectives.discrimination.weight * discrimination
    first, second = output.projection.chunk(2)
    contrastive = nt_xent(first, second, objectives.contrastive.temperature)
    loss = loss + objectives.contrastive.weight * contrastive
    loss.backward()
    return float(loss.detach())


def local_losses(model: CellLM, batch: CellBatch, token_budget: int) -> None:
    """Masked LM and discrimination in passes of their own, as beside an engine that knows contrastive losses only."""
    objectives = model.objectives
    chunks = list(batch.chunks(token_budget // 2))
    known = 2 * int((batch.malignancy >= 0).sum())
    prepared = []
    for chunk in chunks:
        parts = [make_view(model, chunk, view) for view in range(2)]
        both = concatenate([part for part, _ in parts])
        hidden = choose_hidden(both, Counter.of(SEED, STEP, both.slots, 0), objectives.masked.rate)
        prepared.append((both, hidden, Counter(torch.cat([counter.cells for _, counter in parts]))))
    masked = sum(int(hidden.sum()) for _, hidden, _ in prepared)
    for both, hidden, counter in prepared:
        output = model(both, hidden=hidden, counter=counter)
        loss = F.cross_entropy(output.expression, both.bins[hidden], reduction="sum") / masked
        labelled = both.malignancy >= 0
        logits, labels = output.malignancy[labelled], both.malignancy[labelled].to(output.malignancy.dtype)
        loss = loss + F.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / known
        loss.backward()


class Looked(nn.Module):
    """The encoder and its projection on cells that are named by number: [n, 1] numbers to [n, width] unit vectors."""

    def __init__(self, model: CellLM, batch: CellBatch) -> None:
        super().__init__()
        self.model, self.batch = model, batch

    def look(self, numbers: Tensor, view: int) -> Tensor:
        first, last = int(numbers[0]), int(numbers[-1]) + 1
        part, counter = make_view(self.model, self.batch[first:last], view)
        cls = self.model.encoder(part, hidden=None, counter=counter, only_cls=True).cls
        return self.model.projection_head(cls)

    def forward(self, numbers: Tensor, view: Tensor) -> Tensor:
        return self.look(numbers[:, 0], int(view[0]))


def _columns(cells: int, view: int) -> dict[str, Tensor]:
    return {"numbers": torch.arange(cells)[:, None], "view": torch.full((cells, 1), view)}


class GradCachePeer:
    """A contrastive step by the package gradcache; its chunks are of one view, of twice the cells of one of ours."""

    def __init__(self, model: CellLM, batch: CellBatch, cells_a_chunk: int) -> None:
        self.cells, looked = len(batch), Looked(model, batch)
        temperature = model.objectives.contrastive.temperature
        package = _gradcache()
        self.engine = package.GradCache(
            [looked, looked], cells_a_chunk, loss_fn=lambda first, second: nt_xent(first, second, temperature)
        )

    def step(self) -> float:
        return float(self.engine(_columns(self.cells, 0), _columns(self.cells, 1)))


def _gradcache() -> Any:
    spec = importlib.util.find_spec("gradcache")
    assert spec is not None  # PACKAGES are looked for before
    package = types.ModuleType("grad_cache")
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules.setdefault("grad_cache", package)
    return importlib.import_module("grad_cache.grad_cache")


class SentenceTransformersPeer:
    """A contrastive step by sentence-transformers' CachedMultipleNegativesRankingLoss, in its cheapest direction.

    It compares first views with second ones only: half the views' comparisons that ours makes.
    """

    def __init__(self, model: CellLM, batch: CellBatch, cells_a_chunk: int) -> None:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
        from sentence_transformers.util import dot_score

        self.cells, looked = len(batch), Looked(model, batch)

        class Module(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.looked = looked

            def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
                view = int(features["view"][0])
                return features | {"sentence_embedding": looked.look(features["input_ids"][:, 0], view)}

        self.loss = CachedMultipleNegativesRankingLoss(
            SentenceTransformer(modules=[Module()], device="cpu"),
            scale=1 / model.objectives.contrastive.temperature,
            similarity_fct=dot_score,
            mini_batch_size=cells_a_chunk,
        )

    def step(self) -> float:
        features = [_columns(self.cells, view) for view in range(2)]
        loss = self.loss([{"input_ids": part["numbers"], "view": part["view"]} for part in features], None)
        loss.backward()
        return float(loss.detach())
