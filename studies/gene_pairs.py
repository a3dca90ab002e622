"""Do two genes share a pathway? The labelled pairs of Gene2vec: by cosine, and by a small classifier on the pair."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cell_lm.genes import Vocabulary
from studies.gene_graphs import Pairs, positions
from studies.gene_store import Vectors
from studies.gene_tests import Score, auc

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Labelled:
    """Pairs of one split, and int64 [P] whether they share a pathway. A gene outside the vocabulary is -1."""

    pairs: Pairs
    labels: NDArray[np.int64]

    def judge(self, score: Score) -> float:
        return auc(self.labels, score(self.pairs))


def read_pairs(path: Path, vocabulary: Vocabulary) -> dict[str, Labelled]:
    """Read ``gene2vec_ggi_pairs.parquet`` as it is split."""
    table = pd.read_parquet(path)
    parts = {split: table[table["split"] == split] for split in SPLITS}
    return {
        split: Labelled(positions(part, vocabulary), part["label"].to_numpy(np.int64)) for split, part in parts.items()
    }


@dataclass(frozen=True)
class ClassifierSettings:
    """One hidden layer on the product, the absolute difference and the sum of two vectors."""

    hidden: int = 128
    batch: int = 8192
    most_pairs: int = 131_072
    """Pairs of the training split that one classifier sees, drawn by its seed."""
    epochs: int = 8
    timeout: int = 2
    """Epochs without a better AUC on the validation split before it stops."""
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    dropout: float = 0.5


class PairClassifier(nn.Module):
    """Whether two genes share a pathway, whichever comes first."""

    def __init__(self, table: Tensor, settings: ClassifierSettings) -> None:
        super().__init__()
        self.settings = settings
        self.table = table
        self.hidden = nn.Linear(3 * table.shape[1], settings.hidden)
        self.out = nn.Linear(settings.hidden, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        a, b = self.table[first], self.table[second]
        features = torch.cat([a * b, (a - b).abs(), a + b], dim=1)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = F.relu(self.hidden(features))
            hidden = F.dropout(hidden, self.settings.dropout, self.training)
        logits: Tensor = self.out(hidden.float())[:, 0]
        return logits

    @torch.inference_mode()
    def score(self, pairs: Pairs) -> NDArray[np.float32]:
        self.eval()
        return np.concatenate([self(a, b).numpy() for a, b in _batches(pairs, self.settings.batch)])


def classifier_auc(
    vectors: Vectors, pairs: dict[str, Labelled], settings: ClassifierSettings, *, seed: int
) -> dict[str, float]:
    """Train on the training split, stop by the validation split, judge the test split once."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, best = _fit(vectors, pairs["train"], pairs["valid"], settings, seed)
    return {"valid": best, "test": pairs["test"].judge(model.score)}


def _fit(
    vectors: Vectors, train: Labelled, valid: Labelled, settings: ClassifierSettings, seed: int
) -> tuple[PairClassifier, float]:
    model = PairClassifier(_table(vectors), settings)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(train.pairs))[: settings.most_pairs]
    optimiser = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    best, since, kept = 0.0, 0, {key: value.clone() for key, value in model.state_dict().items()}
    for _ in range(settings.epochs):
        _epoch(model, optimiser, train, rng.permutation(chosen))
        found = valid.judge(model.score)
        since = since + 1 if found <= best else 0
        if found > best:
            best, kept = found, {key: value.clone() for key, value in model.state_dict().items()}
        if since >= settings.timeout:
            break
    model.load_state_dict(kept)
    return model, best


def _epoch(model: PairClassifier, optimiser: torch.optim.Optimizer, train: Labelled, order: NDArray[np.int64]) -> None:
    model.train()
    labels = torch.from_numpy(train.labels[order]).float()
    batches = zip(_batches(train.pairs[order], model.settings.batch), labels.split(model.settings.batch), strict=True)
    for (first, second), truth in batches:
        optimiser.zero_grad(set_to_none=True)
        F.binary_cross_entropy_with_logits(model(first, second), truth).backward()
        optimiser.step()


def _table(vectors: Vectors) -> Tensor:
    """Scale each known gene's vector to the length that standard deviation 1 gives, and put 0 last, for gene -1."""
    values = np.vstack([vectors.values, np.zeros((1, vectors.values.shape[1]), np.float32)])
    return torch.from_numpy(values).to(torch.bfloat16)


def _batches(pairs: Pairs, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    first, second = torch.from_numpy(pairs.first), torch.from_numpy(pairs.second)
    yield from zip(first.split(size), second.split(size), strict=True)
