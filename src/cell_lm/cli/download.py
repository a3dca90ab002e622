"""``cell-lm download``: public data sets of cells, and gene networks, by name, with their hashes checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cell_lm.cli.console import Messages, messages
from cell_lm.cli.options import WRITING
from cell_lm.errors import ConfigError

_EPILOG = """[bold]Examples[/bold]

  cell-lm download --list
  cell-lm download pbmc3k --out data
  cell-lm download panglao:SRA667466:SRS3059953 --out data
  cell-lm download string --out string        [dim]# a network of proteins[/dim]
  cell-lm download zheng_sorted --out data --mirror /media/usb   [dim]# without a network[/dim]"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("download", help="Download public cells or a gene network, and check the hash.", epilog=_EPILOG)(
        download
    )


def download(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A data set from --list, zheng_sorted, or panglao:SRA…:SRS… for a sample of PanglaoDB.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            readable=False,
            metavar="FOLDER",
            help="Folder for the data.",
            show_default=False,
            rich_help_panel=WRITING,
        ),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|URL", help="Copy the files from here instead; they keep their names.", show_default=False
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the data sets and exit.")] = False,
) -> int:
    """Download the data set and print which file to read."""
    says = messages(context)
    if listed:
        _list(says)
        return 0
    if name is None or out is None:
        raise ConfigError(
            "name a set of cells or a network, and the folder for it", fix="cell-lm download pbmc3k --out data"
        )
    from cell_lm.data.downloads import download as fetch

    fetched = fetch(name, out, mirror=mirror, progress=not says.quiet, tell=says.note)
    for file in fetched.first_seen:
        says.note(f"{file}: no hash of it was published; it is noted in {out}, and later downloads must agree")
    says.result(f"{fetched.dataset.name}: {fetched.dataset.what} ({fetched.dataset.licence})")
    network = fetched.dataset.kind == "network"
    for path in fetched.cells:
        says.result(f"  {path}")
    says.note("next:")
    first = fetched.cells[0]
    says.note(f"cell-lm genes pretrain {first} --out genes" if network else f"cell-lm check {first}", indent=2)
    return 0


def _list(says: Messages) -> None:
    from cell_lm.data.downloads import REGISTRY

    rows = [
        (dataset.name, dataset.what, "pinned" if dataset.pinned else "noted on first download")
        for dataset in REGISTRY.values()
    ]
    rows.append(("zheng_sorted", "the ten sorted populations together", "noted on first download"))
    rows.append(("panglao:SRA…:SRS…", "a sample of PanglaoDB, by its ids", "noted on first download"))
    says.table(("name", "what", "hash"), rows)
