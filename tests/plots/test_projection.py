"""The map: the same for the same cells, near for near cells, refused where there is none."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cell_lm.errors import InputError
from cell_lm.plots.projection import FEW_CELLS, Method, method_for, project

METHODS: tuple[Method, ...] = ("t-SNE", "UMAP")
THREADS = 3
"""A number of threads that numba would not choose: it takes as many as there are cores, or as it is told."""


@pytest.fixture(scope="module")
def cells() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return (np.repeat(10 * np.eye(3, 12), 40, axis=0) + rng.normal(size=(120, 12))).astype(np.float32)


@pytest.fixture(scope="module")
def first_umap(cells: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """The map of the first UMAP, for which numba starts its threads, and how many threads torch had after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        return project(cells, seed=3, method="UMAP").coordinates, torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def maps(cells: NDArray[np.float32], first_umap: tuple[NDArray[np.float32], int]) -> dict[Method, NDArray[np.float32]]:
    return {"t-SNE": project(cells, seed=3, method="t-SNE").coordinates, "UMAP": first_umap[0]}


@pytest.mark.parametrize("method", METHODS)
def test_it_repeats_with_its_seed(
    method: Method, cells: NDArray[np.float32], maps: dict[Method, NDArray[np.float32]]
) -> None:
    assert maps[method].shape == (120, 2)
    assert maps[method].dtype == np.float32
    np.testing.assert_array_equal(maps[method], project(cells, seed=3, method=method).coordinates)


def test_another_seed_gives_another_umap(cells: NDArray[np.float32], maps: dict[Method, NDArray[np.float32]]) -> None:
    assert not np.array_equal(maps["UMAP"], project(cells, seed=4, method="UMAP").coordinates)


@pytest.mark.parametrize("method", METHODS)
def test_clusters_stay_together(method: Method, maps: dict[Method, NDArray[np.float32]]) -> None:
    labels, coordinates = np.repeat(np.arange(3), 40), maps[method]
    distances = ((coordinates[:, None] - coordinates[None]) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).mean() > 0.95


@pytest.mark.parametrize("method", METHODS)
def test_neighbours_are_by_angle_so_that_lengths_do_not_matter(
    method: Method, cells: NDArray[np.float32], maps: dict[Method, NDArray[np.float32]]
) -> None:
    powers = 2.0 ** np.random.default_rng(0).integers(-3, 4, (120, 1))
    np.testing.assert_allclose(project(cells * powers, seed=3, method=method).coordinates, maps[method], atol=1e-4)


def test_the_number_of_cells_chooses_the_method(cells: NDArray[np.float32]) -> None:
    assert project(cells).method == method_for(FEW_CELLS) == "t-SNE"
    assert method_for(FEW_CELLS + 1) == "UMAP"


@pytest.mark.parametrize(
    "embedding", [np.ones((10, 2)), np.zeros((40, 3)), np.eye(10), np.repeat(np.eye(2), 20, axis=0)]
)
def test_few_and_equal_cells_have_a_map(embedding: NDArray[np.float64]) -> None:
    assert np.isfinite(project(embedding).coordinates).all()


def test_umap_leaves_torch_its_number_of_threads(first_umap: tuple[NDArray[np.float32], int]) -> None:
    assert first_umap[1] == THREADS


def test_few_cells_do_not_wait_for_umap() -> None:
    use = "import sys, numpy as np; from cell_lm.plots.projection import project; project(np.eye(20))"
    code = f"{use}; print([name for name in ('umap', 'pynndescent', 'scanpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("method", METHODS)
def test_the_embedding_and_the_global_generator_stay_as_they_are(method: Method, cells: NDArray[np.float32]) -> None:
    before, state = cells.copy(), np.random.get_state()[1].copy()  # noqa: NPY002
    project(cells, method=method)
    np.testing.assert_array_equal(cells, before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones((9, 4)), r"shape \(9, 4\) has no map"),
        (np.ones((20, 1)), "has no map"),
        (np.ones(20), "has no map"),
        (np.where(np.eye(20) > 0, np.nan, 1.0), "20 of 20 cells have NaN"),
    ],
)
def test_what_has_no_map_is_refused(bad: NDArray[np.float64], message: str) -> None:
    with pytest.raises(InputError, match=message):
        project(bad)
