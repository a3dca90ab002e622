"""The exception family: what was found, where, and what to do about it, in one line.

The command line prints ``str(error)`` and leaves with a non-zero exit; nobody should ever see a traceback for bad
input.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = [
    "CellLMError",
    "ConfigError",
    "CountsError",
    "GeneError",
    "InputError",
    "ModelError",
    "OtherRankError",
    "OutputError",
    "TrainingError",
]


class CellLMError(Exception):
    """Base of every error raised on purpose.

    Parameters
    ----------
    found
        What was found, with counts.
    where
        The file, layer, column or gene it was found in.
    fix
        What the user can do about it.
    """

    def __init__(self, found: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.found, self.where, self.fix = found, where, fix
        head = f"{where}: {found}" if where else found
        super().__init__(f"{head.rstrip('.')}. {fix.rstrip('.')}." if fix else head)

    def __reduce__(self) -> tuple[Callable[..., CellLMError], tuple[object, ...]]:
        """Let it travel between processes whole."""
        return _again, (type(self), self.found, self.where, self.fix)


def _again(kind: type[CellLMError], found: str, where: str | None, fix: str | None) -> CellLMError:
    error = kind.__new__(kind)
    CellLMError.__init__(error, found, where=where, fix=fix)
    return error


class InputError(CellLMError, ValueError):
    """A file, matrix or label column that cannot be used as it is."""


class CountsError(InputError):
    """A matrix that is not what it was said to be (counts, or the scale the user named)."""


class GeneError(InputError):
    """Gene names that do not fit the vocabulary."""


class ConfigError(CellLMError, ValueError):
    """A configuration that is inconsistent, or has an unknown key."""


class ModelError(CellLMError):
    """A model folder, checkpoint or classifier that is missing, incomplete or damaged."""


class TrainingError(CellLMError, RuntimeError):
    """A training that cannot go on."""


class OtherRankError(TrainingError):
    """Another process of the run has failed, and has said why; so this one ends, too.

    Parameters
    ----------
    rank
        The one that failed.
    message
        What it said.
    """

    def __init__(self, rank: int, message: str) -> None:
        super().__init__(f"rank {rank} stopped: {message}")


class OutputError(CellLMError, OSError):
    """A result that could not be written: the disk is full, read-only or fails. What was there before is whole.

    Attributes
    ----------
    errno, strerror
        What the system said of it, where it said anything.
    """

    def __str__(self) -> str:
        return str(self.args[0])
