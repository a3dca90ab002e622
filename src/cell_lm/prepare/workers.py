"""The same work over processes: results come in any order, and mean the same whatever their number."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from cell_lm.errors import CellLMError, InputError
from cell_lm.prepare.disk import WriteError

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def each(
    function: Callable[[_Task], _Result], tasks: Sequence[_Task], workers: int
) -> Iterator[tuple[int, _Result | CellLMError]]:
    """Yield the number of each task with its result, or with the error that it ended in, as they are done.

    Raises
    ------
    WriteError
        Nothing can be written any more; tasks that have not begun are left.
    InputError
        A process was killed.
    """
    if workers <= 1 or len(tasks) <= 1:
        yield from ((number, _attempt(function, task)) for number, task in enumerate(tasks))
        return
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # forked children would inherit locks of threads that they lack
    pool = ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=_follow_the_parent)
    try:
        futures = {pool.submit(_attempt, function, task): number for number, task in enumerate(tasks)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BaseException as error:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()  # nobody waits for what they do
        if isinstance(error, BrokenProcessPool):
            fix = "Run the same command again, with fewer --workers if memory is short: what is finished stands"
            raise InputError("one of the worker processes was killed, or could not start", fix=fix) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _attempt(function: Callable[[_Task], _Result], task: _Task) -> _Result | CellLMError:
    try:
        return function(task)
    except WriteError:
        raise
    except CellLMError as error:
        return error


def _follow_the_parent() -> None:
    """Leave Ctrl-C to the parent, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
