"""What all tools share: what they refuse, how progress is shown, what is noted of a result."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import safetensors.torch
from anndata import AnnData
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cell_lm._version import __version__
from cell_lm.data.cells import CellData
from cell_lm.errors import InputError
from cell_lm.model import CellLM

Shown: TypeAlias = "bool | Callable[[int], None]"
_OURS = "cell_lm_version"
"""Key that marks entries of ``uns`` as ours."""


def weights_hash(model: CellLM) -> str:
    """Return the SHA-256 that the weights have as a file, the one in ``config.json`` of the model's folder."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return hashlib.sha256(safetensors.torch.save(tensors)).hexdigest()


def refuse_other_kinds(adata: object) -> None:
    """Raise :class:`InputError` for what is no AnnData."""
    if not isinstance(adata, AnnData):
        fix = "Read a file with anndata.read_h5ad(path) first"
        raise InputError(f"expected an AnnData, found {type(adata).__name__}", fix=fix)


def record_key(adata: AnnData, key_added: object, record: str) -> str:
    """Return ``record``, unless that would destroy an entry of ``uns`` that is somebody else's."""
    if not isinstance(key_added, str) or not key_added or not record:
        raise InputError(f"key_added is {key_added!r}", fix="Give it a name, as X_cell_lm")
    there = adata.uns.get(record)
    if there is not None and not (isinstance(there, dict) and _OURS in there):
        found = f"uns['{record}'], which is to describe the result, holds something else"
        raise InputError(found, where="adata", fix="Choose another key_added")
    return record


def refuse_lost_layer(adata: AnnData, key: str, layer: str | None) -> None:
    """Raise :class:`InputError` where writing ``layers[key]`` would destroy what is read, or what is not ours.

    Ours is a layer that ``uns[key]`` notes as written (``per_cell``).
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


def about(cells: CellData, model: CellLM) -> dict[str, Any]:
    """Return what is to be known of a result, in types that h5ad can hold."""
    config, audit = model.config, cells.audit
    return {
        _OURS: __version__,
        "model": f"{config.attention} attention, {config.layers} layers of width {config.width}",
        "weights_sha256": weights_hash(model),
        "vocabulary": model.vocabulary.hash,
        "genes_given": len(audit),
        "genes_used": audit.used,
        "genes_found": len(audit.found),
        "coverage": audit.coverage,
        "genes": audit.counts(),
        "scale": cells.scale,
        "evidence": cells.report.evidence if cells.report else "",
    }


def copy_of(adata: AnnData) -> AnnData:
    """Return a copy in memory."""
    return adata.to_memory(copy=True) if adata.isbacked else adata.copy()


@contextmanager
def shown(progress: Shown, cells: int, what: str) -> Iterator[Callable[[int], None] | None]:
    """Yield what is to be told of the cells done: the caller's function, a bar's, or nothing."""
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield None
    else:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=cells)
            yield lambda done: bar.advance(task, done)
