from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cell_lm.data.loading.prefetch import Prefetcher


def counting(made: list[int], most: int = 1_000, fail_at: int | None = None) -> Iterator[int]:
    for number in range(most):
        if number == fail_at:
            raise ValueError(f"item {number}")
        made.append(number)
        yield number


def test_items_come_in_order_and_no_more_are_made_than_may_wait() -> None:
    made: list[int] = []
    ahead = Prefetcher(counting(made), 3)
    assert [next(ahead) for _ in range(20)] == list(range(20))
    assert len(made) <= 20 + 3 + 1
    ahead.close()


def test_an_error_comes_where_its_item_is_asked_for_and_stays() -> None:
    ahead = Prefetcher(counting([], fail_at=2), 5)
    assert [next(ahead), next(ahead)] == [0, 1]
    for _ in range(2):
        with pytest.raises(ValueError, match="item 2"):
            next(ahead)
    ahead.close()


def test_an_end_is_an_end() -> None:
    ahead = Prefetcher(counting([], most=3), 1)
    assert list(ahead) == [0, 1, 2]
    ahead.close()


def test_closing_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    ahead = Prefetcher(counting([]), 2)
    next(ahead)
    ahead.close()
    assert threading.active_count() == before
