"""Leaving in good order: the first SIGINT or SIGTERM is a request, the second one is what it always was.

Among several processes a second SIGTERM is the first one once more: SLURM sends it to launcher and processes alike, and
the launcher passes it on. Whoever cannot wait follows with SIGKILL, as all of them do.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether, and by which signal, the process was asked to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def stop_on_signals(*, launched: bool = False) -> Iterator[StopRequest]:
    """Note the first SIGINT or SIGTERM instead of dying of it, and restore the former handlers at once and at the end.

    Where the process was ``launched`` with others, SIGTERM keeps its handler to the end.

    Handlers belong to the main thread; in any other one nothing is installed and the request never comes.
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
