"""``cell-lm pretrain``: pretrain a model on the user's own cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cell_lm.cli import run_options as run
from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.console import Messages, messages
from cell_lm.cli.options import NoVerify
from cell_lm.cli.read_options import reads_cells

if TYPE_CHECKING:
    from cell_lm.config import EncoderConfig, PretrainConfig
    from cell_lm.data.protocol import Dataset
    from cell_lm.data.read_options import ReadOptions
    from cell_lm.genes.vocabulary import Vocabulary
    from cell_lm.pretraining import RunResult

_EPILOG = """[bold]Examples[/bold]

  cell-lm pretrain pbmc.h5ad --out run --steps 500
  cell-lm pretrain ovary.h5ad lung.h5ad --out run \\
      --malignancy-column malignant --tumour yes,putative
  cell-lm pretrain --normal-file healthy.h5ad --tumour-file melanoma.h5ad --out run
  cell-lm pretrain pbmc.h5ad --out run --gene-vectors network
  cell-lm pretrain pbmc.h5ad --out run --resume
  cell-lm pretrain pbmc.h5ad --out run --resume --steps 2000   [dim]# extend the run[/dim]
  cell-lm pretrain mine.h5ad --from run --out continued        [dim]# start from its weights[/dim]
  cell-lm pretrain pbmc.h5ad --batch-size 4096 --memory 8GB --dry-run
  cell-lm prepare *.h5ad --out store && cell-lm pretrain store --out run
  cell-lm pretrain store more.h5ad --out run --set data.balance=tissue
  torchrun --nproc-per-node 4 -m cell_lm pretrain pbmc.h5ad --out run
  cell-lm pretrain pbmc.h5ad --out run --ray-workers 4

[dim]All files are read and checked before anything is written.
Ctrl-C saves and exits; --resume continues.[/dim]"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("pretrain", help="Pretrain a model on your own cells.", epilog=_EPILOG)(pretrain)


@reads_cells(min_genes=200, least=1)
def pretrain(
    context: typer.Context,
    files: run.Files = None,
    out: run.Run = None,
    *,
    read: ReadOptions,
    malignancy_column: run.MalignancyColumnName = None,
    tumour: run.TumourValues = None,
    normal: run.NormalValues = None,
    unknown: run.UnknownValues = None,
    tumour_file: run.TumourFiles = None,
    normal_file: run.NormalFiles = None,
    initial: run.From = None,
    preset: run.Preset = None,
    config: run.ConfigFile = None,
    settings: run.Settings = None,
    steps: run.Steps = None,
    batch_size: run.BatchSize = None,
    learning_rate: run.LearningRate = None,
    seed: run.Seed = None,
    gene_vectors: run.GeneVectors = None,
    freeze_gene_vectors: run.FreezeGeneVectors = None,
    memory: run.Memory = None,
    dry_run: run.DryRun = False,
    backed: run.Backed = False,
    no_verify: NoVerify = False,
    resume: run.Resume = False,
    ray_workers: run.RayWorkers = None,
    report: run.Report = True,
) -> int:
    """Read all files, train, report."""
    if not (files or tumour_file or normal_file):
        raise typer.BadParameter("name at least one file or store of cells", param_hint="CELLS")
    if out is None and not dry_run:
        raise typer.BadParameter("name the run folder to make", param_hint="--out")
    keep_large_blocks()
    from cell_lm.cli.inputs import Inputs, read_malignancy_options

    options: dict[str, float | str | None] = {"steps": steps, "batch_size": batch_size, "seed": seed}
    options |= {"learning_rate": learning_rate, "memory": memory}
    options |= {"gene_vectors": gene_vectors, "freeze_gene_vectors": freeze_gene_vectors}
    pairs = [*(settings or []), *(["data.backed_above=0"] if backed else [])]
    resolved, vocabulary = _configure(out, preset, config, pairs, options, initial=initial, resume=resume)
    column = read_malignancy_options(
        malignancy_column, {"tumour": tumour or [], "normal": normal or [], "unknown": unknown or []}
    )
    inputs = Inputs.gather(files or [], tumour_file or [], normal_file or [], column, verify=not no_verify)
    says = messages(context)
    read_all = partial(inputs.read, read, backed_above=resolved.data.backed_above, vocabulary=vocabulary)
    datasets = read_all(says)
    if out is None or dry_run:
        from cell_lm.cli.dry_run import print_forecast

        return print_forecast(datasets, resolved, says)
    if ray_workers is None:
        from cell_lm import pretraining as training

        result = training.pretrain(datasets, resolved, out, initial=initial, resume=resume, progress=not says.quiet)
    else:
        again = partial(_read_again, read_all)
        result = _train_on_ray(again, resolved, out, says, ray_workers, initial=initial, resume=resume)
    return _conclude(result, datasets, resolved, out, says, report=report)


