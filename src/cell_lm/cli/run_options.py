"""Options of ``cell-lm pretrain``: what is known of the cells' malignancy, and how the run is trained."""

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
        help="Files of cells, and stores that cell-lm prepare made, in any mixture. A large .h5ad stays on disk.",
        show_default=False,
    ),
]

Run = Annotated[
    Path | None,
    typer.Option(
        readable=False, metavar="FOLDER", help="Run folder to make.", show_default=False, rich_help_panel=WRITING
    ),
]

MalignancyColumnName = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of obs that tells tumour from normal cells. Words like tumour, malignant, normal and healthy are "
        "understood; yes and no, too, if the column's name asks (as 'malignant' does). Cells of a file without it "
        "count as unknown. \\[default: all unknown]",
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
        help="Values of that column that mean tumour, parted by commas.",
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
        help="Values that tell neither; these cells do not count in tumour/normal discrimination.",
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
        help="A file all of whose cells count as tumour; it need not be named once more. May be given again.",
        show_default=False,
        rich_help_panel=_STATE,
    ),
]

NormalFiles = Annotated[
    list[Path] | None,
    typer.Option(
        readable=False,
        metavar="CELLS.h5ad",
        help="A file all of whose cells count as normal. May be given again.",
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
        help="Begin from the weights of this model (a run folder, a model folder, or a repository of the Hugging Face "
        "hub) instead of random ones; encoder and vocabulary are the model's. \\[default: random weights]",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        metavar="FILE.toml",
        help="Settings, in the tables encoder, objectives, training and data; they go over the preset.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="One setting, as training.token_budget=20000; goes over the file. May be given again.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

Steps = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Optimiser steps. With --resume they may be more (of a finished run, too) or fewer: the learning rate of "
        "those to come is that of a run of N steps. \\[default: 1000]",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

BatchSize = Annotated[
    int | None,
    typer.Option(
        min=2,
        metavar="N",
        help="Cells a step, over all processes; memory does not grow with it. \\[default: 256]",
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
        help="Seed of everything random. \\[default: 0]",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

GeneVectors = Annotated[
    str | None,
    typer.Option(
        metavar="START",
        help="Where gene vectors start: network (gene networks, packaged), coexpression (of the training cells), "
        "network+coexpression, random, or a file that cell-lm genes pretrain wrote.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

FreezeGeneVectors = Annotated[
    bool | None,
    typer.Option(
        "--freeze-gene-vectors/--train-gene-vectors",
        help="Leave the gene vectors as they start, or train them with all else. \\[default: train]",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

NoVerify = Annotated[
    bool,
    typer.Option(
        "--no-verify",
        help="Do not hash the files of a store before they are used. They are hashed once, and again when they change; "
        "without it, damage can change the result unseen.",
        rich_help_panel=READING,
    ),
]

Backed = Annotated[
    bool,
    typer.Option(
        "--backed",
        help="Leave every .h5ad file on disk, and read its cells in blocks as they are needed; without it those above "
        "4 GB (data.backed_above). A store is faster.",
        rich_help_panel=READING,
    ),
]

Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory that a process may take, as 8GB; chunks and kept graphs are chosen by it, and change no result. "
        "\\[default: half of what is free]",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Read the cells, measure some steps, tell memory and time that the run would take, and write nothing.",
        rich_help_panel=_RUN,
    ),
]

Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with the run in --out: same files, same labels; settings you do not name are the run's own. "
        "--steps extends or shortens it.",
        rich_help_panel=_RUN,
    ),
]

RayWorkers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Train on N workers of Ray, not in this process: on the cluster that RAY_ADDRESS names, else on this "
        "machine. Needs the extra \\[ray]. \\[default: no Ray]",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]

Report = Annotated[
    bool, typer.Option(help="Write report.html into the run folder at the end.", rich_help_panel=WRITING)
]
