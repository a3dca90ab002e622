"""``cell-lm explore``: a page to look at cells with the mouse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cell_lm.cli.console import messages
from cell_lm.cli.options import READING, WRITING, Force, Seed, column
from cell_lm.cli.read_options import GeneColumn, Layer, Scale

_SHOWING = "What is shown"
_EPILOG = """[bold]Examples[/bold]

  cell-lm explore my.cell_lm.h5ad
  cell-lm explore my.cell_lm.h5ad --color cell_type --genes CD3D,MS4A1,NKG7 --out explore.html
  cell-lm explore atlas.h5ad --basis X_umap --max-cells 300000 --genes none

[dim]One HTML file, without network: open it in a browser, or send it.[/dim]"""
_SLOW = 20_000
"""From so many cells on, a map takes minutes."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("explore", help="Write a page to look at cells with the mouse: one HTML file.", epilog=_EPILOG)(explore)


def explore(
    context: typer.Context,
    cells: Annotated[
        Path,
        typer.Argument(
            readable=False, metavar="CELLS.h5ad", help="File with an embedding (cell-lm embed).", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE.html",
            help="Page to write. \\[default: my.explore.html next to my.h5ad]",
            show_default=False,
            rich_help_panel=WRITING,
        ),
    ] = None,
    color: Annotated[
        str | None, column("Column of obs, or gene, that colours the map at first. \\[default: labels]", _SHOWING)
    ] = None,
    genes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="Genes to hold, at most 50, by any of their names; or 'none'. \\[default: those most specific to a "
            "label]",
            show_default=False,
            rich_help_panel=_SHOWING,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="Columns of obs to hold. \\[default: all that can be shown]",
            show_default=False,
            rich_help_panel=_SHOWING,
        ),
    ] = None,
    opacity: Annotated[
        str | None,
        column("Column from 0 to 1 that sets the opacity at first. \\[default: cell_lm_confidence]", _SHOWING),
    ] = None,
    basis: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Key of obsm; its map is computed unless it has two dimensions. \\[default: X_cell_lm, else X_umap, "
            "X_tsne, X_pca]",
            show_default=False,
            rich_help_panel=READING,
        ),
    ] = None,
    max_cells: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Most cells to draw; of more, N at random.", rich_help_panel=_SHOWING),
    ] = 100_000,
    title: Annotated[
        str | None,
        typer.Option(
            help="Name of the page. \\[default: name of the file]", show_default=False, rich_help_panel=_SHOWING
        ),
    ] = None,
    layer: Layer = None,
    scale: Scale = "counts",
    gene_column: GeneColumn = None,
    seed: Seed = 0,
    force: Force = False,
) -> int:
    """Read the cells, collect what is shown, write the page."""
    from cell_lm.cli.outputs import refuse_output_file

    says, page = messages(context), out or cells.with_suffix(".explore.html")
    refuse_output_file(page, force=force, inputs=(cells,), suffix=".html")
    from cell_lm.data import read_h5ad
    from cell_lm.data.read_options import ReadOptions
    from cell_lm.explorer import collect, write_explorer
    from cell_lm.explorer.collect import has_map

    says.note(f"reading {cells}")
    adata = read_h5ad(cells)
    if min(adata.n_obs, max_cells) > _SLOW and not has_map(adata, basis, seed, where=str(cells)):
        says.note("a map of so many cells takes minutes, unless the file holds one (--basis X_umap)")
    shown = collect(
        adata,
        color=color,
        genes=[] if genes == "none" else _names(genes),
        columns=_names(columns),
        opacity=opacity,
        basis=basis,
        max_cells=max_cells,
        read=ReadOptions(layer=layer, scale=scale, gene_column=gene_column),
        seed=seed,
        title=cells.name if title is None else title,
        where=str(cells),
    )
    write_explorer(shown, page, replace=force)
    drawn = f"{len(shown.barcodes):,} cells"
    if len(shown.barcodes) < shown.total:
        drawn = f"{len(shown.barcodes):,} of {shown.total:,} cells, drawn at random"
    says.result(f"{drawn}; {len(shown.columns)} columns, {len(shown.genes)} genes; {shown.method} of {shown.basis}")
    for note in shown.notes:
        says.note(f"not shown: {note}")
    says.result(f"explorer: {page} ({page.stat().st_size / 1e6:.1f} MB)")
    return 0


def _names(text: str | None) -> list[str] | None:
    """Return the names of a list with commas; None where none was given."""
    if text is None:
        return None
    return [name.strip() for name in text.split(",") if name.strip()]
