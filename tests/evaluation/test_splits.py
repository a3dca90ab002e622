from __future__ import annotations

import hashlib

import numpy as np
import pytest

from cell_lm.errors import InputError
from cell_lm.evaluation.splits import (
    Split,
    few_shot,
    leave_one_group_out,
    pair_names,
    pairs,
    refuse_leakage,
    stratified,
)

LABELS = np.repeat(["T", "B", "NK", "rare", "alone"], [40, 20, 10, 3, 1])
LINES = np.tile([f"line {i}" for i in range(20)], 15)
DRUGS = np.repeat([f"drug {i}" for i in range(15)], 20)
TISSUES = np.array([f"tissue {int(line.split()[1]) % 5}" for line in LINES])


def fingerprint(split: Split) -> str:
    return hashlib.sha256(b"/".join(each.astype("<i8").tobytes() for each in (split.train, split.test))).hexdigest()[:8]


def sides(split: Split, values: np.ndarray) -> list[set[str]]:
    return [set(values[rows]) for rows in (split.train, split.validation, split.test)]


def test_a_stratified_split_has_every_label_on_both_sides_in_its_share():
    (split,) = stratified(LABELS, 0.2, [3])
    assert {name: int((LABELS[split.test] == name).sum()) for name in set(LABELS)} == {
        "T": 8, "B": 4, "NK": 2, "rare": 1, "alone": 0,
    }  # fmt: skip
    assert sorted([*split.train, *split.test]) == list(range(len(LABELS)))
    assert split.rare == ("alone",)


def test_few_shot_takes_so_many_of_each_label_and_names_those_that_have_fewer():
    (split,) = few_shot(LABELS, 5, [0])
    assert {name: int((LABELS[split.train] == name).sum()) for name in set(LABELS)} == {
        "T": 5, "B": 5, "NK": 5, "rare": 1, "alone": 1,
    }  # fmt: skip
    assert sorted([*split.train, *split.test]) == list(range(len(LABELS)))
    assert split.rare == ("alone", "rare")
    assert "alone" not in LABELS[split.test]


def test_a_seed_is_one_split_on_every_platform():
    """The fingerprints are of this code as it was written: other ones mean that published splits cannot be made."""
    one, same, other = (few_shot(LABELS, 5, [seed])[0] for seed in (0, 0, 1))
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)
    assert [fingerprint(each) for each in (one, stratified(LABELS, 0.2, [3])[0], pairs(LINES, DRUGS, "warm"))] == [
        "e20e73b6", "f122e26a", "8001d2c7",
    ]  # fmt: skip


def test_each_donor_is_held_out_once_and_learns_otherwise():
    donors = np.array(["d2", "d1", "d2", "d3", "d1", "d3"])
    splits = leave_one_group_out(donors)
    assert [split.name for split in splits] == ["donor d1", "donor d2", "donor d3"]
    assert [split.test.tolist() for split in splits] == [[1, 4], [0, 2], [3, 5]]
    for split in splits:
        assert sorted([*split.train, *split.test]) == list(range(6))
        refuse_leakage(split, donor=donors)


@pytest.mark.parametrize(
    ("kind", "apart", "shared"),
    [
        ("warm", [], ["line", "drug"]),
        ("cold_line", ["line"], ["drug"]),
        ("cold_drug", ["drug"], ["line"]),
        ("cold_both", ["line", "drug"], []),
        ("cold_tissue", ["line", "tissue"], ["drug"]),
    ],
)
def test_pairs_are_apart_in_what_is_cold_and_only_in_that(kind, apart, shared):
    units = {"line": LINES, "drug": DRUGS, "tissue": TISSUES}
    split = pairs(LINES, DRUGS, kind, tissues=TISSUES, fractions=(0.6, 0.2, 0.2), seed=1)
    assert min(len(split.train), len(split.validation), len(split.test)) > 0
    for unit in apart:
        one, two, three = sides(split, units[unit])
        assert not one & two | one & three | two & three
        refuse_leakage(split, **{unit: units[unit]})
    for unit in shared:
        assert sides(split, units[unit])[0] & sides(split, units[unit])[2]
    if kind != "cold_both":
        assert sorted(np.concatenate([split.train, split.validation, split.test])) == list(range(300))
        assert len(split.test) == pytest.approx(60, abs=30)


