"""Orderly stop: the first SIGINT or SIGTERM is a request, the second one has its usual effect.

With several processes a second SIGTERM is ignored: SLURM sends SIGTERM to launcher and processes, and the launcher
forwards it, so each process gets it twice. A scheduler that does not wait sends SIGKILL next.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether a signal requested a stop, and which one."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def stop_on_signals(*, launched: bool = False) -> Iterator[StopRequest]:
    """Record the first SIGINT or SIGTERM instead of exiting, then restore the former handlers, as at the end.

    If the process was ``launched`` with others, SIGTERM keeps this handler to the end.

    Python allows handlers in the main thread only; in any other thread this does nothing.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    former = {number: signal.getsignal(number) for number in SIGNALS}

    def restore(*kept: int) -> None:
        for number, handler in former.items():
            if number not in kept:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        request.signal = request.signal or number
        restore(*([signal.SIGTERM] if launched else []))

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
