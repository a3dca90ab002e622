"""The map: the same for the same cells, near for near cells, refused where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cell_lm.errors import InputError
from cell_lm.report import umap_coordinates


@pytest.fixture(scope="module")
def cells() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return (np.repeat(10 * np.eye(3, 12), 40, axis=0) + rng.normal(size=(120, 12))).astype(np.float32)


@pytest.fixture(scope="module")
def coordinates(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    return umap_coordinates(cells, seed=3)


def test_it_repeats_with_its_seed_and_not_with_another(
    cells: NDArray[np.float32], coordinates: NDArray[np.float32]
) -> None:
    assert coordinates.shape == (120, 2)
    np.testing.assert_array_equal(coordinates, umap_coordinates(cells, seed=3))
    assert not np.array_equal(coordinates, umap_coordinates(cells, seed=4))


def test_clusters_stay_together(coordinates: NDArray[np.float32]) -> None:
    labels = np.repeat(np.arange(3), 40)
    distances = ((coordinates[:, None] - coordinates[None]) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).mean() > 0.95


def test_neighbours_are_by_angle_so_that_lengths_do_not_matter(
    cells: NDArray[np.float32], coordinates: NDArray[np.float32]
) -> None:
    powers = 2.0 ** np.random.default_rng(0).integers(-3, 4, (120, 1))
    np.testing.assert_allclose(umap_coordinates(cells * powers, seed=3), coordinates, atol=1e-4)


def test_the_embedding_and_the_global_generator_stay_as_they_are(cells: NDArray[np.float32]) -> None:
    before, state = cells.copy(), np.random.get_state()[1].copy()  # noqa: NPY002
    umap_coordinates(cells)
    np.testing.assert_array_equal(cells, before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones((9, 4)), r"shape \(9, 4\) has no map"),
        (np.ones(20), "has no map"),
        (np.where(np.eye(20) > 0, np.nan, 1.0), "20 of 20 cells have NaN"),
    ],
)
def test_what_has_no_map_is_refused(bad: NDArray[np.float64], message: str) -> None:
    with pytest.raises(InputError, match=message):
        umap_coordinates(bad)
