"""The options of the verbs of drug response."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from cell_lm.cli.options import READING, WRITING, column, output, source
from cell_lm.cli.read_options import GeneColumn, Layer, MinOverlap, as_one

if TYPE_CHECKING:
    from cell_lm.cli.console import Messages
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

MaybeLines = Annotated[
    Path | None,
    typer.Argument(
        readable=False,
        metavar="[LINES]",
        help="Expression of the lines. \\[default: the lines of the fit]",
        show_default=False,
    ),
]
Responses = Annotated[
    Path, source("FILE", "Table of responses: csv, tsv, xlsx or parquet; GDSC's and PRISM's own files are known.")
]
Measured = Annotated[
    Path | None, source("FILE", "Table of responses that were measured in these lines; they sharpen the others.")
]
NewDrugs = Annotated[
    list[str] | None,
    typer.Option(
        "--new-drug",
        metavar="NAME=SMILES",
        help="A drug that was never measured; may be repeated.",
        show_default=False,
    ),
]
Regressor = Annotated[Path, source("FOLDER", "What cell-lm response fit wrote.")]
Expression = Annotated[
    Literal["rma", "log2_tpm", "counts"],
    typer.Option(
        help="What the expression matrix holds: RMA (log2 of intensities), log2 of 1 + TPM, or counts; it is checked.",
        show_default=False,
    ),
]
RegressorFolder = Annotated[Path, output("FOLDER", "Folder to write.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with a fit into --out that was interrupted, with the same files and settings; the result is the "
        "same to the last bit.",
        rich_help_panel=WRITING,
    ),
]
LineVectors = Annotated[
    Literal["genes", "cell_lm", "both"],
    typer.Option(help="Vector of a line: its genes, the embedding of an encoder (--encoder), or both."),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER", help="Run or model folder of the encoder, for cell_lm and both.", show_default=False
    ),
]
Networks = Annotated[int, typer.Option(min=0, metavar="N", help="Networks in the neural part; 0: closed forms only.")]
Graphs = Annotated[
    bool, typer.Option("--graphs", help="Train the graph encoder of molecules, for the mean of new drugs.")
]
Folds = Annotated[int, typer.Option(min=2, metavar="N", help="Folds in which lines are left out, for the intervals.")]
Confidence = Annotated[
    float, typer.Option(min=0.5, max=0.999, metavar="P", help="Probability that an interval holds the response.")
]
Scale: TypeAlias = Literal["ln_ic50", "auc", "ic50", "ic50_nm", "log10_ic50", "pic50"]
"""Those of :data:`cell_lm.data.response.units.Scale`, which takes long to import."""


def _column(what: str, usual: str) -> Any:
    return column(f"{what} \\[default: {usual}]", TABLE)


_USUAL = "as in GDSC's and PRISM's files, else"
_TABLE_OPTIONS: dict[str, tuple[Any, object]] = {
    "scale": (
        Annotated[
            Scale,
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
            str | None, column("Column of obs with the names that the table uses. \\[default: obs_names]", READING)
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

    def read_and_tell(self, path: Path, says: Messages) -> ResponseTable:
        """Read the table, and note what was remarkable in it."""
        table = self.read(path)
        for remark in table.remarks:
            says.note(remark, indent=2)
        return table


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
