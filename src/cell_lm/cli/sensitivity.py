"""``cell-lm sensitivity fit``, ``predict``, ``transfer`` and ``evaluate``: which cells respond to a drug."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.console import Messages, coverage, messages
from cell_lm.cli.options import COMPUTING, WRITING, Cells, CellsOrStore, Device, Force
from cell_lm.cli.read_options import reads_cells
from cell_lm.cli.sensitivity_shown import KEY, show_genes, show_groups, show_scores
from cell_lm.cli.sensitivity_transfer import EXAMPLES, transfer

if TYPE_CHECKING:
    from anndata import AnnData

    from cell_lm.data.read_options import ReadOptions
    from cell_lm.tasks.sensitivity import DrugSensitivityClassifier

_FIT = """[bold]Examples[/bold]

  cell-lm sensitivity fit cells.h5ad --label response --out sens
  cell-lm sensitivity fit cells.h5ad --labels few.csv --prior 0.1 --out sens
  cell-lm sensitivity fit scaled.h5ad --label response --scale scaled --out sens"""
_PREDICT = """[bold]Examples[/bold]

  cell-lm sensitivity predict cells.h5ad --model sens --groupby cluster"""
_EVALUATE = """[bold]Examples[/bold]

  cell-lm sensitivity evaluate test.h5ad --model sens --truth response"""

Fitted = Annotated[
    Path,
    typer.Option(
        "--model",
        readable=False,
        metavar="FOLDER",
        help="Classifier that cell-lm sensitivity fit wrote.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verbs = typer.Typer(
        help="Drug sensitivity of single cells: from few labels, many labels, or bulk cell lines.",
        rich_markup_mode="rich",
    )
    verbs.command("fit", help="Fit a classifier on labelled and unlabelled cells.", epilog=_FIT)(fit)
    verbs.command("predict", help="Call cells: write a copy of the file with the calls in obs.", epilog=_PREDICT)(
        predict
    )
    verbs.command(
        "transfer", help="Score cells without labels by the response of bulk cell lines to a drug.", epilog=EXAMPLES
    )(transfer)
    verbs.command("evaluate", help="Score a classifier on cells with known response.", epilog=_EVALUATE)(evaluate)
    app.add_typer(verbs, name="sensitivity")


@reads_cells(z_scores=True)
def fit(
    context: typer.Context,
    cells: Cells,
    out: Annotated[
        Path,
        typer.Option(
            readable=False,
            metavar="FOLDER",
            help="Folder of the classifier to write.",
            show_default=False,
            rich_help_panel=WRITING,
        ),
    ],
    label: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of obs with two labels; cells with a blank are learned from as unlabelled.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE.csv",
            help="Table with the name of a cell and its label in its first two columns, instead of --label.",
            show_default=False,
        ),
    ] = None,
    sensitive: Annotated[str, typer.Option(metavar="LABEL", help="The label of sensitive cells.")] = "sensitive",
    prior: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=0.999,
            metavar="P",
            help="Fraction of sensitive cells among all cells. \\[default: estimated]",
            show_default=False,
        ),
    ] = None,
    unlabelled: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="CELLS",
            help="Further cells without labels to learn from, best those to be predicted.",
            show_default=False,
        ),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of obs, such as the donor, whose groups stay together when labelled cells are left out.",
            show_default=False,
        ),
    ] = None,
    self_training: Annotated[
        bool, typer.Option("--self-training/--no-self-training", help="Learn from unlabelled cells, too.")
    ] = True,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Encoder whose embedding is used beside the genes: a run or a model. \\[default: the genes alone]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Random seed.")] = 0,
    *,
    read: ReadOptions,
    device: Device = "auto",
    force: Force = False,
) -> int:
    """Read the cells, fit, save the folder."""
    keep_large_blocks()
    from cell_lm.cli.cells_file import naming, read_cells_file
    from cell_lm.cli.outputs import refuse_output_folder
    from cell_lm.cli.sensitivity_labels import label_column
    from cell_lm.engine.device import choose_device
    from cell_lm.model import CellLM
    from cell_lm.tasks import folder
    from cell_lm.tasks.sensitivity import DrugSensitivityClassifier

    says, names = messages(context), {folder.MANIFEST, folder.ARRAYS, folder.MODEL}
    refuse = partial(refuse_output_folder, kind="an estimator", mark=folder.MANIFEST, names=names)
    refuse(out, force=force, inputs=(cells, labels, unlabelled, model))
    choose_device(device)
    encoder = None if model is None else CellLM.from_pretrained(model)
    classifier = DrugSensitivityClassifier(
        encoder, sensitive=sensitive, prior=prior, self_training=self_training, seed=seed, device=device
    )
    says.note(f"reading {cells}")
    adata = read_cells_file(cells, classifier.vocabulary, read)
    column = label_column(adata, label, labels)
    with naming(cells), says.progress("fitting", adata.n_obs) as done:
        classifier.fit(adata, column, groups=groups, unlabelled=unlabelled, progress=done, read=read)
    refuse(out, force=force, inputs=(cells, labels, unlabelled, model))  # it may have been made meanwhile
    classifier.save(out)
    _show_fit(classifier, says)
    says.result(f"classifier: {out}")
    says.note("next:")
    says.note(f"cell-lm sensitivity predict {cells} --model {out}", indent=2)
    return 0


def _show_fit(classifier: DrugSensitivityClassifier, says: Messages) -> None:
    sizes = ", ".join(f"{number:,} {name}" for name, number in classifier.cells_per_class_.items())
    says.result(f"fitted on {sizes}, and {classifier.learned_from_:,} cells without a label")
    how = "estimated" if classifier.prior is None else "as stated"
    apart = f"the two groups are {classifier.separation_:.1f} standard deviations apart"
    says.result(f"prevalence: {classifier.prevalence_:.1%} sensitive ({how}); {apart}")
    if classifier.genes_ is not None:
        show_genes(classifier.gene_weights(), says)


@reads_cells(z_scores=True)
def predict(
    context: typer.Context,
    cells: CellsOrStore,
    model: Fitted,
    out: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE.h5ad",
            help="File to write. \\[default: my.sensitivity.h5ad next to my.h5ad]",
            show_default=False,
            rich_help_panel=WRITING,
        ),
    ] = None,
    groupby: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of obs with clusters or samples to summarise.", show_default=False),
    ] = None,
    *,
    read: ReadOptions,
    force: Force = False,
) -> int:
    """Read the cells, call them, write the copy, show the summary."""
    keep_large_blocks()
    from cell_lm import tl
    from cell_lm.cli.cells_file import naming, obs_of, read_file_or_store, write_cells_file
    from cell_lm.cli.outputs import refuse_output_file
    from cell_lm.data.obs.columns import obs_column
    from cell_lm.tasks.sensitivity import DrugSensitivityClassifier

    says, copy = messages(context), out or cells.with_suffix(".sensitivity.h5ad")
    refuse_output_file(copy, force=force, inputs=(cells, model), suffix=".h5ad")
    classifier = DrugSensitivityClassifier.load(model)
    says.note(f"reading {cells}")
    data = read_file_or_store(cells, classifier.vocabulary, read)
    if groupby is not None:
        obs_column(obs_of(data, groupby), groupby, where=str(cells))
    with naming(cells), says.progress("calling", len(data)) as done:
        made = tl.sensitivity(data, classifier, read=read, progress=done)
    adata: AnnData = data if made is None else made
    write_cells_file(adata, copy, says, force=force)
    show_groups(adata, groupby, says)
    for line in coverage(adata.uns[KEY]):
        says.result(line)
    says.result(f"written: {copy} (obs {KEY}, {KEY}_score, {KEY}_call, {KEY}_uncertain)")
    return 0


@reads_cells(z_scores=True)
def evaluate(
    context: typer.Context,
    cells: CellsOrStore,
    model: Fitted,
    truth: Annotated[
        str,
        typer.Option(metavar="COLUMN", help="Column of obs with the known response.", show_default=False),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the scores as JSON.", rich_help_panel=COMPUTING)
    ] = False,
    *,
    read: ReadOptions,
) -> int:
    """Read the cells, call them, and compare the calls with the truth."""
    keep_large_blocks()
    from cell_lm.tasks.sensitivity import DrugSensitivityClassifier

    says = messages(context)
    classifier = DrugSensitivityClassifier.load(model)
    says.note(f"reading {cells}")
    scores = classifier.sensitivity_scores(cells, truth, read=read)
    if as_json:
        says.json(scores.to_json() | {"cells": scores.cells, "sensitive": scores.sensitive})
    else:
        show_scores(scores, says)
    return 0
