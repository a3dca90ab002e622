"""The report of a run, from its folder and, if available, from cells."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cell_lm._version import __version__
from cell_lm.config import PretrainConfig
from cell_lm.data import NORMAL, TUMOUR, CellData, protocol
from cell_lm.engine.distributed import Ranks
from cell_lm.engine.folder import DATA
from cell_lm.errors import GeneError, ModelError
from cell_lm.files import atomic_file, checksum_holds
from cell_lm.genes import AuditSummary
from cell_lm.model import CellLM
from cell_lm.objectives.masked import frequent_bin_accuracy
from cell_lm.pretraining.batches import Batches
from cell_lm.pretraining.folder import run_folder
from cell_lm.reading import MOST_LISTED, read_json_object
from cell_lm.report import (
    Annotation,
    Baseline,
    Dataset,
    Embedding,
    ReportData,
    Reproduction,
    Training,
    environment,
    read_history,
    write_report,
)

REPORT, COMMAND = "report.html", "command.txt"
_SAMPLED = 5_000
"""Most cells that a baseline is fitted on, and most that it is scored on."""


def keep_command(run: Path, command: str) -> None:
    """Record the command that started a run; a resumed run keeps the first."""
    path = run / COMMAND
    if not path.is_file():
        with atomic_file(path) as temporary:
            temporary.write_text(f"{command}\n", encoding="utf-8")


def report_pretraining(run: Path, datasets: Sequence[protocol.Dataset]) -> None:
    """Write ``report.html`` into a run folder, described with its training cells."""
    config = run_folder(run).read_config()
    in_memory = [Dataset.from_cells(cells, role="pretraining") for cells in datasets if isinstance(cells, CellData)]
    described = tuple(in_memory) if len(in_memory) == len(datasets) else None
    write_report(describe_run(run, datasets=described, baselines=guesses(datasets, config)), run / REPORT)


def describe_run(
    run: Path,
    *,
    datasets: tuple[Dataset, ...] | None = None,
    baselines: dict[str, Baseline] | None = None,
    embedding: Embedding | None = None,
    annotation: Annotation | None = None,
) -> ReportData:
    """Return the contents of the report of a run.

    Parameters
    ----------
    run
        The run folder.
    datasets, baselines
        Default: read from the folder.
    embedding, annotation
        Of cells that the model embedded and annotated.

    Raises
    ------
    InputError
        There is no run, or it has no finished step yet.
    ModelError
        A file of the run is damaged.
    """
    history = read_history(run)
    config, model = run_folder(run).read_config(), CellLM.from_pretrained(run)
    datasets = _read_datasets(run) if datasets is None else datasets
    training, encoder = config.training, config.encoder
    steps, cells = int(history["step"].max()), sum(one.cells for one in datasets)
    return ReportData(
        title=f"Pretraining {Path(os.path.realpath(run)).name}",
        summary=f"{steps:,} of {training.steps:,} steps of {training.batch_size:,} cells on {cells:,} cells.",
        parameters=model.parameter_count(),
        model=f"{config.preset}: {encoder.attention} attention, {encoder.layers} layers of width {encoder.width}",
        vocabulary=len(model.vocabulary),
        datasets=datasets,
        training=Training(history, baselines or _malignancy_guess([(one.tumour, one.normal) for one in datasets])),
        embedding=embedding,
        annotation=annotation,
        reproduction=_reproduction(run, config),
    )


def _reproduction(run: Path, config: PretrainConfig) -> Reproduction | None:
    """Return how to repeat the run, if the command that started it is recorded."""
    command = run / COMMAND
    if not command.is_file():
        return None
    files = {"the model": "model", "the training log": "log.jsonl", "all settings": "config.json", "the data": DATA}
    return Reproduction(
        command=command.read_text(encoding="utf-8").strip(),
        version=__version__,
        seed=config.training.seed,
        config=config.model_dump(mode="json"),
        environment=environment(),
        files={what: name for what, name in files.items() if (run / name).exists()},
    )


def _read_datasets(run: Path) -> tuple[Dataset, ...]:
    path = run / DATA
    try:
        values = read_json_object(path, most=MOST_LISTED)
        if not checksum_holds(values):
            raise ValueError("its values are not those that its checksum names")
        return tuple(
            Dataset(
                name=str(one["name"]),
                cells=int(one["cells"]),
                audit=AuditSummary.from_json(one["audit"]),
                tumour=int(one["malignancy"]["tumour"]),
                normal=int(one["malignancy"]["normal"]),
                role="pretraining",
            )
            for one in values["datasets"]
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, GeneError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ModelError(f"it cannot be read ({reason})", where=str(path), fix="Restore it from a copy") from None


def guesses(datasets: Sequence[protocol.Dataset], config: PretrainConfig) -> dict[str, Baseline]:
    """Return baselines that ignore the cell: each gene's most frequent bin, and the more frequent malignancy.

    The bin is counted on training cells and scored on the held-out ones, if there are any.
    """
    batches = Batches(datasets, config, Ranks())
    training, held_out = (
        batches.training_subset(_SAMPLED),
        np.random.default_rng(0).permutation(batches.validation_cells),
    )
    validation = batches.pool.tokenise(np.sort(held_out[:_SAMPLED])) if len(held_out) else training
    right = frequent_bin_accuracy(training, validation, config.encoder.bins)
    tumour, normal = (int(np.sum(batches.pool.malignancy == malignancy)) for malignancy in (TUMOUR, NORMAL))
    return {
        "masked_accuracy": Baseline(right, "always the gene's most frequent bin"),
        **_malignancy_guess([(tumour, normal)]),
    }


def _malignancy_guess(counts: Sequence[tuple[int, int]]) -> dict[str, Baseline]:
    tumour, normal = (sum(numbers) for numbers in zip(*counts, strict=True)) if counts else (0, 0)
    if not (tumour and normal):
        return {}
    fraction = max(tumour, normal) / (tumour + normal)
    return {"discrimination_accuracy": Baseline(fraction, "always the more frequent malignancy")}
