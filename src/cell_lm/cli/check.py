"""``cell-lm check``: what cell-lm reads from a file, and every reason why it cannot. Writes nothing by default."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cell_lm.cli import run_options as run
from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.console import Messages, messages, say_error
from cell_lm.cli.options import WRITING, Cells, Force, Samples
from cell_lm.cli.read_options import reads_cells
from cell_lm.terminal import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cell_lm.data.read_options import ReadOptions
    from cell_lm.files import JSON
    from cell_lm.pp import CheckReport

_LISTED = 8
"""Most genes of one status, or labels, to list."""
_NOTABLE = ("renamed", "merged", "non-coding", "ambiguous", "unknown")
_EPILOG = """[bold]Examples[/bold]

  cell-lm check my.h5ad
  cell-lm check filtered_feature_bc_matrix/   [dim]# 10x; also .h5, .loom, .csv.gz, .RData[/dim]
  cell-lm check my.h5ad --layer counts --genes-table genes.csv
  cell-lm check my.h5ad --label cell_type --malignancy-column malignant --json

[dim]Exit code 0: it can be used as it is; 1: it cannot, and every reason is listed.[/dim]"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("check", help="Check whether a file can be used: its genes, scale and cells.", epilog=_EPILOG)(check)


@reads_cells()
def check(
    context: typer.Context,
    cells: Cells,
    *,
    read: ReadOptions,
    label: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of obs with cell types; checks whether a classifier can be fitted on it.",
            show_default=False,
        ),
    ] = None,
    malignancy_column: run.MalignancyColumnName = None,
    tumour: run.TumourValues = None,
    normal: run.NormalValues = None,
    unknown: run.UnknownValues = None,
    samples: Samples = None,
    genes_table: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE.csv",
            help="Write a table of all genes, one line each, and how each was matched.",
            show_default=False,
            rich_help_panel=WRITING,
        ),
    ] = None,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=WRITING)] = False,
) -> int:
    """Check the file and print the result."""
    keep_large_blocks()
    from cell_lm import pp
    from cell_lm.cli.inputs import read_malignancy_options
    from cell_lm.cli.outputs import refuse_output_file
    from cell_lm.data import SampleSheet

    says = messages(context)
    if genes_table is not None:
        refuse_output_file(genes_table, force=force, inputs=(cells, samples), suffix=".csv", option="--genes-table")
    meanings = {"tumour": tumour or [], "normal": normal or [], "unknown": unknown or []}
    read = replace(read, malignancy=read_malignancy_options(malignancy_column, meanings))
    sheet = None if samples is None else SampleSheet.read(samples)
    found = pp.check(cells, label=label, samples=sheet, read=read)
    if as_json:
        says.json(_as_json(found))
    else:
        known = found.audit is not None and found.scale is not None
        counts = column_sums(cells, read.layer) if known else None
        _tell(found, says, [*_lines(found, label, malignancy_column), *_notable(found, counts)])
    if genes_table is not None and found.audit is not None:
        found.audit.write_csv(genes_table, replace=force)
        says.note(f"written: {genes_table}")
    if not found.ok:
        number = len(found.problems)
        say_error(f"{found.name}: it cannot be used as it is ({number} problem{'s' if number > 1 else ''})")
    return 0 if found.ok else 1


def column_sums(path: Path, layer: str | None) -> NDArray[np.float64]:
    """Return the sum of every gene of a matrix over its cells, float64 [input genes]."""
    import numpy as np

    from cell_lm.data.formats.readers import read_source

    return np.asarray(read_source(path, layer).X.sum(axis=0, dtype=np.float64)).ravel()


def _tell(found: CheckReport, says: Messages, lines: Sequence[tuple[str, str]]) -> None:
    says.result(one_line(found.name), style="bold")
    for what, text in lines:
        says.result(f"  {what:<16} {one_line(text)}")
    for warning in found.warnings:
        says.result(f"  {'warning':<16} {one_line(warning)}", style="yellow")
    for problem in found.problems:
        says.result(f"  {'problem':<16} {one_line(problem)}", style="red")
    if found.ok:
        says.result("it can be used", style="green")


