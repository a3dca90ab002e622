"""Options of ``cell-lm pretrain``: the malignancy of the cells, and the training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cell_lm.cli.options import READING, WRITING

_STATE, _RUN = "Tumour or normal", "How it is trained"

Files = Annotated[
    list[Path] | None,
    typer.Argument(
        readable=False,
        metavar="CELLS",
        help="Files of cells, stores of cell-lm prepare, or both. A large .h5ad stays on disk.",
        show_default=False,
    ),
]

Run = Annotated[
    Path | None,
    typer.Option(
        readable=False, metavar="FOLDER", help="Run folder to write.", show_default=False, rich_help_panel=WRITING
    ),
]

MalignancyColumnName = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of obs with tumour and normal cells. Values such as tumour, malignant, normal and healthy are "
        "recognised; yes and no as well if the column is called, for example, 'malignant'. Cells of a file without "
        "the column are unknown. \\[default: all unknown]",
        show_default=False,
        rich_help_panel=_STATE,
    ),
]

TumourValues = Annotated[
    list[str] | None,
    typer.Option(
        "--tumour",
        "--tumor",
        metavar="VALUES",
        help="Values of that column that mean tumour, separated by commas.",
        show_default=False,
        rich_help_panel=_STATE,
    ),
]

NormalValues = Annotated[
    list[str] | None,
    typer.Option(metavar="VALUES", help="Values that mean normal.", show_default=False, rich_help_panel=_STATE),
]

UnknownValues = Annotated[
    list[str] | None,
    typer.Option(
        metavar="VALUES",
        help="Values that mean unknown; tumour/normal discrimination leaves these cells out.",
        show_default=False,
        rich_help_panel=_STATE,
    ),
]

TumourFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--tumour-file",
        "--tumor-file",
        readable=False,
        metavar="CELLS.h5ad",
        help="File in which all cells are tumour; no need to list it among the files. Repeatable.",
        show_default=False,
        rich_help_panel=_STATE,
    ),
]

NormalFiles = Annotated[
    list[Path] | None,
    typer.Option(
        readable=False,
        metavar="CELLS.h5ad",
        help="File in which all cells are normal. Repeatable.",
        show_default=False,
        rich_help_panel=_STATE,
    ),
]

Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Size of the model: tiny (tests), small (a laptop) or base (the paper's, > 50 M parameters). "
        "\\[default: small]",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="FOLDER",
        help="Start from the weights of this model (a run folder, a model folder, or a repository on the Hugging Face "
        "hub), with its encoder and vocabulary. \\[default: random weights]",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        metavar="FILE.toml",
        help="TOML file with tables encoder, objectives, training and data; it overrides the preset.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="One setting, such as training.token_budget=20000; overrides the file. Repeatable.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

Steps = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Optimiser steps. With --resume you can give more (for a finished run, too) or fewer: the remaining steps "
        "have the learning rate of a run of N steps. \\[default: 1000]",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

BatchSize = Annotated[
    int | None,
    typer.Option(
        min=2,
        metavar="N",
        help="Cells per step, over all processes; memory does not grow with it. \\[default: 256]",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

LearningRate = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="Peak learning rate of AdamW. \\[default: 0.001]", show_default=False, rich_help_panel=_RUN
    ),
]

Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Random seed. \\[default: 0]",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

GeneVectors = Annotated[
    str | None,
    typer.Option(
        metavar="START",
        help="Initial gene vectors: network (packaged, from gene networks), coexpression (of the training cells), "
        "network+coexpression, random, or a file that cell-lm genes pretrain wrote.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

FreezeGeneVectors = Annotated[
    bool | None,
    typer.Option(
        "--freeze-gene-vectors/--train-gene-vectors",
        help="Freeze the gene vectors, or train them with all other weights. \\[default: train]",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

Backed = Annotated[
    bool,
    typer.Option(
        "--backed",
        help="Leave every .h5ad file on disk and read its cells in blocks when needed; by default only files above "
        "4 GB (data.backed_above). A store is faster.",
        rich_help_panel=READING,
    ),
]

Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory limit of a process, such as 8GB. It decides chunks and kept graphs, which change no result. "
        "\\[default: half of what is free]",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Read the cells, measure some steps, print the memory and time that the run needs; write nothing.",
        rich_help_panel=_RUN,
    ),
]

Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue the run in --out with the same files and labels; settings not given stay those of the run. "
        "--steps extends or shortens it.",
        rich_help_panel=_RUN,
    ),
]

RayWorkers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Train on N Ray workers instead of in this process: on the cluster of RAY_ADDRESS, else on this "
        "machine. Needs the extra \\[ray]. \\[default: no Ray]",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

Report = Annotated[
    bool, typer.Option(help="Write report.html into the run folder at the end.", rich_help_panel=WRITING)
]
