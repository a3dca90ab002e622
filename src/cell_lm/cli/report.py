"""``cell-lm report``: write the report of a run again, or with cells on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cell_lm.cli.console import messages
from cell_lm.cli.options import WRITING, Force

_CELLS = "Cells to show"
_EPILOG = """[bold]Examples[/bold]

  cell-lm report run
  cell-lm report run --cells my.cell_lm.h5ad --label cell_type --out my_report.html"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("report", help="Write the report of a run: one HTML page.", epilog=_EPILOG)(report)


def report(
    context: typer.Context,
    run: Annotated[
        Path, typer.Argument(readable=False, metavar="RUN", help="Run folder of cell-lm pretrain.", show_default=False)
    ],
    cells: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="CELLS.h5ad",
            help="File that cell-lm embed wrote; its cells are shown on a map, with a link to their explorer if "
            "cell-lm explore wrote it beside the file.",
            show_default=False,
            rich_help_panel=_CELLS,
        ),
    ] = None,
    key: Annotated[
        str, typer.Option(metavar="KEY", help="Key of their embedding in obsm.", rich_help_panel=_CELLS)
    ] = "X_cell_lm",
    label: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of obs to colour the map by, such as the cell type.",
            show_default=False,
            rich_help_panel=_CELLS,
        ),
    ] = None,
    malignancy: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of obs with tumour and normal cells; colours a map, too.",
            show_default=False,
            rich_help_panel=_CELLS,
        ),
    ] = None,
    predicted: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of obs with predicted labels (cell_lm_label), to be scored against --label. Give only cells "
            "that the classifier was not fitted on.",
            show_default=False,
            rich_help_panel=_CELLS,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE.html",
            help="Page to write. \\[default: report.html in the run folder]",
            show_default=False,
            rich_help_panel=WRITING,
        ),
    ] = None,
    force: Force = False,
) -> int:
    """Collect the data of the report and write it."""
    if cells is None and (label or malignancy or predicted):
        raise typer.BadParameter("says of which cells to show a column", param_hint="--cells")
    if predicted is not None and label is None:
        raise typer.BadParameter("is needed to score --predicted against", param_hint="--label")
    from cell_lm.cli.outputs import refuse_output_file

    says, page = messages(context), out or run / "report.html"
    force = force or out is None
    refuse_output_file(page, force=force, inputs=(cells,), suffix=".html", own="report.html")
    from cell_lm.cli.run_report import describe_run
    from cell_lm.report import write_report

    shown = None
    if cells is not None:
        from cell_lm.cli.shown_cells import ShownCells

        shown = ShownCells.read(cells, key, label=label, malignancy=malignancy, predicted=predicted)
        for note in shown.notes:
            says.note(note)
    data = describe_run(
        run,
        embedding=shown.embedding(_explorer(cells, page)) if shown else None,
        annotation=shown.annotation() if shown else None,
    )
    write_report(data, page, replace=force)
    says.result(f"report: {page}")
    return 0


def _explorer(cells: Path | None, page: Path) -> str:
    """Return the path from the report to the page that cell-lm explore wrote beside the cells; empty without one."""
    explorer = None if cells is None else cells.with_suffix(".explore.html")
    return os.path.relpath(explorer, page.parent) if explorer is not None and explorer.is_file() else ""
