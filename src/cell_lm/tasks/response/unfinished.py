"""Folder of an unfinished fit: the parts that are done, so that an interrupted fit goes on where it was.

``unfinished.json`` holds what the fit was begun with (settings, hashes of the data, versions), and SHA-256 and plain
values of every part; ``parts/`` holds their arrays. A part counts once it is in ``unfinished.json``, which is replaced
in one step. Nothing that is read can execute.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from cell_lm._version import __version__
from cell_lm.errors import InputError, ModelError
from cell_lm.files import (
    JSON,
    atomic_directory,
    atomic_file,
    checksum_holds,
    held,
    naming_failed_writes,
    refuse_to_replace,
    sha256,
    with_checksum,
    write_json,
)
from cell_lm.reading import read_json_object, reason, refuse_other_format
from cell_lm.tasks.estimator import Fitted
from cell_lm.tasks.response.drugs import Structures

MANIFEST, PARTS = "unfinished.json", "parts"
KIND = "cell-lm unfinished fit"
FORMAT = 1
"""Version of the folder's layout."""
VERSIONED = ("numpy", "scipy", "scikit-learn", "torch")
"""Packages whose version may change a result in its last digits."""
_ANEW = "begin anew: remove the folder (--force without --resume)"


class Parts:
    """Computes every part of a fit, and keeps none."""

    def part(self, name: str, compute: Callable[[], Fitted]) -> Fitted:  # noqa: ARG002
        """Return a part of the fit.

        Parameters
        ----------
        name
            Of the part, as a file may be called.
        compute
            Returns it; its arrays are made contiguous, as they are when they come from a file.
        """
        values, arrays = compute()
        return Fitted(values, {key: np.ascontiguousarray(array) for key, array in arrays.items()})


class KeptParts(Parts):
    """Keeps the parts that are done in a folder, and does not compute them again.

    Parameters
    ----------
    folder
        The folder; it exists.
    begun
        What the fit was begun with.
    done
        Record of each part that is done, by name.
    """

    def __init__(self, folder: Path, begun: Mapping[str, JSON], done: Mapping[str, JSON]) -> None:
        self.folder, self.begun, self.done = folder, begun, dict(done)

    def part(self, name: str, compute: Callable[[], Fitted]) -> Fitted:
        """Return a part that is done, or compute and keep it."""
        if name in self.done:
            return self._read(name)
        made = super().part(name, compute)
        path = self._path(name)
        with atomic_file(path) as temporary:
            safetensors.numpy.save_file(dict(made.arrays), temporary)
        self.done[name] = {"sha256": sha256(path), "values": dict(made.values)}
        _write_manifest(self.folder, self.begun, self.done)
        return made

    def _read(self, name: str) -> Fitted:
        path, record = self._path(name), self.done[name]
        try:
            if not isinstance(record, dict) or sha256(path) != record["sha256"]:
                raise ValueError(f"its SHA-256 is not the one in {MANIFEST}")
            return Fitted(dict(record["values"]), dict(safetensors.numpy.load_file(path)))  # type: ignore[arg-type]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise _damaged(path, reason(error)) from None

    def _path(self, name: str) -> Path:
        return self.folder / PARTS / f"{name}.safetensors"


def begun_with(
    settings: Mapping[str, JSON],
    names: Mapping[str, list[str]],
    features: NDArray[np.float64],
    responses: NDArray[np.float64],
    structures: Structures | None,
) -> dict[str, JSON]:
    """Return what a fit is begun with: settings, hashes of the data, and versions.

    Parameters
    ----------
    settings
        Parameters of the regressor.
    names
        Names of the lines and of the drugs.
    features, responses, structures
        What the model is fitted on.
    """
    drawn: list[NDArray[Any]] = [] if structures is None else [structures.fingerprints, structures.descriptors]
    for graph in () if structures is None else structures.graphs:
        drawn += [graph.atoms, graph.edges, graph.bonds]
    data: dict[str, JSON] = {what: _hash([np.array(each, np.str_)]) for what, each in names.items()}
    data |= {"expression": _hash([features]), "responses": _hash([responses]), "structures": _hash(drawn)}
    versions: dict[str, JSON] = {"cell-lm": __version__, **{name: version(name) for name in VERSIONED}}
    return {"settings": dict(settings), "data": data, "versions": versions}


