"""``cell-lm annotate list``: the annotators that come with the package."""

from __future__ import annotations

from typing import Annotated

import typer

from cell_lm.cli.console import messages


def list_ready(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
) -> int:
    """Show the ready annotators: types, data, scores on donors or data sets that were left out."""
    from cell_lm.tasks import folder
    from cell_lm.tasks.ready import about, find, ready_annotators

    says = messages(context)
    records = {name: about(name) for name in ready_annotators()}
    types = {name: list(folder.read_manifest(find(name)).values["cells_per_class"]) for name in records}
    if as_json:
        says.json({name: record.model_dump(mode="json") | {"types": types[name]} for name, record in records.items()})
        return 0
    rows = [
        [
            name,
            record.tissue,
            f"{len(types[name])}",
            f"{sum(one.cells for one in record.data):,}",
            f"{record.macro_f1:.2f}",
            f"{min(one.macro_f1 for one in record.scores):.2f}",
        ]
        for name, record in records.items()
    ]
    says.table(["annotator", "tissue", "types", "cells", "macro-F1 left out", "worst"], rows, numbers=4)
    for name, record in records.items():
        says.result()
        says.result(f"{name}: {', '.join(types[name])}")
        says.result(f"  data: {'; '.join(f'{one.name} ({one.licence})' for one in record.data)}")
        says.result(f"  {record.tested}")
    says.note("next:")
    says.note("cell-lm annotate predict my.h5ad --model blood", indent=2)
    return 0
