"""Choose token budget and kept graphs of a run, by measuring on its cells before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cell_lm.config import PretrainConfig
from cell_lm.data.protocol import Dataset
from cell_lm.engine.device import autocast
from cell_lm.engine.distributed import Ranks
from cell_lm.model import CellLM
from cell_lm.pretraining.batches import Batches
from cell_lm.pretraining.budget import Budget, Work, find_budget, held_memory, memory_limit
from cell_lm.pretraining.footprint import measure
from cell_lm.pretraining.start import fresh_model, vectors_file

SAMPLE = 64
"""Most cells to measure the costs on."""
_PER_PARAMETER = 12
"""Bytes of training per parameter: its gradient and the two moments of AdamW."""
_PER_GENE = 20
"""Bytes of a gene in a batch."""
_BATCHES = 4
"""Batches in memory at once: the current one and the prefetched ones."""


def is_settled(config: PretrainConfig) -> bool:
    """Whether the configuration sets token budget and kept graphs."""
    return "auto" not in (config.training.token_budget, config.training.retain_graphs)


def chosen(config: PretrainConfig) -> tuple[int, int]:
    """Return token budget and kept graphs of a settled configuration."""
    token_budget, keep = config.training.token_budget, config.training.retain_graphs
    if token_budget == "auto" or keep == "auto":
        raise ValueError("token_budget and retain_graphs are not settled yet")
    return token_budget, keep


def plan(model: CellLM, batches: Batches, config: PretrainConfig, ranks: Ranks) -> Budget:
    """Measure the cost of a step and split it to fit the memory; all ranks must call it, and get the same result.

    Parameters
    ----------
    model
        As it will be trained, on its device.
    batches, config, ranks
        Of the run.

    Raises
    ------
    ConfigError
        Not even one cell at a time fits.
    """
    training, device = config.training, ranks.device
    work = _work(model, batches, config, ranks, held_memory(device))
    limit = memory_limit(device, training.memory)
    sample = batches.training_subset(SAMPLE).to(device)
    cost = measure(
        model,
        config.objectives,
        sample,
        autocast=autocast(device, training.precision),
        slow=lambda here: ranks.any([here])[0],
    )
    settled = [None if number == "auto" else number for number in (training.token_budget, training.retain_graphs)]
    found = ranks.run_on_all(
        lambda: find_budget(cost, work, limit, device.type, token_budget=settled[0], keep=settled[1])
    )
    token_budget, keep = ranks.min(found.token_budget), ranks.min(found.retain_graphs)
    return find_budget(cost, work, limit, device.type, token_budget=token_budget, keep=keep)


def settle(config: PretrainConfig, budget: Budget) -> PretrainConfig:
    """Write a budget into the settings of a run."""
    update = {"token_budget": budget.token_budget, "retain_graphs": budget.retain_graphs}
    return config.model_copy(update={"training": config.training.model_copy(update=update)})


def adopt(config: PretrainConfig, begun: PretrainConfig) -> PretrainConfig:
    """Keep the split of a resumed run unless its memory limit changed: the same split gives the same bits."""
    training, before = config.training, begun.training
    if training.memory != before.memory:
        return config
    names = ("token_budget", "retain_graphs")
    update = {name: getattr(before, name) for name in names if getattr(training, name) == "auto"}
    return config.model_copy(update={"training": training.model_copy(update=update)})


@dataclass(frozen=True)
class Forecast:
    """The predicted cost of a run."""

    budget: Budget
    training_cells: int
    validation_cells: int
    genes_per_cell: float
    """Median over the training cells."""
    parameters: int

    def seconds(self, steps: int) -> float:
        """Return the predicted seconds of ``steps`` steps, without validation and checkpoints."""
        return steps * self.budget.predicted_seconds


def forecast(datasets: Sequence[Dataset], config: PretrainConfig) -> Forecast:
    """Measure the cost of the steps of a run, and write nothing.

    Parameters
    ----------
    datasets, config
        As for :func:`cell_lm.pretraining.pretrain`.

    Raises
    ------
    InputError, ConfigError
        Cells and configuration do not fit together, or not even one cell at a time fits into the memory.
    ModelError
        The file of initial gene vectors is missing.
    """
    ranks = Ranks()
    batches = Batches(datasets, config, ranks)
    vectors_file(config)
    model = fresh_model(config, datasets[0].vocabulary)
    budget = plan(model.to(ranks.device), batches, config, ranks)
    return Forecast(
        budget=budget,
        training_cells=len(batches.train_cells),
        validation_cells=len(batches.validation_cells),
        genes_per_cell=float(np.median(batches.pool.lengths[batches.train_cells])),
        parameters=model.parameter_count(),
    )


def _work(model: CellLM, batches: Batches, config: PretrainConfig, ranks: Ranks, held: int) -> Work:
    lengths = batches.pool.lengths[batches.train_cells]
    cells = -(-config.training.batch_size // ranks.size)
    genes = int(lengths.mean() * cells)
    trained = model.parameter_count()
    if config.training.sharding == "full":
        trained = -(-trained // ranks.size)
    return Work(
        cells=cells,
        genes=genes,
        longest=int(lengths.max()),
        all_cells=config.training.batch_size,
        width=model.no_projection().shape[1],
        views=config.objectives.views(config.encoder),
        held=held + _PER_PARAMETER * trained + _PER_GENE * genes * _BATCHES,
    )
