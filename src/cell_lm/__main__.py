"""The command ``cell-lm``, also ``python -m cell_lm``: it can be interrupted while its modules are still imported."""

from __future__ import annotations

import os
import signal
from types import FrameType

_INTERRUPTED = 130


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """Leave at once: an exception would pass through half-imported modules, and nothing has been written yet."""
    os.write(2, b"error: interrupted\n")
    os._exit(_INTERRUPTED)


def main() -> int:
    """Run the command and return its exit code."""
    former = signal.getsignal(signal.SIGINT)
    if former is signal.default_int_handler:  # nohup and the like ignore it
        signal.signal(signal.SIGINT, _leave)
    from cell_lm.cli import main as run

    signal.signal(signal.SIGINT, former)
    return run()


if __name__ == "__main__":
    raise SystemExit(main())
