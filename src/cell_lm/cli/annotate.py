"""``cell-lm annotate fit``, ``predict`` and ``explain``: transfer cell types from a reference, and explain them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.annotate_explain import EXAMPLES, explain
from cell_lm.cli.console import Messages, messages, show_coverage
from cell_lm.cli.options import (
    COMPUTING,
    CellsOrStore,
    ClassifierFolder,
    Device,
    Fitted,
    Force,
    Model,
    NoVerify,
    Precision,
    Seed,
    column,
    output,
)
from cell_lm.cli.read_options import reads_cells

if TYPE_CHECKING:
    from anndata import AnnData

    from cell_lm.data.obs.labels import Labels
    from cell_lm.data.read_options import ReadOptions
    from cell_lm.tasks.annotation import CellTypeClassifier

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
        help="Annotate cell types: fit on labelled cells, predict others, explain predictions.", rich_markup_mode="rich"
    )
    verbs.command("fit", help="Fit a classifier on labelled cells.", epilog=_FIT)(fit)
    verbs.command("predict", help="Predict cell types: write a copy of the file with them in obs.", epilog=_PREDICT)(
        predict
    )
    verbs.command(
        "explain", help="Show which genes led to the predicted types: write a table of genes by type.", epilog=EXAMPLES
    )(explain)
    app.add_typer(verbs, name="annotate")


@reads_cells()
def fit(
    context: typer.Context,
    cells: CellsOrStore,
    label: Annotated[str, column("Column of obs that holds the cell types.")],
    out: ClassifierFolder,
    model: Model = "small",
    groups: Annotated[
        str | None,
        column(
            "Column of obs, such as the donor, whose groups stay in one fold when cross-validation tunes the "
            "classifier. \\[default: cells are split one by one]"
        ),
    ] = None,
    seed: Seed = 0,
    *,
    read: ReadOptions,
    device: Device = "auto",
    precision: Precision = "float32",
    no_verify: NoVerify = False,
    force: Force = False,
) -> int:
    """Read the reference, embed it, fit the linear head, save the folder."""
    keep_large_blocks()
    from cell_lm.cli.outputs import refuse_estimator_folder
    from cell_lm.data.opening import is_store, open_data
    from cell_lm.data.store import Store
    from cell_lm.engine.device import choose_device
    from cell_lm.model import CellLM
    from cell_lm.tasks.annotation import CellTypeClassifier

    says = messages(context)
    refuse_estimator_folder(out, force=force, inputs=(cells, model))
    choose_device(device)
    encoder = CellLM.from_pretrained(model)
    says.note(f"reading {cells}")
    held = Store.open(cells, verify=not no_verify) if is_store(cells) else cells
    reference = open_data(held, encoder.vocabulary, read)
    classifier = CellTypeClassifier(encoder, seed=seed, device=device, precision=precision)
    with says.progress("embedding", len(reference)) as done:
        classifier.fit(reference, label, groups=groups, progress=done)
    refuse_estimator_folder(out, force=force, inputs=(cells, model))  # another program may have made it meanwhile
    classifier.save(out)
    _show_fit(classifier, says)
    says.result(f"classifier: {out}")
    says.note("next:")
    says.note(f"cell-lm annotate predict my.h5ad --model {out}", indent=2)
    return 0


def _show_fit(classifier: CellTypeClassifier, says: Messages) -> None:
    sizes, without = classifier.cells_per_class_, classifier.unlabelled_
    says.table(["cell type", "cells"], [[name, f"{number:,}"] for name, number in sizes.items()], numbers=1)
    left_out = f" ({without:,} without a label were left out)" if without else ""
    says.result(f"fitted on {sum(sizes.values()):,} cells of {len(sizes):,} types{left_out}")


@reads_cells()
def predict(
    context: typer.Context,
    cells: CellsOrStore,
    model: Fitted,
    out: Annotated[
        Path | None, output("FILE.h5ad", "File to write. \\[default: my.annotated.h5ad next to my.h5ad]")
    ] = None,
    truth: Annotated[
        str | None,
        column(
            "Column of obs with the true cell types, to score the predicted ones against. Score only cells that the "
            "classifier was not fitted on."
        ),
    ] = None,
    *,
    read: ReadOptions,
    device: Device = "auto",
    precision: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(
            help="Precision of the encoder. \\[default: that of the fit]",
            show_default=False,
            rich_help_panel=COMPUTING,
        ),
    ] = None,
    no_verify: NoVerify = False,
    force: Force = False,
) -> int:
    """Read the cells, predict, write the copy, show the predicted types."""
    keep_large_blocks()
    from cell_lm import tl
    from cell_lm.cli.cells_file import naming, obs_of, read_file_or_store, warn_of, write_cells_file
    from cell_lm.cli.outputs import refuse_output_file
    from cell_lm.data.obs.labels import read_labels
    from cell_lm.engine.device import choose_device
    from cell_lm.tasks import Classifier

    says, copy = messages(context), out or cells.with_suffix(".annotated.h5ad")
    refuse_output_file(copy, force=force, inputs=(cells, model), suffix=".h5ad")
    choose_device(device)
    classifier = Classifier.load(model)
    says.note(f"reading {cells}")
    data = read_file_or_store(cells, classifier.vocabulary, read, verify=not no_verify)
    labels = None if truth is None else read_labels(obs_of(data, truth), truth, where=str(cells))
    with naming(cells), says.progress("annotating", len(data)) as done:
        made = tl.annotate(data, classifier, read=read, device=device, precision=precision, progress=done)
    adata: AnnData = data if made is None else made
    write_cells_file(adata, copy, says, force=force)
    _show_types(adata, says)
    if labels is not None:
        _show_scores(adata, labels, says)
    show_coverage(adata.uns["cell_lm_annotation"], says)
    warn_of(adata.uns["cell_lm_annotation"], says)
    says.result(f"written: {copy} (obs {LABEL}, {CONFIDENCE})")
    return 0


def _show_types(adata: AnnData, says: Messages) -> None:
    confidence = adata.obs[CONFIDENCE].groupby(adata.obs[LABEL], observed=True).median()
    counts = adata.obs[LABEL].value_counts()
    rows = [
        [str(name), f"{number:,}", f"{number / adata.n_obs:.1%}", f"{confidence[name]:.2f}"]
        for name, number in counts[counts > 0].items()
    ]
    says.table(["predicted type", "cells", "share", "median confidence"], rows, numbers=3)


def _show_scores(adata: AnnData, truth: Labels, says: Messages) -> None:
    from cell_lm.evaluation.annotation_metrics import annotation_scores
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
