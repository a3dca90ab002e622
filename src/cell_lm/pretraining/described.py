"""The data of a run, for ``data.json``: every dataset by name, size and hash, and all sources of a store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cell_lm.data.backed import BackedCells
from cell_lm.data.cells import CellData
from cell_lm.data.obs.malignancy import NORMAL, TUMOUR, UNKNOWN
from cell_lm.data.protocol import Dataset
from cell_lm.data.store import SourceRecord, Store
from cell_lm.files import JSON
from cell_lm.genes.audit import STATUSES, AuditSummary

_MALIGNANCY = {"normal": NORMAL, "tumour": TUMOUR, "unknown": UNKNOWN}


def content_hash(cells: CellData) -> str:
    """Return the SHA-256 of the training data: expression, scale and malignancy of all cells, in order."""
    digest = hashlib.sha256(cells.scale.encode())
    for part, kind in (
        (cells.X.indptr, "<i8"),
        (cells.X.indices, "<i4"),
        (cells.X.data, "<f4"),
        (cells.malignancy, "<i1"),
    ):
        digest.update(np.ascontiguousarray(part, dtype=kind).data)
    return digest.hexdigest()


def describe_data(datasets: Sequence[Dataset], training: int, validation: int) -> dict[str, JSON]:
    """Return the content of ``data.json``.

    It has the vocabulary's hash, the numbers of training and held-out cells, every dataset (of a store: every source)
    with its gene audit, and every store with its path and the hash of its manifest, which covers all its files.
    """
    described: list[JSON] = [one for dataset in datasets for one in _describe(dataset)]
    stores: list[JSON] = [
        {"name": store.name, "path": os.path.realpath(store.path), "cells": len(store), "hash": store.hash}
        for store in datasets
        if isinstance(store, Store)
    ]
    return {
        "vocabulary": datasets[0].vocabulary.hash,
        "cells": training + validation,
        "training": training,
        "validation": validation,
        "datasets": described,
        "stores": stores,
    }


def _describe(dataset: Dataset) -> Iterator[dict[str, JSON]]:
    if isinstance(dataset, Store):
        yield from (_describe_source(dataset, source) for source in dataset.manifest.sources)
    elif isinstance(dataset, CellData | BackedCells):
        yield _describe_cells(dataset)
    else:
        raise TypeError(f"a run cannot describe {type(dataset).__name__}")


def _describe_cells(cells: CellData | BackedCells) -> dict[str, JSON]:
    return {
        "name": cells.name,
        "cells": len(cells),
        "hash": cells.hash if isinstance(cells, BackedCells) else content_hash(cells),
        "scale": cells.scale,
        "malignancy": _count_malignancy(cells.malignancy),
        "genes_per_cell": float(np.median(cells.genes_per_cell)),
        "audit": cells.audit.to_json(),
    }


def _count_malignancy(malignancy: NDArray[np.int8]) -> dict[str, JSON]:
    return {name: int((malignancy == value).sum()) for name, value in _MALIGNANCY.items()}


def _describe_source(store: Store, source: SourceRecord) -> dict[str, JSON]:
    counts: dict[str, JSON] = {name: source.cells.malignancy_counts.get(name, 0) for name in _MALIGNANCY}
    return {
        "name": source.name,
        "store": store.name,
        "cells": source.cells.kept,
        "hash": source.sha256,
        "scale": source.scale,
        "malignancy": counts,
        "audit": audit_of(store, source).to_json(),
    }


def audit_of(store: Store, source: SourceRecord) -> AuditSummary:
    """Return the gene audit of a source."""
    genes = source.genes
    counts = {str(status): genes.counts.get(status, 0) for status in STATUSES}
    listed = {str(status): genes.listed.get(status, []) for status in STATUSES[1:]}
    return AuditSummary(genes.given, len(store.vocabulary), genes.found, counts, listed)
