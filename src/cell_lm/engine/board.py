"""TensorBoard's writer, without the traceback that its thread prints when the disk is full.

The thread keeps the error and the next call raises it; the caller then prints it in one line.
"""

from __future__ import annotations

import threading

_THREAD = "_AsyncWriterThread"
_others = threading.excepthook


def _hook(arguments: threading.ExceptHookArgs) -> None:
    if not (type(arguments.thread).__name__ == _THREAD and isinstance(arguments.exc_value, OSError)):
        _others(arguments)


def quiet_writer_threads() -> None:
    """Keep failed writes of TensorBoard's threads off standard error until exit: a thread may fail at any time."""
    global _others
    if threading.excepthook is not _hook:
        _others, threading.excepthook = threading.excepthook, _hook
