"""``cell-lm embed``: the embedding of each cell by a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.console import messages, show_coverage
from cell_lm.cli.options import WRITING, CellsOrStore, Device, Force, Model, NoVerify, Precision, output
from cell_lm.cli.read_options import reads_cells

if TYPE_CHECKING:
    from anndata import AnnData

    from cell_lm.data.read_options import ReadOptions

_EPILOG = """[bold]Examples[/bold]

  cell-lm embed my.h5ad --model run
  cell-lm embed my.h5ad --model run --layer counts --out embedded.h5ad
  cell-lm embed store --model run --out store.cell_lm.h5ad    [dim]# without X[/dim]

[dim]Your file is not changed; the copy has the same X.[/dim]"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("embed", help="Embed cells: write a copy of the file with the embedding in obsm.", epilog=_EPILOG)(
        embed
    )


@reads_cells()
def embed(
    context: typer.Context,
    cells: CellsOrStore,
    model: Model = "small",
    out: Annotated[
        Path | None, output("FILE.h5ad", "File to write. \\[default: my.cell_lm.h5ad next to my.h5ad]")
    ] = None,
    key: Annotated[
        str, typer.Option(metavar="KEY", help="Key of the embedding in obsm.", rich_help_panel=WRITING)
    ] = "X_cell_lm",
    *,
    read: ReadOptions,
    device: Device = "auto",
    precision: Precision = "float32",
    no_verify: NoVerify = False,
    force: Force = False,
) -> int:
    """Read the cells, embed them, write the copy."""
    keep_large_blocks()
    from cell_lm import tl
    from cell_lm.cli.cells_file import naming, read_file_or_store, warn_of, write_cells_file
    from cell_lm.cli.outputs import refuse_key, refuse_output_file
    from cell_lm.engine.device import choose_device
    from cell_lm.model import CellLM

    says, copy = messages(context), out or cells.with_suffix(".cell_lm.h5ad")
    refuse_key(key)
    refuse_output_file(copy, force=force, inputs=(cells, model), suffix=".h5ad")
    choose_device(device)
    encoder = CellLM.from_pretrained(model)
    says.note(f"reading {cells}")
    data = read_file_or_store(cells, encoder.vocabulary, read, verify=not no_verify)
    with naming(cells), says.progress("embedding", len(data)) as done:
        made = tl.embed(data, encoder, read=read, key_added=key, device=device, precision=precision, progress=done)
    adata: AnnData = data if made is None else made
    write_cells_file(adata, copy, says, force=force)
    about = adata.uns[key.removeprefix("X_")]
    says.result(f"embedded {adata.n_obs:,} cells: obsm {key}, {adata.obsm[key].shape[1]} numbers a cell")
    says.note(f"on {about['device']}, in {about['precision']}")
    show_coverage(about, says)
    warn_of(about, says)
    says.result(f"written: {copy}")
    says.note("next:")
    says.note(f'scanpy.pp.neighbors(adata, use_rep="{key}")', indent=2)
    return 0
