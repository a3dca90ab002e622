"""Processes for tests, forked from this one where that is safe: torch, which takes seconds, is not imported again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import IO, Any, NoReturn

HUNG = 900
"""Seconds after which a process counts as hung: many times what any needs, since others may share its cores."""


class Forked:
    """A child of this process that runs Python code, with the part of :class:`subprocess.Popen` that tests need.

    Parameters
    ----------
    code
        What it runs, as a main module.
    arguments
        Its ``sys.argv[1:]``.
    env
        Its changes of the environment.
    """

    def __init__(self, code: str, arguments: list[str], env: dict[str, str]) -> None:
        self.returncode: int | None = None
        self._out, self._err = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _run(code, arguments, env, self._out, self._err)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for its end, and return what it printed."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("forked", timeout)
            time.sleep(0.01)
        return _content(self._out), _content(self._err)

    def kill(self) -> None:
        """Kill it, if it still runs, and close its output."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._out.close()
        self._err.close()


def _content(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _run(code: str, arguments: list[str], env: dict[str, str], out: IO[str], err: IO[str]) -> NoReturn:
    """Become the child: its own output, environment and warnings; then leave without the teardown of pytest."""
    status = 1
    try:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering=1) for number in (1, 2))
        os.environ.update(env)
        sys.argv = ["-c", *arguments]
        warnings.resetwarnings()
        warnings.simplefilter("error", UserWarning)
        values: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(code, "<forked>", "exec"), values)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def forks_are_safe() -> bool:
    """Return whether a forked child can compute: OpenMP hangs in it if this process has used several threads."""
    import torch

    return torch.get_num_threads() == 1 and Path("/proc").is_dir() and not torch.cuda.is_initialized()