def _read_again(read_all: Callable[[Messages], Sequence[Dataset]]) -> Sequence[Dataset]:
    return read_all(Messages(quiet=True))


def _train_on_ray(
    read: Callable[[], Sequence[Dataset]],
    config: PretrainConfig,
    out: Path,
    says: Messages,
    workers: int,
    *,
    initial: str | None,
    resume: bool,
) -> RunResult:
    from cell_lm.pretraining.ray import pretrain_on_ray

    says.note(f"training on {workers} workers of Ray; {out / 'log.jsonl'} shows how far they are")
    return pretrain_on_ray(read, config, out, workers=workers, initial=initial, resume=resume)


def _configure(
    out: Path | None,
    preset: str | None,
    file: Path | None,
    pairs: Sequence[str],
    options: Mapping[str, float | str | None],
    *,
    initial: str | None,
    resume: bool,
) -> tuple[PretrainConfig, Vocabulary | None]:
    """Return the settings of the run, and the vocabulary of the model it continues, if there is one.

    A folder in which the run cannot start or continue is refused before anything is read.
    """
    from cell_lm.cli.settings import read_settings, run_config
    from cell_lm.pretraining.folder import run_folder
    from cell_lm.pretraining.start import vectors_file

    named = {f"training.{name}": value for name, value in options.items() if value is not None}
    settings = read_settings(pairs) | named
    if "training.memory" in settings:  # choose again what was chosen for another memory limit
        settings = {"training.token_budget": "auto", "training.retain_graphs": "auto"} | settings
    encoder, vocabulary = None, None
    if resume and out is not None:
        run_config(preset, file, settings)  # report settings that are wrong by themselves first
        folder = run_folder(out)
        resolved, vocabulary = run_config(preset, file, settings, begun=folder.read_config()), _vocabulary_of(out)
        folder.refuse_settings(resolved)
    else:
        if initial is not None:
            encoder, vocabulary = _read_initial(initial, settings)
        resolved = run_config(preset, file, settings, encoder=encoder)
        if out is not None:
            run_folder(out).refuse_to_begin()
    vectors_file(resolved)
    return resolved, vocabulary


def _read_initial(initial: str, settings: Mapping[str, object]) -> tuple[EncoderConfig, Vocabulary]:
    """Return encoder and vocabulary of the model that a run starts from."""
    from cell_lm import model_folder
    from cell_lm.errors import ConfigError
    from cell_lm.genes.vocabulary import Vocabulary

    if "training.gene_vectors" in settings:
        found = "gene vectors are to start from elsewhere, and the model of --from has its own"
        raise ConfigError(found, where="--gene-vectors", fix="Leave it out")
    folder = model_folder.find(initial)
    return model_folder.read_config(folder)[0], Vocabulary.load(folder / model_folder.VOCABULARY)


def _vocabulary_of(out: Path) -> Vocabulary | None:
    """Return the vocabulary of the model in a run folder; None if there is none yet."""
    from cell_lm import model_folder
    from cell_lm.genes.vocabulary import Vocabulary
    from cell_lm.pretraining.folder import MODEL

    path = out / MODEL / model_folder.VOCABULARY
    return Vocabulary.load(path) if path.is_file() else None


def _conclude(
    result: RunResult,
    datasets: Sequence[Dataset],
    config: PretrainConfig,
    out: Path,
    says: Messages,
    *,
    report: bool,
) -> int:
    if says.silent:
        return result.exit_code
    from cell_lm.cli.run_report import keep_command, report_pretraining

    keep_command(out, says.command)
    if result.interrupted:
        says.result(f"stopped after step {result.steps:,} of {config.training.steps:,}; all is saved in {out}")
        says.result("go on with the same command and --resume")
        return result.exit_code
    _summarise(result, says)
    if report:
        report_pretraining(out, datasets)
    _print_next_steps(out, says)
    return result.exit_code


def _summarise(result: RunResult, says: Messages) -> None:
    from cell_lm.report.numbers import duration

    text = f"pretrained {result.steps:,} steps in {duration(result.seconds)}"
    if result.best_validation is not None:
        text += f", lowest validation loss {result.best_validation:.4f}"
    if result.skipped:
        text += f"; {result.skipped:,} steps were skipped because their loss or gradient was not finite"
    if result.resumed_from == result.steps:
        text += "; there was nothing left to train (--steps N --resume extends the run)"
    says.result(text)


def _print_next_steps(out: Path, says: Messages) -> None:
    says.result(f"model: {out / 'model'}")
    if (out / "report.html").is_file():
        says.result(f"report: {out / 'report.html'}")
    says.note("next:")
    says.note(f"cell-lm embed my.h5ad --model {out}", indent=2)
    says.note(f"cell-lm annotate fit ref.h5ad --label cell_type --model {out} --out annotator", indent=2)