def _lines(found: CheckReport, label: str | None, malignancy_column: str | None) -> Iterator[tuple[str, str]]:
    """Yield the result as pairs of a heading and a line."""
    if found.cells is not None:
        yield "cells", f"{found.cells:,}"
        others = f"; there is also {', '.join(found.layers)}" if found.layers else ""
        yield "matrix", f"{found.place}, {found.genes:,} genes{others}"
    for remark in found.remarks:
        yield "read as", remark
    if found.scale is not None:
        yield "scale", found.scale.evidence
    if found.audit is not None:
        yield "genes", found.audit.summary()
    if found.genes_per_cell is not None:
        least, low, middle, high, most = found.genes_per_cell
        yield "genes per cell", f"{least:,} to {most:,}; median {middle:,}, half of the cells {low:,} to {high:,}"
    if found.empty_cells:
        yield "empty cells", f"{found.empty_cells:,}"
    if found.labels is not None:
        yield "labels", f"{label}: {_counted(found.labels)}; {found.unlabelled:,} cells without"
    if found.malignancy_counts is not None:
        yield "malignancy", f"{malignancy_column or 'malignancy'}: {_counted(found.malignancy_counts)}"
    if found.obs_columns:
        yield "columns of obs", ", ".join(found.obs_columns)


def _counted(numbers: dict[str, int]) -> str:
    shown = [f"{name} {number:,}" for name, number in list(numbers.items())[:_LISTED]]
    return ", ".join(shown) + (f", and {len(numbers) - _LISTED:,} more" if len(numbers) > _LISTED else "")


def _notable(found: CheckReport, counts: NDArray[np.float64] | None) -> Iterator[tuple[str, str]]:
    """Yield the genes of each status that a user may want to inspect, those with most counts first."""
    if found.audit is None or counts is None:
        return
    from cell_lm.genes.audit import clip

    table = found.audit.table.assign(fraction=counts / max(counts.sum(), 1.0))
    if found.scale is not None and found.scale.scale == "counts":
        yield (
            "counts left out",
            f"{table.loc[table['index'] < 0, 'fraction'].sum():.1%}, those of genes that are not used",
        )
    for status in _NOTABLE:
        rows = table[table["status"] == status].sort_values("fraction", ascending=False, kind="stable")
        names = [
            f"{clip(gene)} -> {symbol}" if symbol and symbol != gene else clip(gene)
            for gene, symbol in rows[["gene", "symbol"]].head(_LISTED).itertuples(index=False)
        ]
        if names:
            more = f", and {len(rows) - len(names):,} more" if len(rows) > len(names) else ""
            yield status, ", ".join(names) + more


def _as_json(found: CheckReport) -> dict[str, JSON]:
    """Return the result as JSON; ``null`` for what could not be determined."""
    scale, quantiles = found.scale, found.genes_per_cell
    return {
        "name": found.name,
        "ok": found.ok,
        "problems": list(found.problems),
        "cells": found.cells,
        "genes": found.genes,
        "matrix": found.place,
        "other_matrices": list(found.layers),
        "scale": None
        if scale is None
        else {"stated": scale.scale, "evidence": scale.evidence, "proved": scale.proved, "largest": scale.largest},
        "audit": None if found.audit is None else found.audit.to_json(),
        "genes_per_cell": None
        if quantiles is None
        else dict(zip(("least", "lower_quartile", "median", "upper_quartile", "most"), quantiles, strict=True)),
        "empty_cells": found.empty_cells,
        "labels": None if found.labels is None else dict(found.labels),
        "unlabelled": found.unlabelled,
        "malignancy": None if found.malignancy_counts is None else dict(found.malignancy_counts),
        "remarks": list(found.remarks),
        "warnings": list(found.warnings),
        "obs_columns": list(found.obs_columns),
    }
