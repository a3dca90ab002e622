from __future__ import annotations

import numpy as np

from cell_lm.prepare.contains import _look_up
from cell_lm.prepare.duplicates import find_duplicates


def test_all_but_the_first_of_equal_cells_are_repeated_and_counted_by_pair() -> None:
    cells = np.array([5, 3, 5, 9, 3, 5, 3, 1])
    hashes = np.stack([cells, cells * 7], axis=1).astype(np.uint64)
    source = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    found = find_duplicates(hashes, source)
    assert found.repeated.tolist() == [False, False, True, False, True, True, True, False]
    pairs = {(pair.first, pair.again): pair.cells for pair in found.pairs}
    assert pairs == {(0, 0): 1, (0, 1): 2, (0, 2): 1}


def test_hashes_that_share_a_half_are_not_equal() -> None:
    hashes = np.array([[1, 2], [1, 3], [2, 2], [0, 0]], np.uint64)
    found = find_duplicates(hashes, np.zeros(4, np.int64))
    assert not found.repeated.any()
    assert found.pairs == []


def test_as_many_as_there_are_in_a_naive_search() -> None:
    rng = np.random.default_rng(0)
    hashes, source = rng.integers(0, 6, (400, 2)).astype(np.uint64), np.sort(rng.integers(0, 5, 400))
    seen: dict[tuple[int, ...], int] = {}
    naive = [seen.setdefault(tuple(row), i) != i for i, row in enumerate(hashes.tolist())]
    found = find_duplicates(hashes, source)
    assert found.repeated.tolist() == naive
    assert sum(pair.cells for pair in found.pairs) == sum(naive)


def test_hashes_are_looked_up_where_they_are_held() -> None:
    held = np.array([[7, 1], [3, 3], [7, 2]], np.uint64)
    given = np.array([[7, 2], [7, 2], [3, 4], [7, 1], [0, 0]], np.uint64)
    assert _look_up(given, held).tolist() == [2, 2, -1, 0, -1]
    assert _look_up(given, held[:0]).tolist() == [-1] * 5