def test_a_pair_that_was_measured_twice_stays_on_one_side():
    lines, drugs = np.tile(LINES, 2), np.tile(DRUGS, 2)
    split = pairs(lines, drugs, "warm")
    names = pair_names(lines, drugs)
    one, two, three = sides(split, names)
    assert not one & two | one & three | two & three
    assert len(split.test) == pytest.approx(60, abs=4)


def test_every_side_gets_a_tissue_however_large_they_are():
    tissues = np.repeat(["huge", "small", "tiny"], [280, 15, 5])
    for seed in range(6):
        split = pairs(LINES, DRUGS, "cold_tissue", tissues=tissues, seed=seed)
        assert [len(each) for each in sides(split, tissues)] == [1, 1, 1]


@pytest.mark.parametrize("sides_shared", [("train", "test"), ("train", "validation"), ("validation", "test")])
def test_a_donor_on_two_sides_is_refused_by_name(sides_shared):
    rows = {"train": [0, 1], "validation": [2], "test": [3]}
    donors = np.array(["human1", "human2", "human4", "human5"])
    clean = Split(*(np.array(rows[side]) for side in ("train", "test")), "seed 0", "donor", None, np.array([2]))
    refuse_leakage(clean, donor=donors)
    for side in sides_shared:
        donors[rows[side][-1]] = "human3"
    words = " and ".join({"train": "training"}.get(side, side) for side in sides_shared)
    with pytest.raises(InputError, match=rf"seed 0: donor 'human3' is on both sides, {words} \(1 in all\)"):
        refuse_leakage(clean, donor=donors)


def test_a_cell_on_both_sides_is_refused_without_being_asked_about():
    split = Split(np.array([0, 1, 2, 3, 4]), np.array([1, 2, 3, 4, 5]), "by hand", "cell")
    with pytest.raises(InputError, match=r"row '1', '2', '3' \.\.\. are on both sides, training and test \(4 in all\)"):
        refuse_leakage(split)
    twice = Split(np.array([0]), np.array([1]), "by hand", "cell")
    with pytest.raises(InputError, match="cell 'AAA' is on both sides"):
        refuse_leakage(twice, cell=["AAA", "AAA"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: few_shot(LABELS, 0, [0]), "0 cells per label"),
        (lambda: few_shot(["a", "b"], 1, [0]), "each of the 2 labels has a single cell"),
        (lambda: few_shot(["a", None], 1, [0]), "1 of 2 labels are missing"),
        (lambda: stratified(LABELS, 0.01, [0]), "73 cells of 4 labels cannot be divided at 0.01"),
        (lambda: leave_one_group_out(["d1", "d1"]), "all 2 rows are of donor 'd1'"),
        (lambda: pairs(LINES, DRUGS[:-1]), "300 lines but 299 drugs"),
        (lambda: pairs(LINES, DRUGS, "lukewarm"), "kind 'lukewarm'.*warm, cold_line"),
        (lambda: pairs(LINES, DRUGS, "cold_tissue"), "no tissues"),
        (lambda: pairs(LINES, DRUGS, fractions=(0.5, 0.1, 0.1)), "fractions"),
        (lambda: pairs(["a", "b"], ["x", "x"], "cold_line"), "2 different lines for 3 sides"),
        (lambda: refuse_leakage(stratified(LABELS, 0.2, [0])[0], donor=["a"]), "1 donors, but the split has row 73"),
    ],
)
def test_what_cannot_be_split_is_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
