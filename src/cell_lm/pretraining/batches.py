"""Training and validation batches of a run: the cells of each, and a rank's part of them as tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from cell_lm.config import PretrainConfig
from cell_lm.data.loading.balance import BalancedSampler
from cell_lm.data.loading.batch import CellBatch
from cell_lm.data.loading.concat import ConcatCells, LoadedRows
from cell_lm.data.loading.groups import read_groups
from cell_lm.data.loading.prefetch import Prefetcher
from cell_lm.data.loading.sampler import EpochSampler, Index, Order, Sampler, random_subset, split
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.data.obs.malignancy import NORMAL, TUMOUR, UNKNOWN
from cell_lm.data.protocol import Dataset
from cell_lm.engine.distributed import Ranks
from cell_lm.errors import ConfigError
from cell_lm.model_folder import Discriminated

MAX_VALIDATION_BATCHES = 16
"""More validation batches hardly smooth the curve, and take cells from training."""


def validation_size(n: int, batch_size: int, fraction: float) -> int:
    """Return how many of ``n`` cells are held out for validation.

    Whole batches, because the contrastive loss can be compared only between batches of one size, and at most
    :data:`MAX_VALIDATION_BATCHES`; a fraction of less than one batch becomes one
    smaller batch of at least two cells.
    """
    if not fraction:
        return 0
    wanted = max(2, round(n * fraction))
    whole = wanted // batch_size
    return min(whole, MAX_VALIDATION_BATCHES) * batch_size if whole else wanted


class Batches:
    """The training and validation batches of a run.

    Parameters
    ----------
    datasets
        The cells, in memory, in stores or in files.
    config
        Configuration of the run.
    ranks
        The processes that share a batch.

    Raises
    ------
    InputError
        There are no datasets, their vocabularies differ, or none has the column to balance by.
    ConfigError
        There are fewer cells than in a batch or than ranks, or the only objective needs labels that are missing.
    """

    def __init__(self, datasets: Sequence[Dataset], config: PretrainConfig, ranks: Ranks) -> None:
        training, self.data = config.training, config.data
        self.pool = ConcatCells(datasets, Tokeniser(config.encoder.bins, config.encoder.max_genes))
        self.ranks, self.batch_size, self.seed, self.steps = ranks, training.batch_size, training.seed, training.steps
        n = len(self.pool)
        n_valid = min(validation_size(n, training.batch_size, training.validation), n - 1)
        self.train_cells, self.validation_cells = split(n, n_valid / n, training.seed)
        self.notes: list[str] = []
        self.sampler = self._sampler(datasets)
        self.sampler.share(0, ranks.rank, ranks.size)
        if 0 < n_valid < ranks.size:
            found = f"{n_valid} cells to validate on, over {ranks.size} ranks"
            raise ConfigError(
                found, fix="Raise training.validation, or set it to 0 to train without a validation curve"
            )
        self.labelled = self._has_both_kinds(config)
        self._prefetcher: Prefetcher[CellBatch] | None = None
        self._next_step = 0

    def _sampler(self, datasets: Sequence[Dataset]) -> Sampler:
        data, n = self.data, len(self.train_cells)
        in_blocks = data.order == "blocks" or (data.order == "auto" and self.pool.reads_files)
        order = Order(data.block, data.window) if in_blocks else Order()
        if data.balance == "none":
            return EpochSampler(n, self.batch_size, self.seed, order)
        groups = read_groups(datasets, data.balance, self.pool.malignancy)
        sampler = BalancedSampler(
            groups.numbers[self.train_cells], self.batch_size, self.seed, order, balance_strength=data.balance_strength
        )
        self.notes.append(groups.describe(data.balance, sampler))
        return sampler

    def _has_both_kinds(self, config: PretrainConfig) -> bool:
        """Return whether there are tumour and normal cells; with one class alone the head would learn a constant."""
        cells, objectives = len(self.train_cells), config.objectives
        normal, tumour = self._number(NORMAL), self._number(TUMOUR)
        if (normal and tumour) or not objectives.discrimination.weight:
            return bool(normal and tumour)
        found = f"{normal:,} normal and {tumour:,} tumour cells are known among {cells:,} to train on"
        if not (objectives.masked.weight or objectives.contrastive.weight or objectives.reconstructs(config.encoder)):
            fix = "Name the column that separates tumour from normal, give data of both, or turn another objective on"
            raise ConfigError(f"{found}, and discrimination is the only objective", fix=fix)
        self.notes.append(f"{found}: the discrimination objective needs both and is left out")
        return False

    def _number(self, malignancy: int) -> int:
        return int((self.pool.malignancy[self.train_cells] == malignancy).sum())

    def discriminated(self) -> Discriminated | None:
        """Return the cells that the discrimination head learns from; None where there are not both kinds."""
        return Discriminated(self._number(TUMOUR), self._number(NORMAL)) if self.labelled else None

    def _rank_cells(self, step: int) -> tuple[Index, int]:
        """Return this rank's cells of a step, and the index of the first in the batch."""
        cells, first_slot = self.sampler.share(step, self.ranks.rank, self.ranks.size)
        return self.train_cells[cells], first_slot

    def _tokenise(self, cells: Index, first_slot: int, loaded: Mapping[int, LoadedRows] | None = None) -> CellBatch:
        batch = self.pool.tokenise(cells, loaded).with_slots(first_slot)
        if not self.labelled:
            batch = replace(batch, malignancy=torch.full_like(batch.malignancy, UNKNOWN))
        return batch

    def _steps_from(self, first: int) -> Iterator[CellBatch]:
        """Yield this rank's batches from a step on; cells in files are read for several steps at once."""
        per_step = max(1, self.batch_size // self.ranks.size)
        window = max(1, self.data.window // per_step) if self.pool.reads_files else 1
        for start in range(first, self.steps, window):
            steps = [self._rank_cells(step) for step in range(start, min(start + window, self.steps))]
            loaded = self.pool.load(np.concatenate([cells for cells, _ in steps]))
            for cells, first_slot in steps:
                batch = self._tokenise(cells, first_slot, loaded)
                yield batch.pin() if self.ranks.device.type == "cuda" else batch

    @contextmanager
    def prefetch(self, first: int) -> Iterator[None]:
        """Prepare the batches from step ``first`` on in a thread while this context is open."""
        if not self.data.prefetch or first >= self.steps:
            yield
            return
        self._prefetcher, self._next_step = Prefetcher(self._steps_from(first), self.data.prefetch), first
        try:
            yield
        finally:
            self._prefetcher.close()
            self._prefetcher = None

    def train(self, step: int) -> CellBatch:
        """Return this rank's part of the training batch of a step (0, 1, …), on its device.

        The batch is the same whether it was prefetched or not.

        Raises
        ------
        InputError
            Cells of a store or file were damaged or changed after it was opened.
        """
        if self._prefetcher is not None and step == self._next_step:
            self._next_step += 1
            return next(self._prefetcher).to(self.ranks.device)
        return self._tokenise(*self._rank_cells(step)).to(self.ranks.device)

    def training_subset(self, max_cells: int) -> CellBatch:
        """Return at most ``max_cells`` training cells chosen at random, the same on every rank, on the CPU."""
        chosen = random_subset(len(self.train_cells), max_cells, self.seed)
        return self.pool.tokenise(self.train_cells[chosen])

    def validation(self) -> Iterator[CellBatch]:
        """Yield this rank's part of each batch of the validation cells."""
        cells, size = self.validation_cells, self.batch_size
        for start in range(0, len(cells), size):
            batch = cells[start : start + size]
            first, last = (len(batch) * bound // self.ranks.size for bound in (self.ranks.rank, self.ranks.rank + 1))
            yield self._tokenise(batch[first:last], first).to(self.ranks.device)