def _hash(arrays: list[NDArray[Any]]) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


@contextmanager
def keep_parts(folder: Path, begun: Mapping[str, JSON], *, resume: bool) -> Iterator[KeptParts]:
    """Keep the parts of a fit in a folder while it runs; another process cannot.

    Parameters
    ----------
    folder
        The folder; it stays when the fit is done.
    begun
        Of :func:`begun_with`.
    resume
        Go on with the parts that are in the folder; if there is none, the fit is begun.

    Raises
    ------
    InputError
        The folder exists and ``resume`` is not set; or its fit was begun with something else; or another process
        fits in it.
    ModelError
        It is damaged.
    OutputError
        A part could not be written; the parts before it are whole.
    """
    refuse_unfinished(folder, resume=resume)
    if not (folder / MANIFEST).exists():
        with atomic_directory(folder) as fresh:
            (fresh / PARTS).mkdir()
            _write_manifest(fresh, begun, {})
    with held(folder, _used(folder)):
        manifest = _read_manifest(folder)
        different = _difference(manifest["begun"], begun)
        if different is not None:
            fix = f"Give what it was begun with, or {_ANEW}"
            raise InputError(f"the unfinished fit in it {different}", where=str(folder), fix=fix)
        yield KeptParts(folder, begun, manifest["parts"])


def refuse_unfinished(folder: Path, *, resume: bool) -> None:
    """Refuse a folder that holds an unfinished fit unless it is to go on, and one that holds anything else."""
    refuse_to_replace(folder, kind="an unfinished fit", mark=MANIFEST, names={MANIFEST, PARTS})
    if (folder / MANIFEST).exists() and not resume:
        found = f"it holds a fit that was not finished ({parts_done(folder)} parts are done)"
        raise InputError(found, where=str(folder), fix=f"Go on with it by resume=True (--resume), or {_ANEW}")


def parts_done(folder: Path) -> int:
    """Return the number of parts that are done in a folder; 0 without one.

    Raises
    ------
    ModelError
        The folder is damaged.
    """
    return len(_read_manifest(folder)["parts"]) if (folder / MANIFEST).exists() else 0


def discard(folder: Path) -> None:
    """Remove the folder of an unfinished fit, if there is one.

    Raises
    ------
    InputError
        It holds something else, or another process is fitting in it.
    """
    refuse_to_replace(folder, kind="an unfinished fit", mark=MANIFEST, names={MANIFEST, PARTS})
    if folder.exists():
        with naming_failed_writes(folder), held(folder, _used(folder)):
            shutil.rmtree(folder)


def _used(folder: Path) -> InputError:
    found = "another process is fitting in this folder"
    return InputError(found, where=str(folder), fix="Wait for it, or stop it first")


def _write_manifest(folder: Path, begun: Mapping[str, JSON], done: Mapping[str, JSON]) -> None:
    settings: dict[str, JSON] = {"kind": KIND, "format": FORMAT, "begun": dict(begun), "parts": dict(done)}
    write_json(folder / MANIFEST, with_checksum(settings))


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        values = read_json_object(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, reason(error)) from None
    refuse_other_format(values.get("format"), FORMAT, where=str(path), error=ModelError, damaged=_ANEW.capitalize())
    if values.get("kind") != KIND or not checksum_holds(values):
        raise _damaged(path, "its values are not those of its checksum")
    return values


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(f"it is damaged ({why})", where=str(path), fix=_ANEW.capitalize())


def _difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return how what a fit was begun with differs from what is given now; None if it does not."""
    for kind in ("settings", "versions"):
        old, new = was[kind], now[kind]
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                return f"was begun with {key}={old.get(key)!r}, not {new.get(key)!r}"
    other = [key for key in now["data"] if was["data"].get(key) != now["data"][key]]
    return f"was begun with other {' and '.join(other)}" if other else None
