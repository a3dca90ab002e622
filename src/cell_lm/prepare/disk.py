"""Failed writes of a store as errors, and one process at a time in its folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cell_lm import partials
from cell_lm.errors import InputError
from cell_lm.files import held


class WriteError(InputError):
    """Nothing can be written: other sources would fail as well."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failed write (disk full, quota, read-only) into one :class:`WriteError` that names the path."""
    try:
        yield
    except OSError as error:
        found = f"it could not be written ({error.strerror or error})"
        fix = "Make room on the disk and run the same command again: what is finished stands, and it goes on"
        raise WriteError(found, where=str(path), fix=fix) from error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock the folder of a store for this process."""
    found = "another process is preparing a store in this folder"
    with held(folder, InputError(found, where=str(folder), fix="Wait for it, or stop it first")):
        yield


def remove_partial(folder: Path) -> None:
    """Remove partial files that a killed process left in a folder."""
    for path in folder.glob(".*.partial"):
        partials.remove_partial(path)
