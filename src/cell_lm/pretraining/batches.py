"""Which cells a step takes, and which are held out; a rank's share of them as tokens on its device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scdataset import Streaming, scDataset

from cell_lm.config import PretrainConfig
from cell_lm.data.loading.balance import BalancedSampler
from cell_lm.data.loading.batch import CellBatch
from cell_lm.data.loading.concat import ConcatCells, Fetched
from cell_lm.data.loading.groups import read_groups
from cell_lm.data.loading.prefetch import Prefetcher
from cell_lm.data.loading.sampler import EpochSampler, Index, Order, Sampler, sample, split
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.data.obs.malignancy import NORMAL, TUMOUR, UNKNOWN
from cell_lm.data.protocol import Dataset
from cell_lm.engine.distributed import Ranks
from cell_lm.errors import ConfigError

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


class _Window(NamedTuple):
    """Some steps whose cells were fetched at once: cells and first slot of each."""

    shares: Sequence[tuple[Index, int]]
    fetched: Mapping[int, Fetched]


class Batches:
    """The batches of a run.

    Parameters
    ----------
    datasets
        The cells, in memory, in stores or in files.
    config
        Of the run.
    ranks
        The processes that share a batch.

    Raises
    ------
    InputError
        There are no datasets, they do not have one vocabulary, or none has the column to balance by.
    ConfigError
        There are fewer cells than a batch takes or than ranks, or the only objective needs labels that are not there.
    """

    def __init__(self, datasets: Sequence[Dataset], config: PretrainConfig, ranks: Ranks) -> None:
        training, self.data = config.training, config.data
        self.pool = ConcatCells(datasets, Tokeniser(config.encoder.bins, config.encoder.max_genes))
        self.ranks, self.batch_size, self.seed, self.steps = ranks, training.batch_size, training.seed, training.steps
        n = len(self.pool)
        held = min(held_out(n, training.batch_size, training.validation), n - 1)
        self.train_cells, self.validation_cells = split(n, held / n, training.seed)
        self.notes: list[str] = []
        self.sampler = self._sampler(datasets)
        self.sampler.share(0, ranks.rank, ranks.size)
        if 0 < held < ranks.size:
            found = f"{held} cells to validate on, over {ranks.size} ranks"
            raise ConfigError(
                found, fix="Raise training.validation, or set it to 0 to train without a validation curve"
            )
        self.labelled = self._has_both_kinds(config)
        self._ahead: Prefetcher[CellBatch] | None = None
        self._next = 0

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
        """Say whether tumour and normal can be told apart; one malignancy alone would teach a constant."""
        cell_malignancy = self.pool.malignancy[self.train_cells]
        normal, tumour = int((cell_malignancy == NORMAL).sum()), int((cell_malignancy == TUMOUR).sum())
        objectives = config.objectives
        if (normal and tumour) or not objectives.discrimination.weight:
            return bool(normal and tumour)
        found = f"{normal:,} normal and {tumour:,} tumour cells are known among {len(cell_malignancy):,} to train on"
        if not (objectives.masked.weight or objectives.contrastive.weight):
            fix = "Name the column that tells tumour from normal, give data of both, or turn another objective on"
            raise ConfigError(f"{found}, and discrimination is the only objective", fix=fix)
        self.notes.append(f"{found}: the discrimination objective needs both and is left out")
        return False

    def _finish(self, batch: CellBatch, first: int) -> CellBatch:
        batch = batch.with_slots(first)
        if not self.labelled:
            batch = replace(batch, malignancy=torch.full_like(batch.malignancy, UNKNOWN))
        return batch

    def _share(self, step: int) -> tuple[Index, int]:
        cells, first = self.sampler.share(step, self.ranks.rank, self.ranks.size)
        return self.train_cells[cells], first

    def _stream(self, first: int) -> Iterator[CellBatch]:
        """Yield this rank's batches from a step on, read several steps at a time where cells are in files.

        :class:`scdataset.scDataset` cuts the steps into windows, has each window fetched at once, and takes the batches
        out of it; here its items are steps, whose cells the sampler knows.
        """
        size = max(1, self.batch_size // self.ranks.size)
        windows = scDataset(
            range(self.steps),
            Streaming(indices=np.arange(first, self.steps)),
            batch_size=1,
            fetch_factor=max(1, self.data.window // size) if self.pool.reads_files else 1,
            fetch_callback=self._fetch,
            batch_callback=self._take,
            rank=0,
            world_size=1,
            seed=0,
        )
        yield from windows

    def _fetch(self, _: range, steps: NDArray[np.int64]) -> _Window:
        shares = [self._share(int(step)) for step in steps]
        return _Window(shares, self.pool.fetch(np.concatenate([cells for cells, _ in shares])))

    def _take(self, window: _Window, places: NDArray[np.int64]) -> CellBatch:
        cells, first = window.shares[int(places[0])]
        batch = self._finish(self.pool.tokenise(cells, window.fetched), first)
        return batch.pin() if self.ranks.device.type == "cuda" else batch

    @contextmanager
    def ahead(self, first: int) -> Iterator[None]:
        """Make the batches of a run from step ``first`` on ahead of their use, for as long as this is entered."""
        if not self.data.prefetch or first >= self.steps:
            yield
            return
        self._ahead, self._next = Prefetcher(self._stream(first), self.data.prefetch), first
        try:
            yield
        finally:
            self._ahead.close()
            self._ahead = None

    def train(self, step: int) -> CellBatch:
        """Return this rank's share of the batch of a step (0, 1, …), in its slots; the same however it is come by.

        Raises
        ------
        InputError
            Cells of a store or file have been damaged, or changed, since it was opened.
        """
        if self._ahead is not None and step == self._next:
            self._next += 1
            return next(self._ahead).to(self.ranks.device)
        cells, first = self._share(step)
        return self._finish(self.pool.tokenise(cells), first).to(self.ranks.device)

    def sample(self, most: int) -> CellBatch:
        """Return at most ``most`` training cells, the same on every rank, on the CPU."""
        return self.pool.tokenise(self.train_cells[sample(len(self.train_cells), most, self.seed)])

    def validation(self) -> Iterator[CellBatch]:
        """Yield this rank's share of each batch of the held-out cells."""
        cells, size = self.validation_cells, self.batch_size
        for start in range(0, len(cells), size):
            batch = cells[start : start + size]
            first, last = (len(batch) * bound // self.ranks.size for bound in (self.ranks.rank, self.ranks.rank + 1))
            yield self._finish(self.pool.tokenise(batch[first:last]), first).to(self.ranks.device)
