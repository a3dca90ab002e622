"""Options of the verbs of annotation, and notes about labels."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cell_lm.cli.console import Messages
from cell_lm.cli.options import column, source

READY = "blood, pancreas or ovarian-cancer"

Annotator = Annotated[
    Path,
    source("FOLDER", f"Classifier that cell-lm annotate fit wrote, or a ready annotator: {READY} (annotate list)."),
]
Unlabelled = Annotated[
    list[str] | None,
    typer.Option(
        "--unlabelled",
        metavar="LABELS",
        help="Labels that mean that the type is not known, such as Unknown,NA: separated by commas, in upper or lower "
        "case. May be repeated.",
        show_default=False,
    ),
]
MinCells = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Leave out types of fewer cells. \\[default: types of one cell, which cannot be cross-validated, are "
        "refused; 1 keeps them]",
        show_default=False,
    ),
]
GenesOf = Annotated[
    Path | None,
    source(
        "CELLS",
        "Cells to predict, such as those of a targeted panel: learn only from genes that both have. Read by the same "
        "options; only their genes are looked at.",
    ),
]
UnlabelledCells = Annotated[
    list[Path] | None,
    source(
        "CELLS",
        "Further cells to learn from without labels, best those to be predicted. Helps most where few cells have a "
        "label. Read by the same options. May be repeated.",
    ),
]
UnknownRate = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=0.99,
        metavar="RATE",
        help="Call cells of no known type unknown, at the price of so many cells of known types; 0: never. "
        "\\[default: 0.05 if the classifier was fitted with --groups, else never]",
        show_default=False,
    ),
]
MajorityVoting = Annotated[
    bool,
    typer.Option(
        "--majority-voting", help="Also give each cell the most frequent label of its cluster: NAME_majority_label."
    ),
]
OverClustering = Annotated[
    str | None,
    column("Column of obs with the clusters that vote. \\[default: small clusters of the embedding]"),
]
Truth = Annotated[str, column("Column of obs with the true cell types.")]
Key = Annotated[
    str,
    typer.Option(
        "--key", metavar="NAME", help="Prefix of the new columns of obs: NAME_label, NAME_confidence and so on."
    ),
]


def words(typed: list[str] | None) -> tuple[str, ...]:
    """Return the labels of an option that may be repeated, each with several of them: quoted if they hold commas."""
    each = (value.strip() for row in csv.reader(typed or [], skipinitialspace=True) for value in row)
    return tuple(dict.fromkeys(value for value in each if value))


@contextmanager
def label_notes(says: Messages) -> Iterator[None]:
    """Print warnings about labels as notes, each once."""
    from cell_lm.data.obs.labels import LabelWarning, SharedTypesWarning

    told: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", LabelWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
            if not issubclass(category, LabelWarning) or issubclass(category, SharedTypesWarning):
                others(message, category, *rest, **named)
            elif str(message) not in told:
                told.add(str(message))
                says.note(f"note: {message}")

        warnings.showwarning = show
        yield
