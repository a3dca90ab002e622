"""``cell-lm prepare``: join many files of cells into one store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.console import Messages, messages
from cell_lm.cli.options import READING, WRITING, Samples
from cell_lm.cli.read_options import reads_cells

if TYPE_CHECKING:
    from cell_lm.data.read_options import ReadOptions
    from cell_lm.data.scale.logarithms import Expression
    from cell_lm.data.store import Manifest
    from cell_lm.data.store.manifest import SourceRecord

_QUALITY, _MACHINE = "Which cells are kept", "How it is run"
_EPILOG = """[bold]Examples[/bold]

  cell-lm prepare a.h5ad b.h5 c_mtx/ --out store
  cell-lm prepare samples/*.h5ad --columns columns.toml --out store --workers 4
  cell-lm prepare a.h5ad --max-mito 1 --min-genes 500 --out store

[dim]Killed, or out of disk? Run the same command again: it continues.
See docs/store.md for columns.toml and the format of a store.[/dim]"""

Sources = Annotated[
    list[Path],
    typer.Argument(
        readable=False,
        metavar="CELLS...",
        help="Files of cells, or folders of 10x matrices. Of duplicate cells the first one in this order is kept.",
        show_default=False,
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        readable=False,
        metavar="FOLDER",
        help="Folder of the store to write.",
        show_default=False,
        rich_help_panel=WRITING,
    ),
]
ColumnsFile = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        metavar="FILE.toml",
        help="TOML file that names the columns of tissue, disease, donor, cell type and malignancy (tumour or normal). "
        "\\[default: all unknown]",
        show_default=False,
        rich_help_panel=READING,
    ),
]
MaxMito = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        metavar="SHARE",
        help="Leave out cells with a larger fraction of counts in mitochondrial genes; 1 keeps all cells.",
        rich_help_panel=_QUALITY,
    ),
]
KeepDuplicates = Annotated[
    bool,
    typer.Option(
        "--keep-duplicates",
        help="Keep cells with the same genes and counts as an earlier one.",
        rich_help_panel=_QUALITY,
    ),
]
ShardCells = Annotated[int, typer.Option(min=1, metavar="N", help="Cells per shard.", rich_help_panel=WRITING)]
Workers = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="Number of reading processes; the result is the same.", rich_help_panel=_MACHINE
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory limit of all processes together, as 2G. \\[default: 1.5G, or the least that the workers need]",
        show_default=False,
        rich_help_panel=_MACHINE,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "prepare",
        help="Join many files into one store of harmonised, checked cells; it may be larger than memory.",
        epilog=_EPILOG,
    )(prepare)


@reads_cells(min_genes=200, least=1, panel=_QUALITY)
def prepare(
    context: typer.Context,
    files: Sources,
    out: Out,
    columns: ColumnsFile = None,
    *,
    read: ReadOptions,
    samples: Samples = None,
    max_mito: MaxMito = 0.2,
    keep_duplicates: KeepDuplicates = False,
    shard_cells: ShardCells = 65_536,
    workers: Workers = 1,
    memory: Memory = None,
) -> int:
    """Read all files, join them, and report how many cells each gave."""
    keep_large_blocks()
    from cell_lm.data.formats.sample_sheet import SampleSheet
    from cell_lm.prepare import Columns, PrepareSettings, read_columns
    from cell_lm.prepare import prepare as make_store
    from cell_lm.prepare.memory import read_size

    says = messages(context)
    settings = PrepareSettings(
        layer=read.layer,
        scale=cast("Expression", read.scale),  # the option of this verb has no z-scores
        gene_column=read.gene_column,
        min_overlap=read.min_overlap,
        min_genes=read.min_genes,
        max_mito=max_mito,
        keep_duplicates=keep_duplicates,
        shard_cells=shard_cells,
    )
    bound = None if memory is None else read_size(memory)
    sheet = None if samples is None else SampleSheet.read(samples)
    rules = Columns() if columns is None else read_columns(columns)
    for name in (rule.name for rule in rules.file if not any(rule.fits(path) for path in files)):
        says.note(f"{columns}: no file is called '{name}'")
    made = make_store(
        files, out, settings=settings, columns=rules, samples=sheet, workers=workers, memory=bound, talk=says
    )
    if not made.fresh:
        says.note(f"{out} is finished already, from the same files and settings: nothing was done")
    _tell(made.manifest, out, says)
    return 0


def _tell(manifest: Manifest, out: Path, says: Messages) -> None:
    from cell_lm.report import numbers

    tell_sources(manifest, says)
    says.result()
    for line in remarks(manifest):
        says.result(line)
    size = sum(file.size for shard in manifest.shards for file in shard.files.values())
    says.result(f"written: {out} ({manifest.cells:,} cells, {len(manifest.shards):,} shards, {numbers.size(size)})")
    says.note("next:")
    says.note(f"cell-lm inspect {out}", indent=2)
    says.note(f"cell-lm pretrain {out} --out run", indent=2)


def tell_sources(manifest: Manifest, says: Messages) -> None:
    """Show a table of the cells and genes kept from every source."""
    header = ["source", "cells", "few genes", "mito", "twice", "kept", "normal", "tumour", "unknown", "genes"]
    rows = [_row(source) for source in manifest.sources]
    if len(rows) > 1:
        totals = [sum(number) for number in zip(*(_numbers(source) for source in manifest.sources), strict=True)]
        rows.append(["together", *(f"{number:,}" for number in totals), f"{manifest.genes_in_any:,}"])
    says.table(header, rows, numbers=len(header) - 1)


def _numbers(source: SourceRecord) -> list[int]:
    cells = source.cells
    counts = [cells.malignancy_counts[name] for name in ("normal", "tumour", "unknown")]
    return [cells.given, cells.few_genes, cells.mitochondrial, cells.duplicates, cells.kept, *counts]


def _row(source: SourceRecord) -> list[str]:
    return [source.name, *(f"{number:,}" for number in _numbers(source)), f"{source.genes.found:,}"]


def remarks(manifest: Manifest) -> Iterator[str]:
    """Yield remarks that are not in the table."""
    names = [source.name for source in manifest.sources]
    kept = manifest.settings.get("keep_duplicates")
    for pair in manifest.duplicates:
        where = "within it" if pair.first == pair.again else f"as in {names[pair.first]}"
        done = "kept" if kept else "left out"
        yield f"{names[pair.again]}: {pair.cells:,} cells have the same genes and counts {where}; {done}"
    notes: dict[str, list[str]] = {}
    for source in manifest.sources:
        for note in source.notes:
            notes.setdefault(note, []).append(source.name)
    for note, of in notes.items():
        more = f" and {len(of) - 3:,} more" if len(of) > 3 else ""
        yield f"{', '.join(of[:3])}{more}: {note}"
    if not any(_has_labels(source) for source in manifest.sources):
        yield "no columns file: tissue, disease, donor, cell type and malignancy of all cells are unknown"


def _has_labels(source: SourceRecord) -> bool:
    return any(isinstance(rule, dict) for rule in source.settings.values())
