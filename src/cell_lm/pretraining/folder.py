"""The run folder of pretraining: settings that may change on resume, and the comparison of data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cell_lm.config import GENE_VECTORS, PretrainConfig
from cell_lm.engine.folder import RunFolder, RunKind
from cell_lm.files import JSON

MODEL = "model"
"""The model folder of the last checkpoint, in the run folder."""
INITIAL, VECTORS = "initial", "gene_vectors"
"""Keys in ``data.json`` of the initial model of a run, and of the file of its gene vectors."""


def run_folder(path: Path) -> RunFolder[PretrainConfig]:
    """Return a run folder of pretraining."""
    return RunFolder(path, KIND)


def data_difference(before: Mapping[str, JSON], now: Mapping[str, JSON]) -> str | None:
    """Return how the data of a run (``data.json``) and the given data differ; None if they are the same.

    Content is compared, not file names.
    """
    if before.get("vocabulary") != now["vocabulary"]:
        return "the cells are aligned to another vocabulary than the run's"
    for key, what in ((VECTORS, "the gene vectors"), (INITIAL, "the weights")):
        was, is_ = _content(before.get(key)), _content(now.get(key))
        if was[1:] != is_[1:]:
            return f"{what} of '{is_[0]}' are not those that the run was begun with, of '{was[0]}'"
    return _list_difference(before, now, "stores") or _list_difference(before, now, "datasets")


def _list_difference(before: Mapping[str, JSON], now: Mapping[str, JSON], key: str) -> str | None:
    old, new = ([_content(one) for one in _list(values, key)] for values in (before, now))
    if len(old) != len(new):
        return f"the run was begun on {len(old)} {key}, and {len(new)} are given"
    for was, is_ in zip(old, new, strict=True):
        if was[1:] != is_[1:]:
            return f"'{is_[0]}' ({is_[1]} cells) is not what the run was begun on: '{was[0]}' ({was[1]} cells)"
    return None


def _list(values: Mapping[str, JSON], key: str) -> list[JSON]:
    described = values.get(key)
    return described if isinstance(described, list) else []


def _content(described: JSON) -> tuple[JSON, JSON, JSON]:
    """Return name, cells and hash of a dataset or file."""
    values = described if isinstance(described, dict) else {}
    return values.get("name"), values.get("cells"), values.get("hash")


KIND = RunKind(
    config=PretrainConfig,
    steps="training.steps",
    may_change=frozenset(
        {
            "training.memory",
            "training.token_budget",
            "training.retain_graphs",
            "training.checkpoint_every",
            "training.keep_checkpoints",
            "training.sharding",
            "training.timeout",
            "data.prefetch",
        }
    ),
    data_difference=data_difference,
    files={"training.gene_vectors": GENE_VECTORS},
    labels=frozenset({"preset"}),
)
"""Settings that may change limit memory and disk, and change results by no more than rounding."""
