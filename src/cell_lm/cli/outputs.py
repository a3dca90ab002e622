"""Where results go: refused before the work begins rather than after it."""

from __future__ import annotations

import os
from pathlib import Path

from cell_lm.errors import InputError
from cell_lm.files import refuse_to_overwrite


def refuse_output(path: Path, *, force: bool, source: Path | None = None) -> None:
    """Refuse a place that cannot, or must not, be written to.

    Parameters
    ----------
    path
        A file or folder to be.
    force
        Whether one that is there may be replaced.
    source
        The input, which is never replaced.

    Raises
    ------
    InputError
        It is there already, is the input itself, or its folder cannot be written to.
    """
    if source is not None and path.resolve() == source.resolve():
        raise InputError("it is the input itself", where=str(path), fix="Choose another --out")
    refuse_to_overwrite(path, force=force)
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder", where=str(path), fix="Choose another --out")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written to", where=str(path), fix="Choose another --out")


def refuse_output_file(path: Path, *, force: bool, source: Path | None = None) -> None:
    """Refuse a place for a file; see :func:`refuse_output`."""
    if path.is_dir():
        raise InputError("it is a folder", where=str(path), fix="Name the file to write")
    refuse_output(path, force=force, source=source)
