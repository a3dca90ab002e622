from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import sparse

from cell_lm.data import CellData, ConcatCells, Tokeniser
from cell_lm.errors import InputError

TOKENISE = Tokeniser(6, 120)


@pytest.fixture
def pool(make_cells: Callable[..., CellData], make_counts: Callable[..., sparse.csr_matrix]) -> ConcatCells:
    malignancies = np.array([0, 1, -1], np.int8)
    datasets = [make_cells(make_counts(n, 400, seed=n), np.resize(malignancies, n), name=f"d{n}") for n in (7, 1, 12)]
    return ConcatCells(datasets, TOKENISE)


def test_a_running_index_reaches_every_cell_of_every_dataset_in_order(pool: ConcatCells) -> None:
    order = np.random.default_rng(0).permutation(20)
    batch = pool.tokenise(order)
    assert len(pool) == 20
    assert batch.slots.tolist() == list(range(20))
    for place, cell in enumerate(order):
        dataset = int(np.searchsorted([7, 8, 20], cell, side="right"))
        alone = TOKENISE(pool.parts[dataset], np.array([cell - [0, 7, 8][dataset]]))
        part = batch[place : place + 1]
        assert part.genes.tolist() == alone.genes.tolist()
        assert part.values.tolist() == alone.values.tolist()
        assert part.bins.tolist() == alone.bins.tolist()
        assert part.malignancy.tolist() == alone.malignancy.tolist() == [pool.malignancy[cell]]
        assert part.tokens == pool.lengths[cell]


def test_cells_of_one_dataset_only_and_of_none_are_batches_too(pool: ConcatCells) -> None:
    assert pool.tokenise(np.array([7])).tokens == pool.lengths[7]
    assert len(pool.tokenise(np.empty(0, np.int64))) == 0


@pytest.mark.parametrize("cell", [-1, 20])
def test_a_cell_beyond_the_pool_is_refused(cell: int, pool: ConcatCells) -> None:
    with pytest.raises(IndexError, match="of 20"):
        pool.tokenise(np.array([3, cell]))


def test_datasets_of_different_vocabularies_do_not_mix(make_cells: Callable[..., CellData]) -> None:
    with pytest.raises(InputError, match="not that of one"):
        ConcatCells([make_cells(np.eye(3), name="one"), make_cells(np.eye(3), prefix="H", name="two")], TOKENISE)
    with pytest.raises(InputError, match="no datasets"):
        ConcatCells([], TOKENISE)
