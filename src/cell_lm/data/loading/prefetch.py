"""Prefetching: a thread prepares items in advance; it helps if that work releases the GIL."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
_POLL = 0.1


@dataclass(frozen=True)
class _Failure:
    error: BaseException


class _End:
    pass


class Prefetcher(Generic[Item]):
    """An iterator whose items are prepared by a thread, a few ahead.

    An error raised in the thread is raised again when its item is requested. :meth:`close` ends the thread.

    Parameters
    ----------
    items
        Iterator that prepares the items; only the thread uses it.
    most
        Most prepared items in the queue; at least 1.
    """

    def __init__(self, items: Iterator[Item], most: int) -> None:
        self._waiting: queue.Queue[Item | _Failure | _End] = queue.Queue(most)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._make, args=(items,), name="cell-lm prefetch", daemon=True)
        self._thread.start()

    def _make(self, items: Iterator[Item]) -> None:
        try:
            for item in items:
                if not self._put(item):
                    return
            self._put(_End())
        except BaseException as error:
            self._put(_Failure(error))

    def _put(self, item: Item | _Failure | _End) -> bool:
        while not self._closed.is_set():
            try:
                self._waiting.put(item, timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Prefetcher[Item]:
        return self

    def __next__(self) -> Item:
        item = self._waiting.get()
        if isinstance(item, _Failure | _End):
            self._waiting.put(item)  # the next call gets the same item
            if isinstance(item, _Failure):
                raise item.error
            raise StopIteration
        return item

    def close(self) -> None:
        """Stop the thread, and wait until it has finished its current item."""
        self._closed.set()
        self._thread.join()
