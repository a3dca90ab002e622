"""Which cells a step takes, and which are held out; a rank's share of them as tokens on its device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from cell_lm.config import PretrainConfig
from cell_lm.data.batch import NORMAL, TUMOUR, UNKNOWN, CellBatch
from cell_lm.data.cells import CellData
from cell_lm.data.pool import CellPool
from cell_lm.data.sampler import EpochSampler, split
from cell_lm.data.tokeniser import Tokeniser
from cell_lm.errors import ConfigError
from cell_lm.training.ranks import Ranks

MOST_VALIDATION_BATCHES = 16
"""More held-out cells than these batches hold make the curve hardly smoother, and would be missed in training."""


def held_out(n: int, batch_size: int, share: float) -> int:
    """Return how many of ``n`` cells are held out.

    Whole batches, because the contrastive loss can be compared only between batches of one size, and at most
    :data:`MOST_VALIDATION_BATCHES` of them; a share of less than one is a batch of its own size, at least two cells.
    """
    if not share:
        return 0
    wanted = max(2, round(n * share))
    whole = wanted // batch_size
    return min(whole, MOST_VALIDATION_BATCHES) * batch_size if whole else wanted


class Batches:
    """The batches of a run.

    Parameters
    ----------
    datasets
        The cells.
    config
        Of the run.
    ranks
        The processes that share a batch.

    Raises
    ------
    InputError
        There are no datasets, or they do not have one vocabulary.
    ConfigError
        There are fewer cells than a batch takes or than ranks, or the only objective needs labels that are not there.
    """

    def __init__(self, datasets: Sequence[CellData], config: PretrainConfig, ranks: Ranks) -> None:
        training = config.training
        self.pool = CellPool(datasets, Tokeniser(config.encoder.bins, config.encoder.max_genes))
        self.ranks, self.batch_size, self.seed = ranks, training.batch_size, training.seed
        n = len(self.pool)
        held = min(held_out(n, training.batch_size, training.validation), n - 1)
        self.train_cells, self.validation_cells = split(n, held / n, training.seed)
        self.sampler = EpochSampler(len(self.train_cells), training.batch_size, training.seed)
        self.sampler.share(0, ranks.rank, ranks.size)
        if 0 < held < ranks.size:
            found = f"{held} cells to validate on, over {ranks.size} ranks"
            raise ConfigError(
                found, fix="Raise training.validation, or set it to 0 to train without a validation curve"
            )
        self.notes: list[str] = []
        self.labelled = self._has_both_states(config)

    def _has_both_states(self, config: PretrainConfig) -> bool:
        """Say whether tumour and normal can be told apart; one state alone would teach a constant."""
        states = self.pool.state[self.train_cells]
        normal, tumour = int((states == NORMAL).sum()), int((states == TUMOUR).sum())
        objectives = config.objectives
        if (normal and tumour) or not objectives.discrimination.weight:
            return bool(normal and tumour)
        found = f"{normal:,} normal and {tumour:,} tumour cells are known among {len(states):,} to train on"
        if not (objectives.masked.weight or objectives.contrastive.weight):
            fix = "Name the column that tells tumour from normal, give data of both, or turn another objective on"
            raise ConfigError(f"{found}, and discrimination is the only objective", fix=fix)
        self.notes.append(f"{found}: the discrimination objective needs both and is left out")
        return False

    def _tokenise(self, cells: NDArray[np.int64], first: int) -> CellBatch:
        batch = self.pool.tokenise(cells).with_slots(first)
        if not self.labelled:
            batch = replace(batch, state=torch.full_like(batch.state, UNKNOWN))
        return batch.to(self.ranks.device)

    def train(self, step: int) -> CellBatch:
        """Return this rank's share of the batch of a step (0, 1, …), in its slots."""
        cells, first = self.sampler.share(step, self.ranks.rank, self.ranks.size)
        return self._tokenise(self.train_cells[cells], first)

    def sample(self, most: int) -> CellBatch:
        """Return at most ``most`` training cells, the same on every rank, on the CPU."""
        chosen = np.random.default_rng(self.seed).permutation(self.train_cells)[:most]
        return self.pool.tokenise(np.sort(chosen))

    def validation(self) -> Iterator[CellBatch]:
        """Yield this rank's share of each batch of the held-out cells."""
        cells, size = self.validation_cells, self.batch_size
        for start in range(0, len(cells), size):
            batch = cells[start : start + size]
            first, last = (len(batch) * bound // self.ranks.size for bound in (self.ranks.rank, self.ranks.rank + 1))
            yield self._tokenise(batch[first:last], first)
