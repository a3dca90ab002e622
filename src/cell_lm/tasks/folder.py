"""The folder of an estimator: settings, arrays, and an encoder if it has one. Nothing that is read can execute.

``estimator.json`` holds the SHA-256 of every other file and of its own settings: damaged, edited or exchanged parts are
refused. The model's card, ``model/README.md``, is for people and may be edited or removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError

from cell_lm import model_folder
from cell_lm._version import __version__
from cell_lm.errors import ModelError
from cell_lm.files import JSON, atomic_directory, checksum_holds, refuse_to_replace, sha256, with_checksum, write_json
from cell_lm.model import CellLM
from cell_lm.reading import read_json_object, reason, refuse_other_format
from cell_lm.tasks.ready import ready_annotators
from cell_lm.tasks.reference import Reference

MANIFEST, ARRAYS, MODEL = "estimator.json", "arrays.safetensors", "model"
_CARD = f"{MODEL}/{model_folder.CARD}"
KIND: Literal["cell-lm estimator"] = "cell-lm estimator"
FORMAT = 2
"""Version of the folder's layout; a newer one is refused."""
_GENES, _EXPRESSION = "reference.genes", "reference.expression"
_AGAIN = "Copy the folder again, or fit the estimator anew"
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, eq=False)
class Content:
    """Content of a folder: an estimator's name, parameters, reference, fitted values, and its encoder."""

    estimator: str
    params: Mapping[str, JSON]
    reference: Reference
    values: Mapping[str, JSON]
    arrays: Mapping[str, NDArray[Any]]
    model: CellLM | None = None
    packaged: str | None = None
    """Name of the packaged model that the encoder is, to record it by name instead of copying it."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReferenceRecord(_Record):
    """What the estimator was fitted on; its genes are an array."""

    name: str
    label: str
    groups: str | None
    cells: int
    unlabelled: int
    vocabulary: Hash
    cut: bool = False


class PackagedModel(_Record):
    """The encoder of an estimator that comes with the package and is not copied."""

    name: str
    weights_sha256: Hash
    """SHA-256 of its file of weights."""


class Manifest(_Record):
    """``estimator.json``."""

    kind: Literal["cell-lm estimator"]
    format: int
    estimator: str
    """Name of the class."""
    cell_lm_version: str
    scikit_learn_version: str
    params: dict[str, Any]
    """Parameters of its constructor."""
    reference: ReferenceRecord
    values: dict[str, Any]
    """What the fit gave, besides arrays."""
    packaged_model: PackagedModel | None = None
    """The encoder, where it is a model of the package; otherwise it is the folder ``model/``, or there is none."""
    files: dict[str, Hash]
    """All other files of the folder but the model's card: path to SHA-256."""
    checksum: Hash
    """SHA-256 of all of the above; see :func:`cell_lm.files.with_checksum`."""


def write(path: Path, content: Content) -> None:
    """Write an estimator; an existing one is replaced, anything else is not.

    Raises
    ------
    InputError
        There is something other than an estimator at ``path``.
    ModelError
        The encoder is not the packaged model that it is to be recorded as.
    OutputError
        It could not be written; the previous content is intact.
    """
    refuse_to_replace(path, kind="an estimator", mark=MANIFEST, names={MANIFEST, ARRAYS, MODEL})
    packaged = _packaged(content)
    with atomic_directory(path) as folder:
        if content.model is not None and content.packaged is None:
            content.model.save_pretrained(folder / MODEL)
        arrays = {**content.arrays, _GENES: content.reference.genes}
        if content.reference.expression is not None:
            arrays[_EXPRESSION] = content.reference.expression
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        safetensors.numpy.save_file(contiguous, folder / ARRAYS)
        reference = {name: getattr(content.reference, name) for name in ReferenceRecord.model_fields}
        files = sorted(item for item in folder.rglob("*") if item.is_file() and item != folder / _CARD)
        settings: dict[str, JSON] = {
            "kind": KIND,
            "format": FORMAT,
            "estimator": content.estimator,
            "cell_lm_version": __version__,
            "scikit_learn_version": version("scikit-learn"),
            "params": dict(content.params),
            "reference": reference,
            "values": dict(content.values),
            "packaged_model": None if packaged is None else packaged.model_dump(),
            "files": {item.relative_to(folder).as_posix(): sha256(item) for item in files},
        }
        write_json(folder / MANIFEST, with_checksum(settings))


