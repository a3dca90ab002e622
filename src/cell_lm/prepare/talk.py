"""To whom a long preparation says what it does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Reporter(Protocol):
    """Takes notes and shows progress; the command line's messages are one."""

    def note(self, text: str) -> None:
        """Take a line."""

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Show progress; what it gives is told of each further part of ``total``."""


class SilentReporter:
    """Says nothing."""

    def note(self, text: str) -> None:
        """Leave it."""

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:  # noqa: ARG002
        """Leave it."""
        return nullcontext(lambda _: None)
