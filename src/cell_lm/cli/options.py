"""Options that several verbs share, so that a name has the same meaning in all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

READING, WRITING, COMPUTING = "What is read", "What is written", "How it is computed"


def column(text: str, panel: str | None = None) -> Any:
    """Return an option that names a column."""
    return typer.Option(metavar="COLUMN", help=text, show_default=False, rich_help_panel=panel)


def source(metavar: str, text: str, panel: str | None = None) -> Any:
    """Return an option that names a file or folder to read."""
    return typer.Option(readable=False, metavar=metavar, help=text, show_default=False, rich_help_panel=panel)


def output(metavar: str, text: str) -> Any:
    """Return an option that names a file or folder to write."""
    return source(metavar, text, WRITING)


Cells = Annotated[
    Path,
    typer.Argument(
        readable=False,
        metavar="CELLS",
        help="File of cells: h5ad, 10x (h5, or the folder of an mtx), loom, csv or tsv, RData.",
        show_default=False,
    ),
]

CellsOrStore = Annotated[
    Path,
    typer.Argument(
        readable=False,
        metavar="CELLS",
        help="File of cells: h5ad, 10x (h5, or the folder of an mtx), loom, csv or tsv, RData; or a store of cell-lm "
        "prepare.",
        show_default=False,
    ),
]

Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Device: auto (CUDA if there is one, else the CPU), cpu, cuda or cuda:N.",
        rich_help_panel=COMPUTING,
    ),
]

Precision = Annotated[
    Literal["float32", "bfloat16"],
    typer.Option(
        help="Precision of the encoder; bfloat16 is faster and rounds more coarsely.", rich_help_panel=COMPUTING
    ),
]

FineTune = Annotated[
    Literal["refinement", "last", "lora", "all"] | None,
    typer.Option(
        metavar="PART",
        help="Train a part of the encoder first, kept where it predicts left-out donors better: refinement (seconds), "
        "last, lora or all (minutes; docs/fine_tuning.md). \\[default: the encoder is frozen]",
        show_default=False,
        rich_help_panel=COMPUTING,
    ),
]

Samples = Annotated[
    Path | None,
    typer.Option(
        "--samples",
        readable=False,
        metavar="SHEET",
        help="Sample sheet (csv or tsv): the row of the sample named in the file name is added to obs.",
        show_default=False,
        rich_help_panel=READING,
    ),
]

NoVerify = Annotated[
    bool,
    typer.Option(
        "--no-verify",
        help="Do not check the hashes of a store. By default each file is hashed once, and again after it changes; "
        "without the check, damage can change the result unnoticed.",
        rich_help_panel=READING,
    ),
]

Force = Annotated[
    bool,
    typer.Option("--force", help="Replace an output that already exists.", rich_help_panel=WRITING),
]

ClassifierFolder = Annotated[Path, output("FOLDER", "Folder of the classifier to write.")]

Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Random seed.")]

Fitted = Annotated[Path, source("FOLDER", "Classifier that cell-lm annotate fit wrote, or a ready annotator (blood).")]

Model = Annotated[
    str,
    typer.Option(
        metavar="FOLDER",
        help="Packaged model (small), run folder of cell-lm pretrain, model folder, or repository on the Hugging Face "
        "hub.",
    ),
]
