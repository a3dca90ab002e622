from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import sparse

from cell_lm.errors import InputError
from cell_lm.evaluation.saved_splits import Splits, cells_hash
from cell_lm.evaluation.splits import few_shot, pairs

NAMES = [f"cell {i}" for i in range(30)]
LABELS = np.repeat(["a", "b", "c"], 10)
X = sparse.csr_matrix(np.random.default_rng(0).poisson(0.5, (30, 7)).astype(np.float32))


def test_splits_come_back_from_a_file_as_they_were(tmp_path):
    cells = cells_hash(NAMES, X)
    pair = pairs(LABELS, np.tile(["x", "y", "z"], 10), "warm", fractions=(0.5, 0.2, 0.3))
    before = Splits((*few_shot(LABELS, 6, [0, 1]), pair), cells)
    before.save(tmp_path / "splits.json")
    after = Splits.load(tmp_path / "splits.json", cells=cells)
    assert len(after) == 3
    assert len(pair.validation) > 0
    for one, two in zip(before, after, strict=True):
        assert (one.name, one.unit, one.seed, one.rare) == (two.name, two.unit, two.seed, two.rare)
        for side in ("train", "validation", "test"):
            rows = getattr(two, side)
            np.testing.assert_array_equal(getattr(one, side), rows)
            assert rows.dtype == np.int64


def test_other_cells_are_refused(tmp_path):
    Splits(tuple(few_shot(LABELS, 2, [0])), cells_hash(NAMES)).save(tmp_path / "splits.json")
    with pytest.raises(InputError, match=r"splits\.json: the splits are of other cells .*make them again"):
        Splits.load(tmp_path / "splits.json", cells=cells_hash(NAMES[::-1]))


def test_the_hash_is_of_names_in_order_and_of_expression():
    other = X.copy()
    other.data[0] += 1
    hashes = [cells_hash(NAMES), cells_hash(NAMES[::-1]), cells_hash(["cell 0cell 1", *NAMES[2:]])]
    hashes += [cells_hash(NAMES, X), cells_hash(NAMES, other), cells_hash(NAMES, X[:, ::-1])]
    assert len(set(hashes)) == len(hashes)


def test_the_hash_is_of_values_not_of_how_they_are_stored():
    stored = X.copy()
    stored.data = np.concatenate([stored.data, [0.0]]).astype(np.float32)
    missing = int(np.setdiff1d(np.arange(7), X[29].indices)[0])
    stored.indices = np.concatenate([stored.indices, [missing]]).astype(np.int32)
    stored.indptr = np.concatenate([stored.indptr[:-1], [stored.indptr[-1] + 1]])
    assert stored.nnz == X.nnz + 1
    assert cells_hash(NAMES, stored) == cells_hash(NAMES, X) == cells_hash(np.array(NAMES), X.astype(np.float64))
    assert stored.nnz == X.nnz + 1  # it is only read


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value | {"version": 99}, "another version"),
        (lambda value: value | {"splits": None}, "not splits"),
        (lambda value: value | {"splits": [{}]}, "a split is damaged: 'train'"),
        (lambda value: value | {"splits": [value["splits"][0] | {"test": [0.5]}]}, "test rows are not whole numbers"),
        (lambda value: value | {"splits": [value["splits"][0] | {"train": [-1]}]}, "train rows are not whole numbers"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, change, message):
    path = tmp_path / "splits.json"
    value = Splits(tuple(few_shot(LABELS, 2, [0])), cells_hash(NAMES)).to_json()
    path.write_text(json.dumps(change(value)))
    with pytest.raises(InputError, match=message):
        Splits.load(path, cells=cells_hash(NAMES))


def test_a_file_that_is_no_json_or_not_there_is_named(tmp_path):
    (tmp_path / "splits.json").write_text("{")
    for name in ("splits.json", "nothing.json"):
        with pytest.raises(InputError, match=rf"{name}: it cannot be read"):
            Splits.load(tmp_path / name, cells="")
