"""Output of the command line: results to standard output, notes, progress and one-line errors to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cell_lm.terminal import escaped, one_line

if TYPE_CHECKING:
    import typer


_NARROW = 12
"""Columns of text are not made narrower than this; a table that needs more than the terminal has is wider than it."""
_PIPED_WIDTH = 1_000
"""Width of tables written to a file or a pipe, so that they are not wrapped at a terminal's width."""


class _Stream(Console):
    """A console that neither wraps lines nor parses names as markup, and raises on a closed pipe."""

    def __init__(self, *, stderr: bool) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)
        if not self.is_terminal:
            self.width = _PIPED_WIDTH

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def rank() -> int:
    """Return the number of this process among those that torchrun or accelerate launched; 0 for a single process."""
    value = os.environ.get("RANK", "0")
    return int(value) if value.isdecimal() else 0


def as_json(value: object) -> str:
    """Return a value as indented JSON in which no character is invisible."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "\n".join(escaped(line) for line in text.split("\n"))


def say_error(message: str) -> None:
    """Print ``error: ...`` on standard error, in one line; a rank other than 0 adds its number."""
    who = f"rank {rank()}: " if rank() else ""
    _Stream(stderr=True).print(Text.assemble(who, ("error: ", "bold red"), one_line(message)))


class Messages:
    """The output of a verb.

    Parameters
    ----------
    quiet
        Print no notes and no progress.
    command
        The command line, for records and advice.
    """

    def __init__(self, *, quiet: bool = False, command: str = "cell-lm") -> None:
        self.command = command
        self.silent = rank() > 0
        self.quiet = quiet or self.silent
        self._out, self._err = _Stream(stderr=False), _Stream(stderr=True)

    def result(self, text: str = "", *, style: str = "") -> None:
        """Print a line on standard output."""
        if not self.silent:
            self._out.print(Text(escaped(text), style=style))

    def json(self, value: object) -> None:
        """Print a value as JSON on standard output."""
        if not self.silent:
            self._out.print(Text(as_json(value)))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int = 0) -> None:
        """Print a table on standard output, its last ``numbers`` columns flush right."""
        if self.silent:
            return
        columns = [[one_line(cell) for cell in column] for column in zip(header, *rows, strict=True)]
        self._out.print(_table(columns, numbers, self._out))

    def note(self, text: str, *, indent: int = 0) -> None:
        """Print a line on standard error, unless quiet."""
        if not self.quiet:
            self._err.print(Text(" " * indent + one_line(text), style="dim"))

    def warn(self, text: str) -> None:
        """Print a warning on standard error in one line, unless quiet."""
        if not self.quiet:
            show_warning(text)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar on a terminal; yields a function that advances it by a part of ``total``."""
        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._err,
            transient=True,
        )
        shown = not self.quiet and self._err.is_terminal
        with bar if shown else nullcontext():
            task = bar.add_task(one_line(what), total=total)
            yield lambda done: bar.advance(task, done)


def _table(columns: list[list[str]], numbers: int, console: Console) -> Table:
    """Return a table in which numbers are not wrapped, and names only where the terminal is too narrow."""
    texts, terminal = len(columns) - numbers, console.is_terminal
    tight = _width([_widest(column) for column in columns], gap=3) > console.width
    if tight:
        columns = columns[:texts] + [[column[0].replace(" ", "\n"), *column[1:]] for column in columns[texts:]]
    widths = [_widest(column) for column in columns]
    least = [min(width, _NARROW) for width in widths[:texts]] + widths[texts:]
    needed = _width(least, gap=2)
    table = Table(
        box=box.SIMPLE_HEAD if terminal else None,
        padding=(0, 1, 0, 0) if terminal and tight else (0, 1),
        pad_edge=False,
        show_edge=False,
        width=needed if needed > console.width else None,
    )
    for place, ((heading, *_), width) in enumerate(zip(columns, least, strict=True)):
        right = place >= texts
        justify: JustifyMethod = "right" if right else "left"
        table.add_column(Text(heading), justify=justify, no_wrap=right, min_width=width, overflow="fold")
    for row in zip(*(column[1:] for column in columns), strict=True):
        table.add_row(*map(Text, row))
    return table


def _widest(column: Sequence[str]) -> int:
    return max(cell_len(line) for cell in column for line in cell.split("\n"))


def _width(widths: Sequence[int], *, gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def messages(context: typer.Context) -> Messages:
    """Return the messages of this context's verb."""
    return context.find_object(Messages) or Messages()


def show_coverage(about: Mapping[str, Any], says: Messages) -> None:
    """Print the genes a result is based on, from its record in ``uns``; nothing for cells of a store."""
    if "genes_found" not in about:
        return
    found, fraction, given = int(about["genes_found"]), float(about["coverage"]), int(about["genes_given"])
    if "genes_of_fit" in about:
        says.result(f"{int(about['genes_of_fit']):,} of {given:,} genes used: those of the fit (--genes-of)")
        return
    says.result(f"{int(about['genes_used']):,} of {given:,} genes used, {found:,} ({fraction:.1%}) of the vocabulary")


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning on standard error in one line."""
    if not rank():
        _Stream(stderr=True).print(Text.assemble(("warning: ", "bold yellow"), one_line(str(message))))


def showing_each_once() -> Callable[..., None]:
    """Return :func:`show_warning` for one command: what is warned of at several places is printed once."""
    told: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        if str(message) not in told:
            told.add(str(message))
            show_warning(message)

    return show


def survive_any_text() -> None:
    """Escape characters that the terminal's encoding lacks, instead of failing on them."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
