"""The options of the verbs of drug sensitivity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cell_lm.cli.options import column, output, source
from cell_lm.cli.read_options import AnyScale, as_one
from cell_lm.cli.response_options import Scale, TableReader

_LINES = "The bulk lines"


def _fraction(text: str) -> Any:
    return typer.Option(min=0.001, max=0.999, metavar="P", help=f"{text} \\[default: estimated]", show_default=False)


Fitted = Annotated[Path, source("FOLDER", "Classifier that cell-lm sensitivity fit wrote.")]
Copy = Annotated[Path | None, output("FILE.h5ad", "File to write. \\[default: my.sensitivity.h5ad next to my.h5ad]")]
GroupBy = Annotated[str | None, column("Column of obs with clusters or samples to summarise.")]
Truth = Annotated[str, column("Column of obs with the known response.")]

# fit
Label = Annotated[
    str | None, column("Column of obs with two labels; cells with a blank are learned from as unlabelled.")
]
LabelTable = Annotated[
    Path | None,
    source("FILE.csv", "Table with the name of a cell and its label in its first two columns, instead of --label."),
]
Sensitive = Annotated[str, typer.Option(metavar="LABEL", help="The label of sensitive cells.")]
Prior = Annotated[float | None, _fraction("Fraction of sensitive cells among all cells.")]
Unlabelled = Annotated[
    list[Path] | None,
    source("CELLS", "Further cells without labels to learn from, best those to be predicted. May be repeated."),
]
Groups = Annotated[
    str | None,
    column("Column of obs, such as the donor, whose groups stay together when labelled cells are left out."),
]
SelfTraining = Annotated[
    bool, typer.Option("--self-training/--no-self-training", help="Learn from unlabelled cells, too.")
]
Encoder = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Encoder whose embedding is used beside the genes: a run or a model. \\[default: the genes alone]",
        show_default=False,
    ),
]

# transfer
BulkLines = Annotated[Path, source("FILE", "Expression of bulk lines, named as in the responses.", _LINES)]
BulkResponses = Annotated[
    Path, source("FILE", "Responses: a download of GDSC or PRISM, csv, tsv, xlsx or parquet.", _LINES)
]
Drug = Annotated[str, typer.Option(metavar="NAME", help="Name of the drug in it.", show_default=False)]
BulkScale = Annotated[
    AnyScale,
    typer.Option(help="Scale of the lines: log2 for RMA and log2(TPM + 1).", rich_help_panel=_LINES),
]
Tissue = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Tissue of the cells, as the lines call it; tested if given.", show_default=False
    ),
]
TissueColumn = Annotated[
    str, typer.Option(metavar="COLUMN", help="Column of obs of the lines with tissues.", rich_help_panel=_LINES)
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LINE",
        help="Line to leave out, such as that of the cells. May be repeated.",
        show_default=False,
        rich_help_panel=_LINES,
    ),
]
PriorOfCells = Annotated[float | None, _fraction("Fraction of sensitive cells.")]
SignatureTable = Annotated[Path | None, output("FILE.csv", "Also write the genes of the signature: gene, bulk, cells.")]


def _column(what: str) -> Any:
    return column(f"Column of the responses with the {what}, where its name is not known.", _LINES)


_TABLE_OPTIONS: dict[str, tuple[Any, object]] = {
    "response_scale": (
        Annotated[Scale, typer.Option(help="What the responses are; ic50 in µM.", rich_help_panel=_LINES)],
        "ln_ic50",
    ),
    "line_column": (Annotated[str | None, _column("line")], None),
    "drug_column": (Annotated[str | None, _column("drug")], None),
    "response_column": (Annotated[str | None, _column("response")], None),
    "screen_column": (Annotated[str | None, _column("screen")], None),
    "screen": (
        Annotated[
            str | None,
            typer.Option(
                metavar="NAME",
                help="Screen to read where there are several, or all for their mean.",
                show_default=False,
                rich_help_panel=_LINES,
            ),
        ],
        None,
    ),
}
_OF_THE_TABLE = {
    "response_scale": "scale",
    "line_column": "line",
    "drug_column": "drug",
    "response_column": "response",
}
"""What these options are called where a table of responses is read; the others have the same name."""


def reads_bulk_responses() -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Replace the parameter ``table`` of a verb by the options for reading the responses of bulk lines."""

    def build(values: dict[str, Any]) -> TableReader:
        return TableReader({_OF_THE_TABLE.get(name, name): value for name, value in values.items()})

    return as_one("table", _TABLE_OPTIONS, build)
