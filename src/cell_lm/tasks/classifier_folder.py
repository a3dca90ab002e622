"""The files of a classifier: what it knows, its head and its encoder. Nothing that is read can execute.

``classifier.json`` names the SHA-256 of ``head.safetensors`` and of ``model/config.json``, and that one the hashes of
weights and vocabulary: a part of another classifier, or a damaged one, is found out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError

from cell_lm import model_folder
from cell_lm._version import __version__
from cell_lm.errors import InputError, ModelError
from cell_lm.evaluation.linear_head import LinearHead, Selection
from cell_lm.files import atomic_directory, refuse_to_replace, sha256, write_json
from cell_lm.model import CellLM
from cell_lm.tasks.annotator import Reference

MANIFEST, HEAD, MODEL = "classifier.json", "head.safetensors", "model"
KIND: Literal["cell-lm classifier"] = "cell-lm classifier"
FORMAT = 1
"""Version of the folder's layout; a newer one is refused."""
_AGAIN = "Copy the classifier's folder again, or fit it anew"


class _Manifest(BaseModel):
    """``classifier.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["cell-lm classifier"]
    format: int
    cell_lm_version: str
    scikit_learn_version: str
    name: str
    label: str
    groups: str | None
    cells_per_class: dict[str, int]
    unlabelled: int
    seed: int
    C: float
    temperature: float
    folds: int
    scores: list[tuple[float, float]]
    genes: int
    vocabulary: str
    head_sha256: str
    model_config_sha256: str


@dataclass(frozen=True, eq=False)
class Saved:
    """What a folder holds."""

    model: CellLM
    head: LinearHead
    reference: Reference
    seed: int


def write(path: Path, model: CellLM, head: LinearHead, reference: Reference, *, seed: int) -> None:
    """Write a classifier; one that is there is replaced, anything else is not."""
    refuse_to_replace(path, kind="a classifier", mark=MANIFEST, names={MANIFEST, HEAD, MODEL})
    with _writing(path), atomic_directory(path) as folder:
        model.save_pretrained(folder / MODEL)
        tensors: dict[str, NDArray[Any]] = {
            "coefficients": head.coefficients,
            "intercept": head.intercept,
            "mean": head.mean,
            "genes": reference.genes,
        }
        contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        safetensors.numpy.save_file(contiguous, folder / HEAD)
        manifest = _Manifest(
            kind=KIND,
            format=FORMAT,
            cell_lm_version=__version__,
            scikit_learn_version=version("scikit-learn"),
            name=reference.name,
            label=reference.label,
            groups=reference.groups,
            cells_per_class=reference.cells_per_class,
            unlabelled=reference.unlabelled,
            seed=seed,
            C=head.selection.C,
            temperature=head.selection.temperature,
            folds=head.selection.folds,
            scores=list(head.selection.scores),
            genes=len(reference.genes),
            vocabulary=reference.vocabulary,
            head_sha256=sha256(folder / HEAD),
            model_config_sha256=sha256(folder / MODEL / model_folder.CONFIG),
        )
        write_json(folder / MANIFEST, manifest.model_dump(mode="json"))


def read(path: Path) -> Saved:
    """Read a classifier, after checking that all parts are whole and of one another."""
    manifest = _read_manifest(path)
    _check(path / HEAD, manifest.head_sha256)
    _check(path / MODEL / model_folder.CONFIG, manifest.model_config_sha256)
    _check_presence(path / MODEL)
    model = CellLM.from_pretrained(path / MODEL)
    if model.vocabulary.hash != manifest.vocabulary:
        raise ModelError(f"names another vocabulary than that of its {MODEL}/", where=str(path / MANIFEST), fix=_AGAIN)
    head, genes = _read_head(path / HEAD, manifest, width=model.config.width, vocabulary=len(model.vocabulary))
    reference = Reference(
        name=manifest.name,
        label=manifest.label,
        groups=manifest.groups,
        cells_per_class=manifest.cells_per_class,
        unlabelled=manifest.unlabelled,
        genes=genes,
        vocabulary=manifest.vocabulary,
    )
    return Saved(model, head, reference, manifest.seed)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn a failed write (disk full, quota, read-only) into one line that names the path."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        fix = "Make room, or name another folder: what was there before is whole"
        raise InputError(f"it could not be written ({reason})", where=str(path), fix=fix) from error


def _read_manifest(path: Path) -> _Manifest:
    where = str(path / MANIFEST)
    if not (path / MANIFEST).is_file():
        found = f"holds no classifier (no {MANIFEST})" if path.exists() else "does not exist"
        fix = "Name the folder that cell-lm annotate fit or CellTypeClassifier.save wrote"
        raise ModelError(found, where=str(path), fix=fix)
    try:
        values = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot be read as JSON ({type(error).__name__})", where=where, fix=_AGAIN) from None
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise ModelError("does not describe a cell-lm classifier", where=where, fix=_AGAIN)
    made = values.get("format")
    if isinstance(made, int) and made > FORMAT:
        found = f"has format {made}, this is cell-lm {__version__} which reads up to {FORMAT}"
        raise ModelError(found, where=where, fix="Upgrade cell-lm")
    try:
        return _Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"is damaged: '{key}' {first['msg']}", where=where, fix=_AGAIN) from None


def _check_presence(folder: Path) -> None:
    """Look before :meth:`CellLM.from_pretrained` does: what it does not find here, it might look for on the hub."""
    for name in (model_folder.CONFIG, model_folder.WEIGHTS, model_folder.VOCABULARY):
        if not (folder / name).is_file():
            raise ModelError("is missing", where=str(folder / name), fix=_AGAIN)


def _check(path: Path, expected: str) -> None:
    if not path.is_file():
        raise ModelError("is missing", where=str(path), fix=_AGAIN)
    if sha256(path) != expected:
        found = f"its SHA-256 is not the one that {MANIFEST} names: truncated, damaged or of another classifier"
        raise ModelError(found, where=str(path), fix=_AGAIN)


def _read_head(path: Path, manifest: _Manifest, *, width: int, vocabulary: int) -> tuple[LinearHead, NDArray[np.int64]]:
    classes = tuple(manifest.cells_per_class)
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "coefficients": ((len(classes), width), np.float64),
        "intercept": ((len(classes),), np.float64),
        "mean": ((width,), np.float64),
        "genes": ((manifest.genes,), np.int64),
    }
    try:
        tensors = safetensors.numpy.load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"cannot be read ({error})", where=str(path), fix=_AGAIN) from None
    for name, (shape, dtype) in shapes.items():
        found = tensors.get(name)
        if found is None or found.shape != shape or found.dtype != dtype or not np.isfinite(found).all():
            raise ModelError(f"its '{name}' does not fit {len(classes)} classes", where=str(path), fix=_AGAIN)
    genes = tensors["genes"]
    if (
        len(classes) < 2
        or list(classes) != sorted(classes)
        or (len(genes) and not 0 <= genes.min() <= genes.max() < vocabulary)
    ):
        raise ModelError("is not what its manifest describes", where=str(path), fix=_AGAIN)
    selection = Selection(manifest.C, manifest.temperature, manifest.folds, tuple(manifest.scores))
    head = LinearHead(classes, tensors["coefficients"], tensors["intercept"], tensors["mean"], selection)
    return head, genes
