"""``cell-lm adapt``: fit a model to unlabelled cells."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cell_lm.cli import run_options as run
from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.console import messages
from cell_lm.cli.options import Device, Force, Model, NoVerify, output
from cell_lm.cli.read_options import reads_cells

if TYPE_CHECKING:
    from cell_lm.data.read_options import ReadOptions

_EPILOG = """[bold]Examples[/bold]

  cell-lm adapt my.h5ad --model small --out mine
  cell-lm adapt query.h5ad reference.h5ad --model small --out mine
  cell-lm adapt my.h5ad --out mine --set steps=300   [dim]# refine it, too: minutes[/dim]
  cell-lm embed my.h5ad --model mine

[dim]Labels are not used. Give the cells to annotate, the reference, or both.[/dim]"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    help_ = "Adapt a model to your own unlabelled cells, in seconds: write an adapted model."
    app.command("adapt", help=help_, epilog=_EPILOG)(adapt)


@reads_cells(min_genes=200, least=1)
def adapt(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(
            readable=False, metavar="CELLS", help="Files or stores of cells to adapt to.", show_default=False
        ),
    ],
    *,
    out: Annotated[Path, output("FOLDER", "Model folder to write.")],
    model: Model = "small",
    read: ReadOptions,
    settings: run.Settings = None,
    seed: run.Seed = None,
    no_verify: NoVerify = False,
    device: Device = "auto",
    force: Force = False,
) -> int:
    """Read the cells, adapt the model, write it."""
    keep_large_blocks()
    from cell_lm import model_folder
    from cell_lm.cli.inputs import Inputs
    from cell_lm.cli.outputs import refuse_output_folder
    from cell_lm.cli.settings import read_settings
    from cell_lm.config import AdaptConfig, parse
    from cell_lm.engine.device import choose_device
    from cell_lm.model import CellLM
    from cell_lm.model_card import ModelCard
    from cell_lm.model_folder import is_repository
    from cell_lm.pretraining.adapt import adapt as adapt_model
    from cell_lm.pretraining.adapt import describe

    says = messages(context)
    refuse_output_folder(
        out, force=force, inputs=(*files, model), kind="a model", mark=model_folder.CONFIG, names=model_folder.FILES
    )
    chosen = read_settings(settings or [], AdaptConfig) | ({} if seed is None else {"seed": seed})
    config = parse(AdaptConfig, chosen, where="--set")
    place = choose_device(device)
    given = CellLM.from_pretrained(model)
    datasets = Inputs.gather(files, [], [], None, verify=not no_verify).read(read, says, vocabulary=given.vocabulary)
    says.note("adapting the linear path")
    with says.progress("refining", config.steps) if config.steps else nullcontext(None) as done:
        adapted = adapt_model(given, datasets, config, device=str(place), progress=_ticks(done))
    card = ModelCard(base_model=model if is_repository(model) else "", notes=describe(model, datasets, config))
    adapted.save_pretrained(out, card=card)
    before, after = given.config.reference_genes, adapted.config.reference_genes
    says.result(f"adapted to {sum(map(len, datasets)):,} cells: {after:,} reference genes, {before:,} before")
    says.result(f"written: {out}")
    says.note("next:")
    says.note(f"cell-lm embed {files[0]} --model {out}", indent=2)
    return 0


def _ticks(done: Callable[[int], None] | None) -> Callable[[int, str], None] | None:
    """Return a function that counts steps, for a progress bar; None without one."""
    return None if done is None else lambda _, __: done(1)
