"""Helpers of all tools: input checks, progress bars, and the record kept with a result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from anndata import AnnData
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cell_lm._version import __version__
from cell_lm.config import Precision
from cell_lm.data.opening import Data, open_data
from cell_lm.data.read_options import ReadOptions
from cell_lm.data.store import Store
from cell_lm.data.view import CellView
from cell_lm.errors import InputError
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.tasks.classifier import Classifier
from cell_lm.tasks.estimator import Estimator
from cell_lm.tasks.features import Device, place, weights_hash

Shown: TypeAlias = "bool | Callable[[int], None]"
Kind = TypeVar("Kind", bound=Estimator)
_OURS = "cell_lm_version"
"""Key that marks entries of ``uns`` written by cell_lm."""


def record_key(data: Data, key_added: object, record: str) -> str:
    """Return ``record``, unless it would overwrite an entry of ``uns`` that cell_lm did not write."""
    if not isinstance(key_added, str) or not key_added or not record:
        raise InputError(f"key_added is {key_added!r}", fix="Give it a name, as X_cell_lm")
    there = data.uns.get(record) if isinstance(data, AnnData) else None
    if there is not None and not (isinstance(there, dict) and _OURS in there):
        found = f"uns['{record}'], which is to describe the result, holds something else"
        raise InputError(found, where="adata", fix="Choose another key_added")
    return record


def loaded(given: Kind | str | Path, kind: type[Kind]) -> tuple[Kind, str]:
    """Return an estimator and, where its folder was given, the path of that."""
    return (given, "") if isinstance(given, kind) else (kind.load(given), str(given))


def refuse_lost_layer(adata: AnnData, key: str, layer: str | None) -> None:
    """Raise :class:`InputError` where ``layers[key]`` is the input, or was not written by cell_lm.

    ``uns[key]`` records the layers that cell_lm wrote (``per_cell``).
    """
    if key not in adata.layers:
        return
    if key == layer:
        found = f"layers['{key}'] is what is read, and would be replaced by the result"
    elif not _wrote_layer(adata.uns.get(key)):
        found = f"layers['{key}'], where the result is to go, holds something else"
    else:
        return
    raise InputError(found, where="adata", fix="Choose another key_added")


def _wrote_layer(record: object) -> bool:
    return isinstance(record, Mapping) and _OURS in record and bool(record.get("per_cell", False))


def refuse_other_kinds(adata: object) -> None:
    """Raise :class:`InputError` for anything but an AnnData."""
    if not isinstance(adata, AnnData):
        fix = "Read a file with anndata.read_h5ad(path) first"
        raise InputError(f"expected an AnnData, found {type(adata).__name__}", fix=fix)


def about_cells(cells: CellView, read: ReadOptions) -> dict[str, Any]:
    """Return the record of the cells behind a result, in types that h5ad can store."""
    dataset = cells.dataset
    found: dict[str, Any] = {_OURS: __version__, "vocabulary": cells.vocabulary.hash, "params": read.to_json()}
    if isinstance(dataset, Store):
        return found | {"store": str(dataset.path), "store_sha256": dataset.hash}
    audit = dataset.audit
    return found | {
        "genes_given": len(audit),
        "genes_used": audit.used,
        "genes_found": len(audit.found),
        "coverage": audit.coverage,
        "median_genes": float(np.median(dataset.genes_per_cell)),
        "genes": audit.counts(),
        "scale": dataset.scale,
        "evidence": dataset.report.evidence if dataset.report else "",
    }


def about_model(model: CellLM, device: Device, precision: Precision) -> dict[str, Any]:
    """Return the record of the model behind a result."""
    config = model.config
    return {
        "model": f"{config.attention} attention, {config.layers} layers of width {config.width}",
        "weights_sha256": weights_hash(model),
        "device": str(place(model, device)),
        "precision": precision,
    }


def about_classifier(classifier: Classifier, path: str, cells: CellView) -> dict[str, Any]:
    """Return the record of the classifier behind a result, of which ``path`` was given."""
    reference, coverage = classifier.reference_, classifier.coverage(cells)
    about = {
        "classifier_path": path,
        "reference": {"name": reference.name, "label": reference.label, "cells": reference.cells},
        "reference_coverage": coverage.share,
    }
    return about | ({"genes_of_fit": coverage.shared} if reference.cut else {})


def open_target(data: Data, vocabulary: Vocabulary | None, read: ReadOptions) -> CellView:
    """Read all cells of an AnnData, a file or a store; each of them gets a result.

    Raises
    ------
    InputError
        ``min_genes`` leaves out cells of an AnnData.
    """
    cells = open_data(data, vocabulary, read)
    if isinstance(data, AnnData) and len(cells) != data.n_obs:
        lost = data.n_obs - len(cells)
        found = f"{lost:,} of {data.n_obs:,} cells have fewer than {read.min_genes:,} expressed genes of the vocabulary"
        raise InputError(found, where="adata", fix="Leave them out of the AnnData first, or lower min_genes")
    return cells


def target_of(data: Data, cells: CellView, *, copy: bool) -> AnnData:
    """Return the AnnData to write a result into: the given one, a copy, or a new one without X."""
    if isinstance(data, AnnData):
        return writable(data, copy=copy)
    obs = cells.obs()
    obs.index = cells.index.astype(str)
    return AnnData(obs=obs)


def writable(adata: AnnData, *, copy: bool) -> AnnData:
    """Return a copy, or the given AnnData; a view of another becomes an AnnData of its own first, as in scanpy."""
    if copy:
        return copy_of(adata)
    if adata.is_view:
        adata._init_as_actual(copy_of(adata))
    return adata


def copy_of(adata: AnnData) -> AnnData:
    """Return a copy in memory."""
    return adata.to_memory(copy=True) if adata.isbacked else adata.copy()


@contextmanager
def shown(progress: Shown, cells: int, what: str) -> Iterator[Callable[[int], None] | None]:
    """Yield the progress function: the caller's, that of a progress bar, or one that does nothing."""
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield None
    else:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=cells)
            yield lambda done: bar.advance(task, done)
