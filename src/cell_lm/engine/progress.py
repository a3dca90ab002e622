"""Progress of a run: a bar on a terminal, a plain line from time to time elsewhere, or nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cell_lm.terminal import one_line

SECONDS_BETWEEN_LINES = 15.0


class Display(Protocol):
    """Shows the progress of a run."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def step(self, done: int, described: str) -> None:
        """Show the number of finished steps, and the description of the last one."""

    def note(self, message: str) -> None:
        """Show a message."""


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing."""

    def step(self, done: int, described: str) -> None:
        """Do nothing."""

    def note(self, message: str) -> None:
        """Do nothing."""


class Lines(Silent):
    """A plain line every so many seconds, and at the first and the last step.

    Parameters
    ----------
    console
        Output.
    steps, done
        Steps of the run, and those already done.
    clock
        Returns the time in seconds.
    """

    def __init__(self, console: Console, steps: int, done: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.steps, self.clock = console, steps, clock
        self.first, self.began = done, clock()
        self.shown = -math.inf

    def step(self, done: int, described: str) -> None:
        """Print a line if enough time has passed."""
        now = self.clock()
        if now - self.shown < SECONDS_BETWEEN_LINES and done < self.steps:
            return
        self.shown = now
        left = timedelta(seconds=round((now - self.began) / (done - self.first) * (self.steps - done)))
        remaining = f", {left} left" if done < self.steps else ""
        self.note(f"step {done}/{self.steps}: {described}{remaining}")

    def note(self, message: str) -> None:
        """Print a line."""
        self.console.print(one_line(message), soft_wrap=True, highlight=False, markup=False)


class Bar(Lines):
    """A progress bar with the description of the last step and the remaining time."""

    def __init__(self, console: Console, steps: int, done: int) -> None:
        super().__init__(console, steps, done)
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self.bar = Progress(*columns, console=console, speed_estimate_period=60)
        self.task = self.bar.add_task("starting", total=steps, completed=done)

    def __enter__(self) -> Bar:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the bar and keep it on the screen."""
        self.bar.stop()

    def step(self, done: int, described: str) -> None:
        """Advance the bar."""
        self.bar.update(self.task, completed=done, description=described)


def make_display(steps: int, done: int, *, progress: bool, console: Console | None = None) -> Display:
    """Return a bar on a terminal, lines if the output is no terminal, nothing if ``progress`` is off."""
    console = console or Console(stderr=True)
    if not progress:
        return Silent()
    return Bar(console, steps, done) if console.is_terminal else Lines(console, steps, done)
