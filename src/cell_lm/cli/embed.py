"""``cell-lm embed``: cells as a model sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.console import coverage, messages
from cell_lm.cli.options import WRITING, Cells, Force, GeneColumn, Input, Layer, LeaveOut, Model

_EPILOG = """[bold]Examples[/bold]

  cell-lm embed my.h5ad --model run
  cell-lm embed my.h5ad --model run --layer counts --out embedded.h5ad

[dim]Your file is only read; its X goes into the copy as it is.[/dim]"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("embed", help="Embed cells: a copy of the file with the embedding in obsm.", epilog=_EPILOG)(embed)


def embed(
    context: typer.Context,
    cells: Cells,
    model: Model,
    out: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE.h5ad",
            help="File to write. \\[default: my.cell_lm.h5ad beside my.h5ad]",
            show_default=False,
            rich_help_panel=WRITING,
        ),
    ] = None,
    key: Annotated[
        str, typer.Option(metavar="KEY", help="Where in obsm the embedding goes.", rich_help_panel=WRITING)
    ] = "X_cell_lm",
    layer: Layer = None,
    scale: Input = "counts",
    gene_column: GeneColumn = None,
    min_genes: LeaveOut = 0,
    force: Force = False,
) -> int:
    """Read the file, embed its cells, write the copy."""
    keep_large_blocks()
    from cell_lm import tl
    from cell_lm.cli.cells_file import device, naming, read_cells_file, write_cells_file
    from cell_lm.cli.outputs import refuse_key, refuse_output_file
    from cell_lm.model import CellLM

    says, copy = messages(context), out or cells.with_suffix(".cell_lm.h5ad")
    refuse_key(key)
    refuse_output_file(copy, force=force, inputs=(cells, model), suffix=".h5ad")
    encoder = CellLM.from_pretrained(model)
    says.note(f"reading {cells}")
    adata = read_cells_file(
        cells, encoder.vocabulary, layer=layer, scale=scale, gene_column=gene_column, min_genes=min_genes
    )
    encoder.to(device())
    with naming(cells), says.progress("embedding", adata.n_obs) as done:
        tl.embed(adata, encoder, layer=layer, input=scale, gene_column=gene_column, key_added=key, progress=done)
    write_cells_file(adata, copy, force=force)
    says.result(f"embedded {adata.n_obs:,} cells: obsm {key}, {adata.obsm[key].shape[1]} numbers a cell")
    says.result(coverage(adata.uns[key.removeprefix("X_")]))
    says.result(f"written: {copy}")
    says.note("next:")
    says.note(f'scanpy.pp.neighbors(adata, use_rep="{key}")', indent=2)
    return 0
