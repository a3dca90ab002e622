"""Run tasks in processes: results come in any order, and do not depend on the number of processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as futures_wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from cell_lm.errors import CellLMError, InputError
from cell_lm.prepare.disk import WriteError

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

Counter: TypeAlias = "Synchronized[int]"
Advance: TypeAlias = Callable[[int], None]
"""Receives progress: the amount of newly finished work."""
_POLL = 0.5
"""Seconds between two reads of the progress of other processes."""
_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def each(
    function: Callable[[_Task, Advance], _Result], tasks: Sequence[_Task], workers: int, advance: Advance
) -> Iterator[tuple[int, _Result | CellLMError]]:
    """Yield the index of each task with its result or error, as tasks finish.

    Parameters
    ----------
    function
        Does a task; it is called with the task and the receiver of its progress.
    tasks
        The tasks, in the order in which they start.
    workers
        Number of processes; with 1, this process does the work.
    advance
        Receives the progress of all tasks.

    Raises
    ------
    WriteError
        Nothing can be written any more; tasks that have not started are dropped.
    InputError
        A process was killed.
    """
    if workers <= 1 or len(tasks) <= 1:
        yield from ((number, _attempt(function, task, advance)) for number, task in enumerate(tasks))
        return
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context(
        "spawn"
    )  # forked children would inherit locks held by threads that they do not have
    told = context.Value("q", 0)
    pool = ProcessPoolExecutor(
        min(workers, len(tasks)), mp_context=context, initializer=_begin_worker, initargs=(told,)
    )
    try:
        futures = {pool.submit(_in_worker, function, task): number for number, task in enumerate(tasks)}
        for future in _as_completed(futures, told, advance):
            yield futures[future], future.result()
    except BaseException as error:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()  # their results are not needed
        if isinstance(error, BrokenProcessPool):
            fix = "Run the same command again, with fewer --workers if memory is short: what is finished stands"
            raise InputError("one of the worker processes was killed, or could not start", fix=fix) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _as_completed(futures: Iterable[Future[_Result]], told: Counter, advance: Advance) -> Iterator[Future[_Result]]:
    """Yield futures as they finish, and pass on progress in between."""
    open_, passed = set(futures), 0
    while open_:
        done, open_ = futures_wait(open_, timeout=_POLL, return_when=FIRST_COMPLETED)
        now = told.value
        advance(now - passed)
        passed = now
        yield from done


def _attempt(function: Callable[[_Task, Advance], _Result], task: _Task, advance: Advance) -> _Result | CellLMError:
    try:
        return function(task, advance)
    except WriteError:
        raise
    except CellLMError as error:
        return error


_told: Counter | None = None


def _begin_worker(told: Counter) -> None:
    global _told
    _told = told
    _follow_the_parent()


def _in_worker(function: Callable[[_Task, Advance], _Result], task: _Task) -> _Result | CellLMError:
    return _attempt(function, task, _tell)


def _tell(done: int) -> None:
    if _told is not None:
        with _told.get_lock():
            _told.value += done


def _follow_the_parent() -> None:
    """Ignore Ctrl-C, which the parent handles, and exit when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
