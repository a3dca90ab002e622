from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from numpy.typing import NDArray

from cell_lm.tasks.annotation.nearest import nearest
from cell_lm.tasks.annotation.voting import over_cluster, vote


def test_a_cluster_gets_the_label_of_its_majority_and_one_without_stays_mixed() -> None:
    labels = np.array(["T", "T", "B", "B", "T", "NK", "B", "T", "unknown"], object)
    clusters = np.array(["0", "0", "0", "1", "1", "1", "2", "2", "3"], object)
    found = vote(labels, clusters)
    assert found.labels.tolist() == ["T"] * 3 + ["mixed"] * 3 + ["mixed"] * 2 + ["unknown"]
    np.testing.assert_allclose(found.share, [2 / 3] * 3 + [1 / 3] * 3 + [0.5] * 2 + [1.0])
    assert vote(labels, clusters, 0.7).labels.tolist() == ["mixed"] * 8 + ["unknown"]


def test_clusters_are_tight_the_same_by_seed_and_as_many_as_the_root_of_the_cells() -> None:
    rng = np.random.default_rng(0)
    centres, group = rng.normal(0, 1, (4, 8)), np.repeat(np.arange(4), 100)
    x = centres[group] + rng.normal(0, 0.1, (400, 8))
    found = over_cluster(x, seed=1)
    assert 10 <= len(np.unique(found)) <= 20
    assert all(len(set(group[found == cluster])) == 1 for cluster in np.unique(found))
    np.testing.assert_array_equal(found, over_cluster(7 * x, seed=1))
    assert over_cluster(x[:1]).tolist() == [0]


def test_the_nearest_are_those_of_the_smallest_angle_and_ties_go_to_the_first() -> None:
    reference = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [-1.0, 0.0]])
    rows, distances = nearest(np.array([[5.0, 0.1], [0.0, -1.0]]), reference, 2)
    assert rows.tolist() == [[0, 2], [0, 2]]
    np.testing.assert_allclose(distances, [[1 - 5 / np.hypot(5, 0.1)] * 2, [1.0, 1.0]], atol=1e-6)


def test_a_large_reference_is_searched_by_nn_descent_with_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    class Index:  # the compilation of pynndescent takes a minute
        def __init__(self, data: NDArray[np.float32], **options: object) -> None:
            asked.update(options)
            self.data = data

        def prepare(self) -> None:
            asked["prepared"] = True

        def query(self, x: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
            distance = 1.0 - x @ self.data.T
            rows = np.argsort(distance, axis=1)[:, :k]
            return rows.astype(np.int32), np.take_along_axis(distance, rows, axis=1).astype(np.float64)

    monkeypatch.setitem(sys.modules, "pynndescent", types.SimpleNamespace(NNDescent=Index))
    rng = np.random.default_rng(0)
    reference, query = rng.normal(0, 1, (600, 6)), rng.normal(0, 1, (40, 6))
    exact, large = (nearest(query, reference, 5, seed=3, exact=most) for most in (600, 599))
    assert asked == {"metric": "cosine", "n_neighbors": 30, "random_state": 3, "prepared": True}
    np.testing.assert_array_equal(exact.rows, large.rows)
    assert (large.rows.dtype, large.distances.dtype) == (np.int64, np.float32)
