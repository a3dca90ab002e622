"""Output paths: refused before the work starts, not after it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from cell_lm.errors import InputError
from cell_lm.files import refuse_special_file, refuse_to_overwrite, refuse_to_replace, refuse_unwritable

_FOLDERS = {
    "a store": ("manifest.json", "shards"),
    "a model": ("config.json", "model.safetensors"),
    "a checkpoint": ("manifest.json", "optimizer.safetensors"),
    "an estimator": ("estimator.json", "arrays.safetensors"),
}
"""File that marks each kind of folder; every file in such a folder belongs to it."""
_RUN = ("config.json", "checkpoints")
_OF_A_RUN = {"config.json", "data.json", "log.jsonl", "command.txt", "tensorboard", "checkpoints", "model"} | {
    "report.html",
    "features.safetensors",
    "vectors.safetensors",
}
"""Names in a run folder that belong to the run; other files may be in the folder, too."""


TABLES = (".csv", ".parquet")
"""Suffixes of tables."""


def refuse_output(
    path: Path, *, force: bool, inputs: Sequence[Path | str | None] = (), own: str = "", option: str = "--out"
) -> None:
    """Refuse a path that cannot, or must not, be written to.

    Parameters
    ----------
    path
        File or folder to write.
    force
        Whether an existing one may be replaced.
    inputs
        Input paths, which are never replaced, not even through a symbolic or hard link.
    own
        Name of the file of a run that this verb writes.
    option
        Option that names the path, for messages.

    Raises
    ------
    InputError
        It already exists, is an input or belongs to a folder of cell-lm, is a device or a pipe, or its folder cannot
        be written to.
    """
    other = f"Choose another {option}"
    for source in inputs:
        _refuse_input(path, source, other)
    refuse_special_file(path)
    if path.is_symlink() and not path.exists():
        raise InputError("it is a symbolic link that leads nowhere", where=str(path), fix=other)
    _refuse_folders_of_ours(path, own, other)
    refuse_to_overwrite(path, force=force, option=option)
    refuse_unwritable(path, option)


def refuse_output_file(
    path: Path,
    *,
    force: bool,
    inputs: Sequence[Path | str | None] = (),
    suffix: str = "",
    own: str = "",
    option: str = "--out",
) -> None:
    """Refuse a path for a file, or a suffix of another format; see :func:`refuse_output`."""
    if path.is_dir():
        raise InputError("it is a folder", where=str(path), fix="Name the file to write")
    if suffix and path.suffix and path.suffix.lower() != suffix:
        found = f"a {suffix[1:]} file is written, and its name would end in {path.suffix}"
        raise InputError(found, where=str(path), fix=f"Name it {path.with_suffix(suffix).name}")
    refuse_output(path, force=force, inputs=inputs, own=own, option=option)


def refuse_table(path: Path, *, force: bool, inputs: Sequence[Path | str | None] = (), option: str = "--out") -> None:
    """Refuse a path for a table unless its name ends in .csv or .parquet; see :func:`refuse_output`."""
    if path.suffix.lower() not in TABLES:
        found = f"its name ends in {path.suffix or 'no suffix'}, which is no format of a table"
        raise InputError(found, where=str(path), fix=f"Name it {path.stem}.csv or {path.stem}.parquet")
    refuse_output_file(path, force=force, inputs=inputs, option=option)


def refuse_output_folder(
    path: Path,
    *,
    force: bool,
    inputs: Sequence[Path | str | None] = (),
    kind: str,
    mark: str,
    names: AbstractSet[str],
) -> None:
    """Refuse a path for a folder; only a folder of the same kind may be replaced.

    See :func:`refuse_output` and :func:`cell_lm.files.refuse_to_replace`.
    """
    if not force or not path.is_dir():
        refuse_output(path, force=force, inputs=inputs)
    refuse_to_replace(path, kind=kind, mark=mark, names=names)


def refuse_estimator_folder(path: Path, *, force: bool, inputs: Sequence[Path | str | None] = ()) -> None:
    """Refuse a path for the folder of an estimator; see :func:`refuse_output_folder`."""
    from cell_lm.tasks import folder

    names = {folder.MANIFEST, folder.ARRAYS, folder.MODEL}
    refuse_output_folder(path, force=force, inputs=inputs, kind="an estimator", mark=folder.MANIFEST, names=names)


def refuse_key(key: str, *, option: str = "--key") -> None:
    """Refuse a key that cannot be read back from an h5ad file.

    Raises
    ------
    InputError
        It is empty, a path (HDF5 takes ``a/b`` for ``b`` in a group ``a``), or contains unprintable characters.
    """
    if key.strip(".") == "" or "/" in key or key != key.strip() or not key.isprintable():
        fix = "Name it by letters, digits and underscores, such as X_cell_lm"
        raise InputError(f"'{key}' cannot be the name of an array in an h5ad file", where=option, fix=fix)


def _refuse_input(path: Path, source: Path | str | None, other: str) -> None:
    if source is None or not os.path.lexists(path):
        return
    if _is_same(path, source):
        raise InputError("it is the input itself", where=str(path), fix=other)
    if Path(source).is_dir() and any(_is_same(parent, source) for parent in path.absolute().parents):
        raise InputError("it belongs to the input", where=str(path), fix=other)


def _is_same(path: Path, other: Path | str) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def _refuse_folders_of_ours(path: Path, own: str, other: str) -> None:
    """Refuse a path inside a model, store, classifier or checkpoint, and files of a run."""
    place = Path(os.path.realpath(path))
    for folder in place.parents:
        for kind, marks in _FOLDERS.items():
            if all((folder / mark).exists() for mark in marks):
                raise InputError(f"{folder} is {kind}, whose files are not replaced", where=str(path), fix=other)
        name = place.relative_to(folder).parts[0]
        if all((folder / mark).exists() for mark in _RUN) and name in _OF_A_RUN and name != own:
            raise InputError(f"it belongs to the run {folder}", where=str(path), fix=other)
