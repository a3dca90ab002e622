"""Receivers of notes and progress of a long preparation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Reporter(Protocol):
    """Receives notes and shows progress, such as the messages of the command line."""

    def note(self, text: str) -> None:
        """Receive a line."""

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Show progress; the context gives a function that advances it by a part of ``total``."""


class SilentReporter:
    """Ignores notes and progress."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:  # noqa: ARG002
        """Do nothing."""
        return nullcontext(lambda _: None)
