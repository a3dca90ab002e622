"""``cell-lm pretrain --dry-run``: memory and time of the run, measured on its own cells; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence

from cell_lm.cli.console import Messages
from cell_lm.config import PretrainConfig
from cell_lm.data.protocol import Dataset
from cell_lm.pretraining.budget import gigabytes
from cell_lm.pretraining.plan import Forecast, forecast
from cell_lm.report.numbers import duration


def print_forecast(datasets: Sequence[Dataset], config: PretrainConfig, says: Messages) -> int:
    """Measure some steps and print the memory and time that the run needs."""
    says.note("measuring some steps")
    for line in forecast_lines(forecast(datasets, config), config):
        says.result(line)
    return 0


def forecast_lines(found: Forecast, config: PretrainConfig) -> list[str]:
    """Return a forecast, line by line."""
    budget, training = found.budget, config.training
    cells = f"{found.training_cells:,} cells, {found.validation_cells:,} more held out"
    kept = min(budget.retain_graphs, budget.chunks)
    genes, size = f"{found.genes_per_cell:,.0f} genes in a cell (median)", f"{found.parameters / 1e6:.1f} M parameters"
    whole = duration(found.seconds(training.steps))
    return [
        f"{cells}, {genes}; preset {config.preset}, {size}",
        f"a step: {training.batch_size:,} cells; chunks of at most {budget.token_budget:,} genes over both views: "
        f"{budget.chunks:,}; graphs kept: {kept:,}",
        f"memory: {gigabytes(budget.predicted_bytes)} of the {gigabytes(budget.limit)} it may take, "
        f"{gigabytes(budget.held_bytes)} of them for data, weights, optimiser and embeddings",
        f"time: {budget.predicted_seconds:.2g} s a step, {whole} for {training.steps:,} steps, without optimiser, "
        "validation and checkpoints (measured now, on this machine as busy as it is)",
        "nothing was written",
    ]
