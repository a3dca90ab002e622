"""``cell-lm inspect``: the contents of a store, or the data of a run, and whether they include a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cell_lm.cli.console import Messages, messages
from cell_lm.cli.read_options import reads_cells
from cell_lm.terminal import one_line

if TYPE_CHECKING:
    from cell_lm.data.read_options import ReadOptions
    from cell_lm.data.store import Store

_EPILOG = """[bold]Examples[/bold]

  cell-lm inspect store
  cell-lm inspect store --verify
  cell-lm inspect store --contains my.h5ad       [dim]# was it in the pretraining?[/dim]
  cell-lm inspect run --contains my.h5ad

[dim]Exit code 0: it is intact; 1: it is damaged, and the error names the file.[/dim]"""
_LISTED = 8
_NO_LABELS = {"malignancy", "source", "row", "barcode", "mitochondrial"}

Folder = Annotated[
    Path,
    typer.Argument(
        readable=False,
        metavar="FOLDER",
        help="Store of cell-lm prepare, or run folder of cell-lm pretrain.",
        show_default=False,
    ),
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Check the hash of every file of the store; the error names a damaged one.")
]
Contains = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        metavar="CELLS",
        help="Only answer whether it includes the cells of this file, by the hashes of the file and of its cells.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "inspect",
        help="Show the contents of a store or the data of a run, and check that it is intact.",
        epilog=_EPILOG,
    )(inspect)


@reads_cells(min_genes=None)
def inspect(
    context: typer.Context,
    folder: Folder,
    verify: Verify = False,
    contains: Contains = None,
    *,
    read: ReadOptions,
    as_json: AsJson = False,
) -> int:
    """Show a store, or the data description of a run."""
    from cell_lm.cli.run_data import RunData

    says = messages(context)
    run = RunData.read(folder) if RunData.is_in(folder) else None
    stores = [_open(folder)] if run is None else run.stores(says)
    found: dict[str, Any] = _as_json(stores[0]) if run is None else run.as_json()
    if not as_json and contains is None:
        _tell(stores[0], says) if run is None else run.tell(says)
    if verify:
        for store in stores:
            _verify(store, says)
        found["verified"] = [str(store.path) for store in stores]
        if not as_json:
            says.result(f"verified: {', '.join(found['verified']) or 'nothing, no store is here'}")
    if contains is not None:
        described = [] if run is None else run.described()
        found["contains"] = _contains(stores, described, contains, read)
        if not as_json:
            says.result(_answer(found["contains"]))
    if as_json:
        says.json(found)
    return 0


def _open(folder: Path) -> Store:
    from cell_lm.data.store import Store

    return Store.open(folder)


def _verify(store: Store, says: Messages) -> None:
    with says.progress("hashing", store.size - store.manifest.vocabulary.size) as done:
        store.verify(done)


def _contains(
    stores: Sequence[Store], described: Sequence[tuple[str, str]], path: Path, read: ReadOptions
) -> dict[str, Any]:
    """Look for a file in stores, and among sources known only by name and hash."""
    from cell_lm.prepare import find_cells
    from cell_lm.prepare.identity import identify

    digest = identify(path).sha256
    known = [(source.name, source.sha256) for store in stores for source in store.manifest.sources]
    same = next((name for name, sha256 in [*known, *described] if sha256 == digest), None)
    found: dict[str, Any] = {"file": str(path), "sha256": digest, "same_file": same, "looked_up": bool(stores)}
    for store in stores:
        cells = find_cells(store, path, read=read)
        best = {"cells": cells.cells, "found": cells.found, "by_source": cells.by_source, "store": str(store.path)}
        if cells.found >= found.get("found", 0):
            found |= best
    return found


def _answer(found: Mapping[str, Any]) -> str:
    """Return one line on whether the store or run includes a dataset."""
    name, same = found["file"], found["same_file"]
    verdict = f"{name}: it is source {same}, the same file" if same else f"{name}: no source is this very file"
    if not found["looked_up"]:
        return f"{verdict}; its cells could not be looked up, as no store is here"
    fraction = found["found"] / max(found["cells"], 1)
    where = ", ".join(f"{number:,} as of {source}" for source, number in list(found["by_source"].items())[:_LISTED])
    cells = f"{found['found']:,} of its {found['cells']:,} cells ({fraction:.1%}) are in the store"
    return f"{verdict}; {cells}{f': {where}' if where else ''}"


def _tell(store: Store, says: Messages) -> None:
    from cell_lm.cli.prepare import remarks, tell_sources

    manifest = store.manifest
    says.result(one_line(str(store.path)), style="bold")
    for what, text in _lines(store):
        says.result(f"  {what:<14} {one_line(text)}")
    says.result()
    tell_sources(manifest, says)
    says.result()
    for line in remarks(manifest):
        says.result(one_line(line))


def _lines(store: Store) -> Iterator[tuple[str, str]]:
    """Yield the description of a store as pairs of a heading and a line."""
    manifest = store.manifest
    mean = manifest.tokens / max(manifest.cells, 1)
    yield "store", f"format {manifest.format}, written by cell-lm {manifest.cell_lm}; {store.hash[:16]}"
    yield "cells", f"{manifest.cells:,} of {len(manifest.sources):,} sources; {mean:,.0f} genes a cell"
    yield "malignancy", _counted(_malignancy_counts(store))
    known = f"{manifest.genes_in_any:,} in some source, {manifest.genes_in_all:,} in every one"
    yield "genes", f"{manifest.vocabulary.genes:,} in the vocabulary: {known}"
    for label, counts in label_counts(store).items():
        yield label.replace("_", " "), _counted(counts)
    from cell_lm.report import numbers

    narrow = {kind: sum(s.cells for s in manifest.shards if s.counts == kind) for kind in COUNT_KINDS}
    kinds = ", ".join(f"{number:,} cells as {kind}" for kind, number in narrow.items() if number)
    per_cell = store.size / max(manifest.cells, 1)
    yield (
        "on disk",
        f"{numbers.size(store.size)} in {len(manifest.shards):,} shards ({kinds}); {per_cell:,.0f} bytes a cell",
    )


COUNT_KINDS = ("uint8", "uint16", "uint32", "float32")


def _malignancy_counts(store: Store) -> dict[str, int]:
    kinds = ("normal", "tumour", "unknown")
    return {name: sum(source.cells.malignancy_counts[name] for source in store.manifest.sources) for name in kinds}


def label_counts(store: Store) -> dict[str, dict[str, int]]:
    """Return how many cells have each label, the most frequent first; labels that no cell has are left out."""
    counts: dict[str, dict[str, int]] = {}
    for shard in store.shards:
        labels = [name for name in shard.cells().columns if name not in _NO_LABELS]
        for label in labels:
            into = counts.setdefault(label, {})
            for value, number in shard.cells([label])[label].value_counts(dropna=False).items():
                name = str(value) if isinstance(value, str) else "(unknown)"
                into[name] = into.get(name, 0) + int(number)
    ordered = {
        label: dict(sorted(into.items(), key=lambda item: (-item[1], item[0]))) for label, into in counts.items()
    }
    return {label: into for label, into in ordered.items() if set(into) - {"(unknown)"}}


def _counted(numbers: Mapping[str, int]) -> str:
    shown = [f"{name} {number:,}" for name, number in list(numbers.items())[:_LISTED] if number]
    return ", ".join(shown) + (f", and {len(numbers) - _LISTED:,} more" if len(numbers) > _LISTED else "")


def _as_json(store: Store) -> dict[str, Any]:
    manifest = store.manifest.model_dump(mode="json")
    for shard in manifest["shards"]:
        del shard["files"]
    return (
        {"path": str(store.path), "hash": store.hash, "size": store.size} | manifest | {"labels": label_counts(store)}
    )
