"""The options of the verbs of drug response: how expression and tables of responses are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cell_lm.cli.options import READING
from cell_lm.cli.read_options import GeneColumn, Layer, MinOverlap, as_one

if TYPE_CHECKING:
    from cell_lm.data.read_options import ReadOptions
    from cell_lm.data.response import ResponseTable

TABLE = "Columns of the table of responses"

Lines = Annotated[
    Path,
    typer.Argument(
        readable=False,
        metavar="LINES",
        help="Expression of the lines, bulk: h5ad, csv or tsv, and all other formats of cells.",
        show_default=False,
    ),
]


def _column(what: str, usual: str) -> Any:
    return typer.Option(
        metavar="COLUMN", help=f"{what} \\[default: {usual}]", show_default=False, rich_help_panel=TABLE
    )


_USUAL = "as in GDSC's and PRISM's files, else"
_TABLE_OPTIONS: dict[str, tuple[Any, object]] = {
    "scale": (
        Annotated[
            Literal["ln_ic50", "auc", "ic50", "ic50_nm", "log10_ic50", "pic50"],
            typer.Option(
                help="What the response is: ln of µM, area under the curve, µM, nM, log10 of µM, -log10 of mol/l. All "
                "but auc become ln µM.",
                rich_help_panel=TABLE,
            ),
        ],
        "ln_ic50",
    ),
    "line": (Annotated[str | None, _column("Cell line.", f"{_USUAL} line")], None),
    "drug": (Annotated[str | None, _column("Drug.", f"{_USUAL} drug")], None),
    "response": (Annotated[str | None, _column("Response.", f"{_USUAL} ln_ic50, auc or response")], None),
    "smiles": (Annotated[str | None, _column("Structure of the drug.", "smiles, if there is one")], None),
    "screen_column": (Annotated[str | None, _column("Screen.", "DATASET or screen, if there is one")], None),
    "screen": (
        Annotated[
            str | None,
            typer.Option(
                metavar="NAME",
                help="Screen to read, such as GDSC2, where the table holds several; all: their mean.",
                show_default=False,
                rich_help_panel=TABLE,
            ),
        ],
        None,
    ),
    "missing": (
        Annotated[
            Literal["refuse", "drop"],
            typer.Option(help="What to do with rows without a finite response.", rich_help_panel=TABLE),
        ],
        "refuse",
    ),
}
_LINE_OPTIONS: dict[str, tuple[Any, object]] = {
    "line_column": (
        Annotated[
            str | None,
            typer.Option(
                metavar="COLUMN",
                help="Column of obs with the names that the table uses. \\[default: obs_names]",
                show_default=False,
                rich_help_panel=READING,
            ),
        ],
        None,
    ),
    "layer": (Layer, None),
    "gene_column": (GeneColumn, None),
    "min_overlap": (MinOverlap, None),
}


@dataclass(frozen=True)
class TableReader:
    """Reads a table with the options of the command line."""

    options: dict[str, Any]

    def read(self, path: Path) -> ResponseTable:
        """Read the table."""
        from cell_lm.data.response import read_response

        return read_response(path, **self.options)


@dataclass(frozen=True)
class LineReader:
    """How expression is read."""

    line_column: str | None
    read: ReadOptions


def reads_responses() -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Replace the parameter ``table`` of a verb by the options for reading tables of responses."""
    return as_one("table", _TABLE_OPTIONS, TableReader)


def reads_lines() -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Replace the parameter ``how`` of a verb by the options for reading expression."""

    def build(values: dict[str, Any]) -> LineReader:
        from cell_lm.data.read_options import ReadOptions

        column = values.pop("line_column")
        return LineReader(column, ReadOptions(**values))

    return as_one("how", _LINE_OPTIONS, build)
