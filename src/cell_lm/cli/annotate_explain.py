"""``cell-lm annotate explain``: which genes led to the predictions of a classifier."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.console import Messages, messages, show_coverage
from cell_lm.cli.options import Cells, Device, Fitted, Force, column, output
from cell_lm.cli.read_options import reads_cells
from cell_lm.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from cell_lm.data.read_options import ReadOptions

EXAMPLES = """[bold]Examples[/bold]

  cell-lm annotate explain my.h5ad --model ann --out attribution.csv
  cell-lm annotate explain my.h5ad --model ann --out why.csv --label 'B cell' --method occlusion"""
_SHOWN = 8
"""Genes of each label that are shown on the terminal."""
_LISTED = 30
"""Most types of a classifier that a message lists."""


@reads_cells()
def explain(
    context: typer.Context,
    cells: Cells,
    model: Fitted,
    out: Annotated[Path, output("FILE.csv", "Table to write: label, gene, attribution, expressed, cells.")],
    method: Annotated[
        Literal["integrated_gradients", "gradient", "occlusion", "attention"],
        typer.Option(help="How to measure the contribution of a gene; occlusion needs one forward pass per gene."),
    ] = "integrated_gradients",
    label: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="Explain this type in all cells. \\[default: the predicted type of each cell]",
            show_default=False,
        ),
    ] = None,
    groupby: Annotated[
        str | None,
        column("Column of obs; average over the cells of each label in it. \\[default: the predicted type]"),
    ] = None,
    n_cells: Annotated[
        int, typer.Option("--cells", min=1, metavar="N", help="Explain at most so many cells of each label.")
    ] = 100,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Random seed for choosing cells.")] = 0,
    *,
    read: ReadOptions,
    device: Device = "auto",
    force: Force = False,
) -> int:
    """Read the cells, explain the predictions, write the table, show the top genes."""
    keep_large_blocks()
    from cell_lm import tl
    from cell_lm.cli.cells_file import naming, read_cells_file
    from cell_lm.cli.fitted import refuse_other_task
    from cell_lm.cli.outputs import refuse_output_file
    from cell_lm.engine.device import choose_device
    from cell_lm.files import write_csv
    from cell_lm.tasks.annotation import CellTypeClassifier
    from cell_lm.tasks.attribution import check_method

    says = messages(context)
    refuse_output_file(out, force=force, inputs=(cells, model), suffix=".csv")
    refuse_other_task(model, "annotate")
    classifier = CellTypeClassifier.load(model)
    choose_device(device)
    check_method(method, classifier)
    _check_label(label, classifier.classes_)
    says.note(f"reading {cells}")
    adata = read_cells_file(cells, classifier.vocabulary, read)
    most = adata.n_obs if groupby else min(adata.n_obs, n_cells * len(classifier.classes_))
    with naming(cells), says.progress("explaining", most) as done:
        table = tl.gene_attribution(
            adata,
            classifier,
            method=method,
            target=label,
            groupby=groupby,
            n_cells=n_cells,
            seed=seed,
            device=device,
            read=read,
            progress=done,
        )
    write_csv(table, out, replace=force)
    _show(table, says)
    about = adata.uns["cell_lm_attribution"]
    if method == "integrated_gradients":
        says.result(f"attributions miss the difference of the scores by {about['gap']:.1e} of it")
    show_coverage(about, says)
    says.result(f"written: {out} ({len(table):,} rows)")
    return 0


def _check_label(label: str | None, classes: NDArray[np.object_]) -> None:
    """Refuse a type that is not a label of the classifier, such as the name of a column of ``obs``."""
    if label is None or label in classes:
        return
    folded = {name.casefold(): name for name in map(str, classes)}
    close = [folded[match] for match in difflib.get_close_matches(label.casefold(), folded, n=2)]
    hint = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
    listed = ", ".join(map(str, classes[:_LISTED])) + (", …" if len(classes) > _LISTED else "")
    found = f"'{label}' is none of the {len(classes):,} types of the classifier"
    raise InputError(found, where="--label", fix=f"{hint}They are {listed}")


def _show(table: pd.DataFrame, says: Messages) -> None:
    rows = [
        [str(name), f"{of_label['cells'].iloc[0]:,}", ", ".join(of_label["gene"].head(_SHOWN))]
        for name, of_label in table.groupby("label", observed=True)
    ]
    says.table(["label", "cells", "genes that count most for it"], rows)
