from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks import evaluation as benchmark
from cell_lm.evaluation import BASELINES, Split, compare, few_shot, leave_one_group_out
from cell_lm.evaluation.baselines import MajorityClass, NearestCentroid

RNG = np.random.default_rng(0)


def made(name: str, packaged: bool, distance: float, donors: bool = True) -> benchmark.Set:
    codes = RNG.integers(0, 3, 180)
    X = RNG.normal(0, 1, (180, 8)) + distance * np.eye(3, 8)[codes]
    labels, groups = np.array(list("abc"), object)[codes], np.tile(["d1", "d2"], 90).astype(object)
    methods = {method: lambda seed: NearestCentroid(seed=seed) for method in BASELINES}
    methods["majority"] = lambda seed: MajorityClass()
    by_setting = {key: compare(methods, X, labels, few_shot(labels, n, range(3))) for key, n in benchmark.SHOTS.items()}
    if donors:
        by_setting["donors"] = compare(methods, X, labels, leave_one_group_out(groups), groups=groups)
    return benchmark.Set(name, packaged, by_setting)


@pytest.fixture(scope="module")
def sets() -> list[benchmark.Set]:
    return [made("one", True, 3.0), made("two", True, 1.0), made("more", False, 3.0, donors=False)]


def test_the_json_has_means_over_the_packaged_sets_by_setting_and_method(sets):
    found = benchmark.summary(sets)
    for key in ("one_shot", "few_shot_5", "few_shot_20", "donors"):
        assert set(found[key]) == set(BASELINES)
        by_set = [found["sets"][name][key]["pca_lr"] for name in ("one", "two")]
        assert found[key]["pca_lr"] == pytest.approx(np.mean(by_set), abs=2e-4)
        low, high = found["intervals"][key]["pca_lr"]
        assert low < found[key]["pca_lr"] < high
    assert set(found["sets"]["more"]) == set(benchmark.SHOTS)


def test_paired_differences_are_to_the_regression_on_genes(sets):
    found = benchmark.summary(sets)
    for key in ("one_shot", "donors"):
        assert "genes_lr" not in found["paired"][key]
        assert found["paired"][key]["pca_lr"] == 0  # the same method under both names
        expected = found[key]["majority"] - found[key]["genes_lr"]
        assert found["paired"][key]["majority"] == pytest.approx(expected, abs=2e-4)
        low, high = found["intervals"]["paired"][key]["majority"]
        assert low <= found["paired"][key]["majority"] <= high


def test_rare_types_are_named_with_their_training_cells():
    labels = pd.Series(["a"] * 30 + ["b"] * 12 + ["c"] * 3)
    few = Split(np.arange(2, 45), np.arange(2), "donor d1", "donor")
    assert benchmark.rare(labels, few) == ["c (3)"]
    (shot,) = few_shot(labels, 5, [0])
    assert benchmark.rare(labels, shot) == ["c (1)"]
