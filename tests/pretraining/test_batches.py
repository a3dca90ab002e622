from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from cell_lm.data.backed import BackedCells, open_backed
from cell_lm.data.loading.batch import concatenate
from cell_lm.data.obs.malignancy import UNKNOWN
from cell_lm.errors import ConfigError, InputError
from cell_lm.pretraining.batches import MAX_VALIDATION_BATCHES, Batches, validation_size
from cell_lm.pretraining.run import initial_model
from toy_run import VOCABULARY, toy_cells, toy_config


def ranks(rank: int = 0, size: int = 1) -> Any:
    return SimpleNamespace(rank=rank, size=size, device=torch.device("cpu"))


def test_whole_batches_are_held_out_and_not_too_many() -> None:
    assert validation_size(1000, 64, 0.05) == 50
    assert validation_size(10_000, 64, 0.05) == 448
    assert validation_size(1_000_000, 64, 0.05) == 64 * MAX_VALIDATION_BATCHES
    assert validation_size(1000, 64, 0.0) == 0
    assert validation_size(20, 64, 0.05) == 2


def test_held_out_cells_are_never_trained_on() -> None:
    batches = Batches([toy_cells(50), toy_cells(30, seed=1)], toy_config(validation=0.3), ranks())
    train, held = set(batches.train_cells.tolist()), set(batches.validation_cells.tolist())
    assert len(train) + len(held) == 80
    assert not train & held
    assert [len(batch) for batch in batches.validation()] == [8, 8, 8]


@pytest.mark.parametrize("most", [20, 1_000])
def test_a_training_subset_holds_no_held_out_cell(most: int) -> None:
    counts = np.column_stack([np.arange(1, 81), np.full(80, 100), np.zeros((80, 38))])  # the ratio names the cell
    batches = Batches([replace(toy_cells(80), X=sparse.csr_matrix(counts))], toy_config(validation=0.5), ranks())
    known = batches.pool.tokenise(np.arange(80)).expression(40).toarray()[:, 0].tolist()
    chosen = [known.index(value) for value in batches.training_subset(most).expression(40).toarray()[:, 0]]
    assert len(set(chosen)) == len(chosen) == min(most, len(batches.train_cells))
    assert set(chosen) <= set(batches.train_cells.tolist())


def test_gene_vectors_do_not_depend_on_held_out_cells() -> None:
    config = toy_config(validation=0.4)
    cells = toy_cells(60)
    held_out = Batches([cells], config, ranks()).validation_cells
    other = cells.X.toarray()
    other[held_out] = 1 + other[held_out][:, ::-1]
    models = [initial_model([replace(cells, X=sparse.csr_matrix(X))], config) for X in (cells.X, other)]
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other[np.setdiff1d(np.arange(60), held_out)] += 1
    third = initial_model([replace(cells, X=sparse.csr_matrix(other))], config).state_dict()
    assert not all(torch.equal(first[name], third[name]) for name in first)  # they do depend on the training cells


@pytest.mark.parametrize(("window", "reads"), [(1, 11), (16, 6), (24, 4), (1_000, 1)])
def test_cells_in_a_file_are_read_for_a_window_of_steps_at_once(
    window: int, reads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = toy_cells()
    AnnData(cells.X, obs=cells.obs, var=pd.DataFrame(index=list(VOCABULARY.symbols))).write_h5ad(tmp_path / "a.h5ad")
    backed = replace(open_backed(tmp_path / "a.h5ad", vocabulary=VOCABULARY), malignancy=cells.malignancy)
    config = toy_config()
    config = config.model_copy(update={"data": config.data.model_copy(update={"window": window, "block": 4})})
    batches, wanted, read = Batches([backed], config, ranks()), [], BackedCells.read
    alone = [batches.train(step) for step in range(1, 12)]

    def counted(self: BackedCells, rows: np.ndarray) -> Any:
        wanted.append(len(rows))
        return read(self, rows)

    monkeypatch.setattr(BackedCells, "read", counted)
    with batches.prefetch(1):
        ahead = [batches.train(step) for step in range(1, 12)]
    assert len(wanted) == reads
    assert max(wanted) <= max(8, window)
    assert all(torch.equal(one.genes, other.genes) for one, other in zip(alone, ahead, strict=True))


def test_the_split_depends_on_the_seed_alone() -> None:
    def split(seed: int) -> list[int]:
        return Batches([toy_cells(50)], toy_config(seed=seed, validation=0.3), ranks()).validation_cells.tolist()

    assert split(1) == split(1)
    assert split(1) != split(2)


def test_the_ranks_share_every_batch_and_keep_its_slots() -> None:
    config = toy_config(validation=0.4)
    whole, parts = (
        Batches([toy_cells()], config, ranks()),
        [Batches([toy_cells()], config, ranks(r, 3)) for r in range(3)],
    )
    pairs = [(whole.train(5), [part.train(5) for part in parts])]
    pairs += zip(
        whole.validation(), [list(batch) for batch in zip(*(p.validation() for p in parts), strict=True)], strict=True
    )
    assert len(pairs) == 3
    for batch, shares in pairs:
        joined = concatenate(shares)
        assert torch.equal(batch.genes, joined.genes)
        assert torch.equal(batch.malignancy, joined.malignancy)
        assert joined.slots.tolist() == list(range(len(batch)))


@pytest.mark.parametrize("malignancy", ["none", "one"])
def test_without_both_states_discrimination_is_left_out_and_said_so(malignancy: str) -> None:
    batches = Batches([toy_cells(malignancy=malignancy)], toy_config(), ranks())
    assert batches.train(0).malignancy.unique().tolist() == [UNKNOWN]
    assert len(batches.notes) == 1
    assert "discrimination" in batches.notes[0]
    assert "0 normal" in batches.notes[0]


def test_states_of_two_datasets_count_together() -> None:
    batches = Batches([toy_cells(), toy_cells(seed=1, malignancy="none")], toy_config(), ranks())
    assert batches.labelled
    assert batches.notes == []


def test_nothing_is_said_about_states_that_nobody_asked_for() -> None:
    config = toy_config(objectives={"discrimination": {"weight": 0.0}})
    assert Batches([toy_cells(malignancy="none")], config, ranks()).notes == []


def test_discrimination_alone_without_labels_is_refused() -> None:
    only = {name: {"weight": 0.0} for name in ("masked", "contrastive", "reconstruction")}
    with pytest.raises(ConfigError, match="the only objective"):
        Batches([toy_cells(malignancy="one")], toy_config(objectives=only), ranks())


@pytest.mark.parametrize(
    ("settings", "size", "message"),
    [
        ({"batch_size": 47}, 1, "batch_size = 47 with 38 cells"),
        ({"batch_size": 4}, 5, "rank 0 of 5"),
        ({"batch_size": 30, "validation": 0.1}, 6, "5 cells to validate on, over 6 ranks"),
    ],
)
def test_too_few_cells_are_refused(settings: dict[str, Any], size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Batches([toy_cells()], toy_config(**settings), ranks(0, size))


def test_no_datasets_are_refused() -> None:
    with pytest.raises(InputError, match="no datasets"):
        Batches([], toy_config(), ranks())
