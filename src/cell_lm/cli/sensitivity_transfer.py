"""``cell-lm sensitivity transfer``: score cells by the response of bulk lines."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.console import coverage, messages
from cell_lm.cli.options import WRITING, CellsOrStore, Force
from cell_lm.cli.read_options import reads_cells
from cell_lm.cli.sensitivity_shown import KEY, show_genes, show_groups

if TYPE_CHECKING:
    from anndata import AnnData

    from cell_lm.data.read_options import ReadOptions

EXAMPLES = """[bold]Examples[/bold]

  cell-lm sensitivity transfer cells.h5ad --lines bulk.h5ad --lines-scale log2 --response GDSC2.xlsx --drug Afatinib
  cell-lm sensitivity transfer cells.h5ad --lines bulk.h5ad --lines-scale log2 --response gdsc.csv --drug PLX-4720 \\
      --tissue skin --genes signature.csv"""
_LINES = "The bulk lines"


def _column(what: str) -> Any:
    return typer.Option(
        metavar="COLUMN",
        help=f"Column of the responses with the {what}, where its name is not known.",
        show_default=False,
        rich_help_panel=_LINES,
    )


@reads_cells(z_scores=True)
def transfer(
    context: typer.Context,
    cells: CellsOrStore,
    lines: Annotated[
        Path,
        typer.Option(
            readable=False,
            metavar="FILE",
            help="Expression of bulk lines, named as in the responses.",
            show_default=False,
            rich_help_panel=_LINES,
        ),
    ],
    response: Annotated[
        Path,
        typer.Option(
            readable=False,
            metavar="FILE",
            help="Responses: a download of GDSC or PRISM, csv, tsv, xlsx or parquet.",
            show_default=False,
            rich_help_panel=_LINES,
        ),
    ],
    drug: Annotated[str, typer.Option(metavar="NAME", help="Name of the drug in it.", show_default=False)],
    lines_scale: Annotated[
        Literal["counts", "log1p", "log2", "log10", "linear", "scaled"],
        typer.Option(help="Scale of the lines: log2 for RMA and log2(TPM + 1).", rich_help_panel=_LINES),
    ] = "counts",
    response_scale: Annotated[
        Literal["ln_ic50", "auc", "ic50", "ic50_nm", "log10_ic50", "pic50"],
        typer.Option(help="What the responses are; ic50 in µM.", rich_help_panel=_LINES),
    ] = "ln_ic50",
    line_column: Annotated[str | None, _column("line")] = None,
    drug_column: Annotated[str | None, _column("drug")] = None,
    response_column: Annotated[str | None, _column("response")] = None,
    screen_column: Annotated[str | None, _column("screen")] = None,
    screen: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Screen to read where there are several, or all for their mean.",
            show_default=False,
            rich_help_panel=_LINES,
        ),
    ] = None,
    tissue: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Tissue of the cells, as the lines call it; tested if given.", show_default=False
        ),
    ] = None,
    tissue_column: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column of obs of the lines with tissues.", rich_help_panel=_LINES)
    ] = "tissue",
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LINE",
            help="Line to leave out, such as that of the cells. May be repeated.",
            show_default=False,
            rich_help_panel=_LINES,
        ),
    ] = None,
    prior: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=0.999,
            metavar="P",
            help="Fraction of sensitive cells. \\[default: estimated]",
            show_default=False,
        ),
    ] = None,
    groupby: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of obs with clusters or samples to summarise.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE.h5ad",
            help="File to write. \\[default: my.sensitivity.h5ad next to my.h5ad]",
            show_default=False,
            rich_help_panel=WRITING,
        ),
    ] = None,
    genes: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE.csv",
            help="Also write the genes of the signature: gene, bulk, cells.",
            show_default=False,
            rich_help_panel=WRITING,
        ),
    ] = None,
    *,
    read: ReadOptions,
    force: Force = False,
) -> int:
    """Read lines, responses and cells, score the cells, write the copy, tell what the tests say."""
    keep_large_blocks()
    from cell_lm import tl
    from cell_lm.cli.cells_file import naming, obs_of, read_file_or_store, write_cells_file
    from cell_lm.cli.outputs import refuse_output_file
    from cell_lm.data.obs.columns import obs_column
    from cell_lm.data.response import read_response
    from cell_lm.files import write_csv
    from cell_lm.tasks.sensitivity import TransferWarning, bulk_signature

    says, copy = messages(context), out or cells.with_suffix(".sensitivity.h5ad")
    refuse_output_file(copy, force=force, inputs=(cells, lines, response), suffix=".h5ad")
    if genes is not None:
        refuse_output_file(genes, force=force, inputs=(cells, lines, response), suffix=".csv")
    says.note(f"reading {response}")
    table = read_response(
        response,
        scale=response_scale,
        line=line_column,
        drug=drug_column,
        response=response_column,
        screen_column=screen_column,
        screen=screen,
    )
    for remark in table.remarks:
        says.note(remark, indent=2)
    table.of_drug(drug)  # before the slow steps
    says.note(f"reading {lines}")
    signature = bulk_signature(
        lines, table, drug, tissue=tissue, tissue_column=tissue_column, exclude=exclude or (), scale=lines_scale
    )
    says.note(f"reading {cells}")
    data = read_file_or_store(cells, None, read)
    if groupby is not None:
        obs_column(obs_of(data, groupby), groupby, where=str(cells))
    with naming(cells), warnings.catch_warnings():
        warnings.simplefilter("ignore", TransferWarning)  # it is a result here
        made = tl.sensitivity_transfer(data, signature, prior=prior, read=read)
    adata: AnnData = data if made is None else made
    about = adata.uns[KEY]
    write_cells_file(adata, copy, says, force=force)
    if genes is not None:
        write_csv(about["table"], genes, replace=force)
    show_groups(adata, groupby, says)
    show_genes(about["table"], says, "bulk")
    tests = about["tests"]
    says.result(
        f"tests of the signature: unseen lines r {tests['unseen']:.2f}, within tissues {tests['within']:.2f}, "
        f"genes together in cells {tests['agreement']:.2f} ({tests['agreement_by_chance']:.2f} by chance)"
    )
    for why in about["reasons"]:
        says.result(f"NOT TO BE TRUSTED: {why}")
    says.result(f"{signature.lines:,} lines, {about['genes_shared']:,} shared genes")
    for line in coverage(about):
        says.result(line)
    says.result(f"written: {copy} (obs {KEY}, {KEY}_score, {KEY}_call, {KEY}_uncertain)")
    return 0
