"""The command ``cell-lm``: parsing only. Each verb has one module; the work is done in the layers below.

Exit codes: 0 done; 1 an input or a model that cannot be used, one line says why; 2 an invalid command line;
70 a fault of cell-lm itself; 130 and 143 interrupted by SIGINT and SIGTERM; 141 the output pipe was closed.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from cell_lm._version import __version__
from cell_lm.cli import (
    adapt,
    annotate,
    check,
    demo,
    download,
    embed,
    explore,
    genes,
    inspect,
    malignancy,
    prepare,
    pretrain,
    report,
    response,
    sensitivity,
)
from cell_lm.cli.console import Messages, say_error, showing_each_once, survive_any_text
from cell_lm.cli.kernels import keep_few_kernels
from cell_lm.cli.threads import sleep_when_idle
from cell_lm.errors import CellLMError, OtherRankError

FAILED, MISUSED, FAULT, INTERRUPTED, TERMINATED, READER_GONE = 1, 2, 70, 130, 143, 141
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""The ``UsageError`` of click, wherever this version of typer keeps it."""

_ANYWHERE = ("--quiet", "-q", "--debug")
"""Options of every verb, accepted at any position."""

_EXAMPLES = """[bold]From cells to cell types[/bold]

  cell-lm demo                                   [dim]# every step once, on real cells[/dim]
  cell-lm download pbmc3k --out data             [dim]# public cells, by name[/dim]
  cell-lm check my.h5ad                          [dim]# can it be used?[/dim]
  cell-lm prepare a.h5ad b.h5ad --out store      [dim]# many files, larger than memory[/dim]
  cell-lm inspect store                          [dim]# what is in it[/dim]
  cell-lm pretrain a.h5ad b.h5ad --out run       [dim]# a model of your own cells[/dim]
  cell-lm genes similar CD3D                     [dim]# nearest gene vectors[/dim]
  cell-lm adapt my.h5ad --model small --out mine [dim]# a ready model, fit to your cells[/dim]
  cell-lm embed my.h5ad --model mine             [dim]# adds obsm X_cell_lm[/dim]
  cell-lm annotate predict my.h5ad --model blood [dim]# a ready annotator[/dim]
  cell-lm explore my.cell_lm.h5ad                [dim]# a page to look at the cells with the mouse[/dim]
  cell-lm annotate fit ref.h5ad --label cell_type --model run --out ann
  cell-lm annotate predict my.h5ad --model ann   [dim]# adds obs cell_lm_label[/dim]
  cell-lm annotate explain my.h5ad --model ann --out why.csv
  cell-lm malignancy fit ref.h5ad --malignancy-column malignant --groups donor --out mal
  cell-lm malignancy predict my.h5ad --model mal [dim]# tumour or normal[/dim]
  cell-lm sensitivity fit my.h5ad --label response --out sens      [dim]# some cells labelled[/dim]
  cell-lm response fit lines.h5ad --responses gdsc2.csv --expression rma --out gdsc2
  cell-lm response predict my.h5ad --model gdsc2 [dim]# drugs for each line, with intervals[/dim]

[dim]Results go to standard output; notes and progress to standard error.
See cell-lm VERB --help for the options of a verb.[/dim]"""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cell-lm {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print results and errors only, no notes or progress. With any verb.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error. With any verb.")] = False,
) -> None:
    del version, quiet, debug  # the callback and main act on them


def build_app() -> typer.Typer:
    """Return the command with all its verbs."""
    settings = {"help_option_names": ["--help", "-h"]}
    app = typer.Typer(
        name="cell-lm",
        help="A single-cell language model for AnnData: embed and annotate cells by the packaged model, adapt it to "
        "your cells, or pretrain one on normal and cancer cells.",
        epilog=_EXAMPLES,
        add_completion=False,
        context_settings=settings,
        rich_markup_mode="rich",
    )
    app.callback()(_root)
    before = (demo, download, check, prepare, inspect, genes, pretrain, adapt, embed, annotate)
    for verb in (*before, malignancy, sensitivity, response, explore, report):
        verb.register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    arguments
        Words after ``cell-lm``; default: those of the process.
    """
    sleep_when_idle()
    keep_few_kernels()
    code = _guarded(list(sys.argv[1:] if arguments is None else arguments))
    _skip_teardown_of_ranks(code)
    return code


def _guarded(words: list[str]) -> int:
    debug = "--debug" in _split(words)[0]
    survive_any_text()
    try:
        with _orderly_sigterm(), warnings.catch_warnings():
            # Cells and genes are never looked up by name here, so repeated names do no harm.
            warnings.filterwarnings("ignore", "(Observation|Variable) names are not unique", UserWarning)
            if not debug:
                warnings.showwarning = showing_each_once()
            code = _run(words)
        sys.stdout.flush()
        return code
    except (Exception, KeyboardInterrupt) as error:  # every error ends in one line
        if debug:
            traceback.print_exc()
        return _explain(error)


def _run(words: list[str]) -> int:
    anywhere, rest = _split(words)
    quiet = "--quiet" in anywhere or "-q" in anywhere
    says = Messages(quiet=quiet, command=shlex.join(["cell-lm", *words]))
    command = typer.main.get_command(build_app())
    try:
        with command.make_context("cell-lm", [*anywhere, *(rest or ["--help"])], obj=says) as context:
            return int(command.invoke(context) or 0)
    except typer.Exit as leave:
        return leave.exit_code


def _skip_teardown_of_ranks(code: int) -> None:
    """Leave a process of torchrun without Python's teardown.

    Otherwise a gloo thread that still holds the tensor of the last collective sometimes aborts the process: it releases
    the tensor after Python has shut down.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Separate the options that may stand anywhere (before a ``--``) from the rest."""
    end = words.index("--") if "--" in words else len(words)
    anywhere = [word for word in words[:end] if word in _ANYWHERE]
    return anywhere, [word for word in words[:end] if word not in _ANYWHERE] + words[end:]


def _explain(error: BaseException) -> int:
    """Print the error in one line, and return the exit code."""
    match error:
        case KeyboardInterrupt():
            say_error("interrupted")
            return INTERRUPTED
        case BrokenPipeError():
            # What is still buffered would fail again when Python flushes it at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return READER_GONE
        case OtherRankError():
            return FAILED
        case CellLMError():
            say_error(str(error))
            return FAILED
        case OSError() if error.strerror:
            say_error(f"{error.filename or 'input or output'}: {error.strerror}")
            return FAILED
    if _out_of_memory(error):
        say_error("out of memory. Name less with --memory (pretrain), or give fewer cells at a time.")
        return FAILED
    if isinstance(error, _UsageError):
        return _explain_usage(error)
    loop = re.fullmatch(r"Symlink loop from '(.*)'", str(error))
    if loop and isinstance(error, RuntimeError):  # of pathlib before Python 3.13, which raises an OSError
        say_error(f"{loop[1]}: it is a symbolic link that leads to itself. Check the path.")
        return FAILED
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    say_error(
        f"cell-lm {__version__} has a fault ({what}). Please report it, with what --debug shows added to the command."
    )
    return FAULT


def _out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out: torch has its own error class on a GPU, and none on the CPU."""
    on_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or on_cpu


def _explain_usage(error: BaseException) -> int:
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "cell-lm")
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    say_error(f"{message.rstrip('.')}. See {path} --help")
    return MISUSED


@contextmanager
def _orderly_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the program, so that half-written files are removed on the way."""

    def leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise SystemExit(TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
