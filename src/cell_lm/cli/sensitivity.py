"""``cell-lm sensitivity fit``, ``predict``, ``transfer`` and ``evaluate``: which cells respond to a drug."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.console import Messages, messages
from cell_lm.cli.options import COMPUTING, Cells, CellsOrStore, ClassifierFolder, Device, FineTune, Force, Seed
from cell_lm.cli.read_options import reads_cells
from cell_lm.cli.sensitivity_options import (
    Copy,
    Encoder,
    Fitted,
    GroupBy,
    Groups,
    Label,
    LabelTable,
    Prior,
    SelfTraining,
    Sensitive,
    Truth,
    Unlabelled,
)
from cell_lm.cli.sensitivity_shown import show_copy, show_genes, show_groups, show_scores
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
    out: ClassifierFolder,
    label: Label = None,
    labels: LabelTable = None,
    sensitive: Sensitive = "sensitive",
    prior: Prior = None,
    unlabelled: Unlabelled = None,
    groups: Groups = None,
    self_training: SelfTraining = True,
    model: Encoder = None,
    fine_tune: FineTune = None,
    seed: Seed = 0,
    *,
    read: ReadOptions,
    device: Device = "auto",
    force: Force = False,
) -> int:
    """Read the cells, fit, save the folder."""
    keep_large_blocks()
    from cell_lm.cli.cells_file import further_files, naming, read_cells_file
    from cell_lm.cli.outputs import refuse_estimator_folder
    from cell_lm.cli.sensitivity_labels import label_column
    from cell_lm.engine.device import choose_device
    from cell_lm.model import CellLM
    from cell_lm.tasks.sensitivity import DrugSensitivityClassifier

    says, further = messages(context), further_files(unlabelled, cells, "--unlabelled")
    inputs = (cells, labels, *further, model)
    refuse_estimator_folder(out, force=force, inputs=inputs)
    choose_device(device)
    encoder = None if model is None else CellLM.from_pretrained(model)
    classifier = DrugSensitivityClassifier(
        encoder,
        sensitive=sensitive,
        prior=prior,
        self_training=self_training,
        fine_tune=fine_tune,
        seed=seed,
        device=device,
    )
    says.note(f"reading {cells}")
    adata = read_cells_file(cells, classifier.vocabulary, read)
    column = label_column(adata, label, labels)
    with naming(cells), says.progress("fitting", adata.n_obs) as done:
        classifier.fit(adata, column, groups=groups, unlabelled=further, progress=done, read=read)
    refuse_estimator_folder(out, force=force, inputs=inputs)  # another program may have made it meanwhile
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
    if classifier.fine_tuned_:
        says.result(classifier.fine_tuned_)
    says.result(f"prevalence: {classifier.prevalence_:.1%} sensitive ({how}); {apart}")
    if classifier.genes_ is not None:
        show_genes(classifier.gene_weights(), says)


@reads_cells(z_scores=True)
def predict(
    context: typer.Context,
    cells: CellsOrStore,
    model: Fitted,
    out: Copy = None,
    groupby: GroupBy = None,
    *,
    read: ReadOptions,
    force: Force = False,
) -> int:
    """Read the cells, call them, write the copy, show the summary."""
    keep_large_blocks()
    from cell_lm import tl
    from cell_lm.cli.cells_file import naming, read_cells_in_groups, write_cells_file
    from cell_lm.cli.fitted import refuse_other_task
    from cell_lm.cli.outputs import refuse_output_file
    from cell_lm.tasks.sensitivity import DrugSensitivityClassifier

    says, copy = messages(context), out or cells.with_suffix(".sensitivity.h5ad")
    refuse_output_file(copy, force=force, inputs=(cells, model), suffix=".h5ad")
    refuse_other_task(model, "sensitivity")
    classifier = DrugSensitivityClassifier.load(model)
    data = read_cells_in_groups(cells, classifier.vocabulary, read, groupby, says)
    with naming(cells), says.progress("calling", len(data)) as done:
        made = tl.sensitivity(data, classifier, read=read, progress=done)
    adata: AnnData = data if made is None else made
    write_cells_file(adata, copy, says, force=force)
    show_groups(adata, groupby, says)
    show_copy(adata, copy, says)
    return 0


@reads_cells(z_scores=True)
def evaluate(
    context: typer.Context,
    cells: CellsOrStore,
    model: Fitted,
    truth: Truth,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the scores as JSON.", rich_help_panel=COMPUTING)
    ] = False,
    *,
    read: ReadOptions,
) -> int:
    """Read the cells, call them, and compare the calls with the truth."""
    keep_large_blocks()
    from cell_lm.cli.fitted import refuse_other_task
    from cell_lm.tasks.sensitivity import DrugSensitivityClassifier

    says = messages(context)
    refuse_other_task(model, "sensitivity")
    classifier = DrugSensitivityClassifier.load(model)
    says.note(f"reading {cells}")
    scores = classifier.sensitivity_scores(cells, truth, read=read)
    if as_json:
        says.json(scores.to_json() | {"cells": scores.cells, "sensitive": scores.sensitive})
    else:
        show_scores(scores, says)
    return 0
