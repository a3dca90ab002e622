"""``cell-lm demo``: every step once, on the cells that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.console import messages
from cell_lm.cli.options import WRITING, Force

_OUT = Path("demo")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("demo", help="Run every step once on packaged real cells: pretrain, embed, annotate, report.")(demo)


def demo(
    context: typer.Context,
    out: Annotated[
        Path, typer.Option(readable=False, metavar="FOLDER", help="Folder for all results.", rich_help_panel=WRITING)
    ] = _OUT,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Optimiser steps of each of the three pretraining runs. "
            "[default: as many as take a few minutes on two cores]",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A fifth of the cells, one run: one to two minutes, to see that all works."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Random seed.")] = 0,
    force: Force = False,
) -> int:
    """Run the demo."""
    keep_large_blocks()
    from cell_lm.demo import run_demo
    from cell_lm.report.numbers import interval
    from cell_lm.report.wording import comparison

    says, found = messages(context), run_demo(out, steps=steps, seed=seed, quick=quick, force=force)
    says.result(f"cell types of {found.annotation.tested_on}; in brackets 95 % intervals")
    rows = [
        (one.name, interval(one.macro_f1), interval(one.difference, signed=True)) for one in found.annotation.methods
    ]
    says.table(("method", "macro-F1", "cell-lm less method"), rows, numbers=2)
    says.result(comparison(found.annotation))
    says.result(found.rare)
    places = {"report": found.report, "explorer": out / "explore.html", "cells": out / "cells.h5ad"}
    for what, place in {**places, "model": out / "model"}.items():
        says.result(f"{what}: {place}")
    return 0
