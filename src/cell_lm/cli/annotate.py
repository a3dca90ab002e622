"""``cell-lm annotate fit``, ``predict`` and ``explain``: cell types from a reference to other cells, and why."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.annotate_explain import EXAMPLES, explain
from cell_lm.cli.console import Messages, coverage, messages
from cell_lm.cli.options import WRITING, Cells, Force, GeneColumn, Input, Layer, LeaveOut, Model

if TYPE_CHECKING:
    from anndata import AnnData

    from cell_lm.tasks.annotation import CellTypeClassifier
    from cell_lm.tasks.labels import Labels

LABEL, CONFIDENCE = "cell_lm_label", "cell_lm_confidence"
"""Columns of obs that ``predict`` adds."""

_FIT = """[bold]Examples[/bold]

  cell-lm annotate fit ref.h5ad --label cell_type --model run --out ann
  cell-lm annotate fit ref.h5ad --label cell_type --groups donor --model run --out ann"""
_PREDICT = """[bold]Examples[/bold]

  cell-lm annotate predict my.h5ad --model ann
  cell-lm annotate predict test.h5ad --model ann --truth cell_type"""


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verbs = typer.Typer(
        help="Name cell types: fit on labelled cells, predict others, explain why.", rich_markup_mode="rich"
    )
    verbs.command("fit", help="Fit a classifier on labelled cells.", epilog=_FIT)(fit)
    verbs.command("predict", help="Predict cell types: a copy of the file with them in obs.", epilog=_PREDICT)(predict)
    verbs.command("explain", help="Tell which genes made the calls: a table of genes by type.", epilog=EXAMPLES)(
        explain
    )
    app.add_typer(verbs, name="annotate")


def fit(
    context: typer.Context,
    cells: Cells,
    label: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column of obs that holds the cell types.", show_default=False)
    ],
    model: Model,
    out: Annotated[
        Path,
        typer.Option(
            readable=False, metavar="FOLDER", help="Classifier to make.", show_default=False, rich_help_panel=WRITING
        ),
    ],
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of obs, such as the donor, whose groups are kept together when the classifier is tuned by "
            "cross-validation. \\[default: cells are split one by one]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of everything random.")] = 0,
    layer: Layer = None,
    scale: Input = "counts",
    gene_column: GeneColumn = None,
    min_genes: LeaveOut = 0,
    force: Force = False,
) -> int:
    """Read the reference, embed it, fit the linear head, save the folder."""
    keep_large_blocks()
    from cell_lm.cli.cells_file import device
    from cell_lm.cli.outputs import refuse_output_folder
    from cell_lm.data import read_cells
    from cell_lm.model import CellLM
    from cell_lm.tasks import classifier_folder
    from cell_lm.tasks.annotation import CellTypeClassifier

    says = messages(context)
    names = {classifier_folder.MANIFEST, classifier_folder.HEAD, classifier_folder.MODEL}
    refuse = partial(refuse_output_folder, kind="a classifier", mark=classifier_folder.MANIFEST, names=names)
    refuse(out, force=force, inputs=(cells, model))
    encoder = CellLM.from_pretrained(model)
    says.note(f"reading {cells}")
    reference = read_cells(
        cells,
        layer=layer,
        input=scale,
        gene_column=gene_column,
        vocabulary=encoder.vocabulary,
        min_genes=min_genes,
    )
    classifier = CellTypeClassifier(encoder.to(device()), seed=seed)
    with says.progress("embedding", len(reference)) as done:
        classifier.fit(reference, label, groups=groups, progress=done)
    refuse(out, force=force, inputs=(cells, model))  # it may have been made meanwhile
    classifier.save(out)
    _tell_fit(classifier, says)
    says.result(f"classifier: {out}")
    says.note("next:")
    says.note(f"cell-lm annotate predict my.h5ad --model {out}", indent=2)
    return 0


def _tell_fit(classifier: CellTypeClassifier, says: Messages) -> None:
    sizes, without = classifier.cells_per_class_, classifier.unlabelled_
    says.table(["cell type", "cells"], [[name, f"{number:,}"] for name, number in sizes.items()], numbers=1)
    left_out = f" ({without:,} without a label were left out)" if without else ""
    says.result(f"fitted on {sum(sizes.values()):,} cells of {len(sizes):,} types{left_out}")


def predict(
    context: typer.Context,
    cells: Cells,
    model: Annotated[
        Path,
        typer.Option(readable=False, metavar="FOLDER", help="Classifier of cell-lm annotate fit.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE.h5ad",
            help="File to write. \\[default: my.annotated.h5ad beside my.h5ad]",
            show_default=False,
            rich_help_panel=WRITING,
        ),
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of obs with the true cell types, to score the predicted ones against. Score only cells that "
            "took no part in the fit.",
            show_default=False,
        ),
    ] = None,
    layer: Layer = None,
    scale: Input = "counts",
    gene_column: GeneColumn = None,
    min_genes: LeaveOut = 0,
    force: Force = False,
) -> int:
    """Read the cells, predict, write the copy, tell what was found."""
    keep_large_blocks()
    from cell_lm import tl
    from cell_lm.cli.cells_file import device, naming, read_cells_file, write_cells_file
    from cell_lm.cli.outputs import refuse_output_file
    from cell_lm.tasks.annotation import CellTypeClassifier
    from cell_lm.tasks.labels import read_labels

    says, copy = messages(context), out or cells.with_suffix(".annotated.h5ad")
    refuse_output_file(copy, force=force, inputs=(cells, model), suffix=".h5ad")
    classifier = CellTypeClassifier.load(model)
    encoder = classifier.model.to(device())
    says.note(f"reading {cells}")
    adata = read_cells_file(
        cells, encoder.vocabulary, layer=layer, scale=scale, gene_column=gene_column, min_genes=min_genes
    )
    labels = None if truth is None else read_labels(adata.obs, truth, where=str(cells))
    with naming(cells), says.progress("annotating", adata.n_obs) as done:
        tl.annotate(adata, classifier, layer=layer, input=scale, gene_column=gene_column, progress=done)
    write_cells_file(adata, copy, force=force)
    _tell_types(adata, says)
    if labels is not None:
        _tell_scores(adata, labels, says)
    says.result(coverage(adata.uns["cell_lm_annotation"]))
    says.result(f"written: {copy} (obs {LABEL}, {CONFIDENCE})")
    return 0


def _tell_types(adata: AnnData, says: Messages) -> None:
    confidence = adata.obs[CONFIDENCE].groupby(adata.obs[LABEL], observed=True).median()
    counts = adata.obs[LABEL].value_counts()
    rows = [
        [str(name), f"{number:,}", f"{number / adata.n_obs:.1%}", f"{confidence[name]:.2f}"]
        for name, number in counts[counts > 0].items()
    ]
    says.table(["predicted type", "cells", "share", "median confidence"], rows, numbers=3)


def _tell_scores(adata: AnnData, truth: Labels, says: Messages) -> None:
    from cell_lm.evaluation.metrics import annotation_scores
    from cell_lm.report.numbers import score

    predicted = adata.obs[LABEL].astype(str).to_numpy()
    scores = annotation_scores(truth.text[truth.known], predicted[truth.known])
    rows = [
        [str(name), f"{row['support']:.0f}", *(score(row[key]) for key in ("precision", "recall", "f1"))]
        for name, row in scores.per_class.iterrows()
    ]
    says.result()
    says.table(["true type", "cells", "precision", "recall", "F1"], rows, numbers=4)
    says.result(f"accuracy {scores.accuracy:.3f}, macro-F1 {scores.macro_f1:.3f} on {scores.cells:,} labelled cells")
