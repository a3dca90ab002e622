"""``cell-lm sensitivity transfer``: score cells by the response of bulk lines."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.console import Messages, messages
from cell_lm.cli.options import CellsOrStore, Force
from cell_lm.cli.read_options import reads_cells
from cell_lm.cli.response_options import TableReader
from cell_lm.cli.sensitivity_options import (
    BulkLines,
    BulkResponses,
    BulkScale,
    Copy,
    Drug,
    Exclude,
    GroupBy,
    PriorOfCells,
    SignatureTable,
    Tissue,
    TissueColumn,
    reads_bulk_responses,
)
from cell_lm.cli.sensitivity_shown import KEY, show_copy, show_genes, show_groups

if TYPE_CHECKING:
    from anndata import AnnData

    from cell_lm.data.read_options import ReadOptions
    from cell_lm.tasks.sensitivity import BulkSignature

EXAMPLES = """[bold]Examples[/bold]

  cell-lm sensitivity transfer cells.h5ad --lines bulk.h5ad --lines-scale log2 --response GDSC2.xlsx --drug Afatinib
  cell-lm sensitivity transfer cells.h5ad --lines bulk.h5ad --lines-scale log2 --response gdsc.csv --drug PLX-4720 \\
      --tissue skin --genes signature.csv"""


@reads_bulk_responses()
@reads_cells(z_scores=True)
def transfer(
    context: typer.Context,
    cells: CellsOrStore,
    lines: BulkLines,
    response: BulkResponses,
    drug: Drug,
    lines_scale: BulkScale = "counts",
    *,
    table: TableReader,
    tissue: Tissue = None,
    tissue_column: TissueColumn = "tissue",
    exclude: Exclude = None,
    prior: PriorOfCells = None,
    groupby: GroupBy = None,
    out: Copy = None,
    genes: SignatureTable = None,
    read: ReadOptions,
    force: Force = False,
) -> int:
    """Read lines, responses and cells, score the cells, write the copy, print what the tests found."""
    keep_large_blocks()
    from cell_lm import tl
    from cell_lm.cli.cells_file import naming, read_cells_in_groups, write_cells_file
    from cell_lm.cli.outputs import refuse_output_file
    from cell_lm.files import write_csv
    from cell_lm.tasks.sensitivity import TransferWarning, bulk_signature

    says, copy = messages(context), out or cells.with_suffix(".sensitivity.h5ad")
    for path, suffix, option in ((copy, ".h5ad", "--out"), (genes, ".csv", "--genes")):
        if path is not None:
            refuse_output_file(path, force=force, inputs=(cells, lines, response), suffix=suffix, option=option)
    says.note(f"reading {response}")
    responses = table.read_and_tell(response, says)
    responses.of_drug(drug)  # before the slow steps
    says.note(f"reading {lines}")
    signature = bulk_signature(
        lines, responses, drug, tissue=tissue, tissue_column=tissue_column, exclude=exclude or (), scale=lines_scale
    )
    data = read_cells_in_groups(cells, None, read, groupby, says)
    with naming(cells), warnings.catch_warnings():
        warnings.simplefilter("ignore", TransferWarning)  # it is a result here
        made = tl.sensitivity_transfer(data, signature, prior=prior, read=read)
    adata: AnnData = data if made is None else made
    about = adata.uns[KEY]
    write_cells_file(adata, copy, says, force=force)
    if genes is not None:
        write_csv(about["table"], genes, replace=force)
    show_groups(adata, groupby, says)
    _show_signature(about, signature, says)
    show_copy(adata, copy, says)
    return 0


def _show_signature(about: Mapping[str, Any], signature: BulkSignature, says: Messages) -> None:
    show_genes(about["table"], says, "bulk")
    tests = about["tests"]
    says.result(
        f"tests of the signature: unseen lines r {tests['unseen']:.2f}, within tissues {tests['within']:.2f}, "
        f"genes together in cells {tests['agreement']:.2f} ({tests['agreement_by_chance']:.2f} by chance)"
    )
    for why in about["reasons"]:
        says.result(f"NOT TO BE TRUSTED: {why}")
    says.result(f"{signature.lines:,} lines, {about['genes_shared']:,} shared genes")
