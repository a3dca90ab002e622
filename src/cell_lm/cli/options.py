"""Options that several verbs share, so that one word means one thing everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

READING, WRITING = "What is read", "What is written"

Cells = Annotated[
    Path,
    typer.Argument(
        readable=False,
        metavar="CELLS",
        help="File of cells: h5ad, 10x (h5, or the folder of an mtx), loom, csv or tsv, RData.",
        show_default=False,
    ),
]

Layer = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Matrix to read: a layer's name, 'raw' for adata.raw, a genome (10x h5) or object (RData). \\[default: X]",
        show_default=False,
        rich_help_panel=READING,
    ),
]

Input = Annotated[
    Literal["counts", "log1p", "log2", "log10", "linear"],
    typer.Option(
        "--input",
        help="What the matrix holds: raw counts; log1p (natural), log2 or log10 of 1 + counts scaled to one total per "
        "cell, or of TPM; linear: scaled, estimated or corrected, not logged. Checked by a scan of all entries.",
        rich_help_panel=READING,
    ),
]

GeneColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of var that holds gene symbols or Ensembl ids. \\[default: var_names]",
        show_default=False,
        rich_help_panel=READING,
    ),
]

Samples = Annotated[
    Path | None,
    typer.Option(
        "--samples",
        readable=False,
        metavar="SHEET",
        help="Sheet of samples (csv or tsv): what its line says of the sample that the file is named by goes into obs.",
        show_default=False,
        rich_help_panel=READING,
    ),
]

LeaveOut = Annotated[
    int,
    typer.Option(
        "--min-genes",
        min=0,
        metavar="N",
        help="Leave out cells with fewer expressed genes of the vocabulary; with 0 an empty cell is an error.",
        rich_help_panel=READING,
    ),
]

Force = Annotated[
    bool,
    typer.Option("--force", help="Replace an output that is there already.", rich_help_panel=WRITING),
]

Model = Annotated[
    str,
    typer.Option(
        metavar="FOLDER",
        help="Run folder of cell-lm pretrain, a model folder, or the name of a repository on the Hugging Face hub.",
        show_default=False,
    ),
]