def read_manifest(path: Path) -> Manifest:
    """Read ``estimator.json``, and check it against its own hash.

    Raises
    ------
    ModelError
        It is missing, damaged, edited, not of an estimator, or of a newer version.
    """
    where = str(path / MANIFEST)
    if not (path / MANIFEST).is_file():
        if not path.exists() and str(path) in model_folder.packaged_models():
            fix = "Fit a classifier with it (cell-lm annotate fit), or name a ready one (cell-lm annotate list)"
            raise ModelError("it is a model of the package, not a classifier", where=str(path), fix=fix)
        found = f"it holds no estimator (no {MANIFEST})" if path.exists() else "it does not exist"
        packaged = ", ".join(ready_annotators())
        wrote = "cell-lm annotate, malignancy, sensitivity or response fit, or save(),"
        fix = f"Name the folder that {wrote} wrote, or an annotator of the package: {packaged}"
        raise ModelError(found, where=str(path), fix=fix)
    try:
        values = read_json_object(path / MANIFEST)
    except (OSError, ValueError) as error:
        raise ModelError(f"it cannot be read ({reason(error)})", where=where, fix=_AGAIN) from None
    if values.get("kind") != KIND:
        raise ModelError("it does not describe a cell-lm estimator", where=where, fix=_AGAIN)
    refuse_other_format(values.get("format"), FORMAT, where=where, error=ModelError, damaged=_AGAIN)
    if not checksum_holds(values):
        raise ModelError("its settings are not those of its checksum: damaged or edited", where=where, fix=_AGAIN)
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"it is damaged: '{key}' {first['msg']}", where=where, fix=_AGAIN) from None


def read_content(path: Path, manifest: Manifest) -> Content:
    """Read all parts of an estimator, after checking that they are intact and belong together.

    Raises
    ------
    ModelError
        A part is missing, damaged or from another estimator.
    """
    for name, expected in manifest.files.items():
        if name != _CARD:  # earlier versions hashed it
            _check(path / name, expected)
    model = None
    if any(name.startswith(f"{MODEL}/") for name in manifest.files):
        _check_presence(path / MODEL)
        model = CellLM.from_pretrained(path / MODEL)
    elif manifest.packaged_model is not None:
        model = _load_packaged(path, manifest.packaged_model)
    if model is not None and model.vocabulary.hash != manifest.reference.vocabulary:
        found = "it has another vocabulary than that of its model"
        raise ModelError(found, where=str(path / MANIFEST), fix=_AGAIN)
    arrays = _read_arrays(path / ARRAYS)
    with refusing(path):
        genes = arrays.pop(_GENES)
        if genes.ndim != 1 or genes.dtype != np.int64:
            raise ValueError("its genes are not whole numbers in a row")
        expression = arrays.pop(_EXPRESSION, None)
        if expression is not None and (expression.shape != genes.shape or expression.dtype != np.float32):
            raise ValueError("its expression does not fit its genes")
    reference = Reference(**manifest.reference.model_dump(), genes=genes, expression=expression)
    return Content(manifest.estimator, manifest.params, reference, manifest.values, arrays, model)


def _packaged(content: Content) -> PackagedModel | None:
    """Return the record of the packaged model that the encoder is, after comparing all its weights."""
    name, model = content.packaged, content.model
    if name is None or model is None:
        return None
    if name not in model_folder.packaged_models():
        found, fix = "it is no model of the package", f"Choose one of: {', '.join(model_folder.packaged_models())}"
        raise ModelError(found, where=name, fix=fix)
    theirs, ours = CellLM.from_pretrained(model_folder.find_packaged(name)).state_dict(), model.state_dict()
    if theirs.keys() != ours.keys() or any(not theirs[key].equal(ours[key].cpu()) for key in theirs):
        fix = "Save it with a copy of its encoder (leave packaged_model= out)"
        raise ModelError("the encoder is not this packaged model, or was trained further", where=name, fix=fix)
    return PackagedModel(name=name, weights_sha256=model_folder.weights_sha256(model_folder.find_packaged(name)))


def _load_packaged(path: Path, record: PackagedModel) -> CellLM:
    """Load the packaged model that an estimator was fitted with; another one of that name is refused."""
    where = str(path / MANIFEST)
    if record.name not in model_folder.packaged_models():
        found = f"its encoder is the packaged model '{record.name}', which this release does not have"
        raise ModelError(found, where=where, fix="Use the release it was made with, or fit the estimator anew")
    found_at = model_folder.find_packaged(record.name)
    if model_folder.weights_sha256(found_at) != record.weights_sha256:
        found = f"its encoder is another version of the packaged model '{record.name}' than that of this release"
        raise ModelError(found, where=where, fix="Use the release it was made with, or fit the estimator anew")
    return CellLM.from_pretrained(found_at)


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn inconsistent parts into a one-line error."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"its parts do not fit together ({reason(error)})", where=str(path), fix=_AGAIN) from None


def _check_presence(folder: Path) -> None:
    """Check before :meth:`CellLM.from_pretrained`, which would look for a missing folder on the hub."""
    for name in (model_folder.CONFIG, model_folder.WEIGHTS, model_folder.VOCABULARY):
        if not (folder / name).is_file():
            raise ModelError("it is missing", where=str(folder / name), fix=_AGAIN)


def _check(path: Path, expected: str) -> None:
    if not path.is_file():
        raise ModelError("it is missing", where=str(path), fix=_AGAIN)
    if sha256(path) != expected:
        found = f"its SHA-256 is not the one in {MANIFEST}: truncated, damaged or of another estimator"
        raise ModelError(found, where=str(path), fix=_AGAIN)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise ModelError("it is missing", where=str(path), fix=_AGAIN)
    try:
        return dict(safetensors.numpy.load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"it cannot be read ({reason(error)})", where=str(path), fix=_AGAIN) from None
