"""Failed writes as one-line errors, and one process at a time in a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from cell_lm import partials
from cell_lm.errors import TrainingError
from cell_lm.files import held


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failed write (disk full, quota, read-only) into one :class:`TrainingError` that names the path."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TrainingError(
            f"it could not be written ({reason})",
            where=str(path),
            fix="Make room on the disk and go on with --resume: the checkpoints written before are whole",
        ) from error


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock a run folder for this process."""
    found = "another process is training in this run folder"
    with held(folder, TrainingError(found, where=str(folder), fix="Wait for it, or stop it first")):
        yield


def remove_partial(folder: Path) -> int:
    """Remove partial files (``.*.partial``) that a killed process left in a folder; return how many there were."""
    left = [path for path in folder.glob(".*.partial") if path.is_dir() and not partials.is_written(path)]
    for path in left:
        partials.remove_partial(path)
    return len(left)
