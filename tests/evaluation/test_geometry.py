"""Geometry against brute force over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cell_lm.errors import InputError
from cell_lm.evaluation import geometry


def cells(n: int = 60, width: int = 7, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.5, 1.0, (n, width))


def unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def squared_distances(x: NDArray[np.float64]) -> NDArray[np.float64]:
    u = unit(x)
    return ((u[:, None] - u[None]) ** 2).sum(-1)


def different(n: int) -> NDArray[np.bool_]:
    return ~np.eye(n, dtype=bool)


def test_mean_cosine_is_the_mean_over_all_pairs_of_different_cells() -> None:
    x = cells()
    expected = (unit(x) @ unit(x).T)[different(len(x))].mean()
    assert geometry.mean_cosine(x) == pytest.approx(expected, rel=1e-12)


def test_mean_cosine_of_a_narrow_cone_is_one_and_of_opposites_is_minus_one() -> None:
    assert geometry.mean_cosine(np.ones((5, 3))) == pytest.approx(1.0)
    assert geometry.mean_cosine([[1.0, 0.0], [-2.0, 0.0]]) == pytest.approx(-1.0)


def test_mean_cosine_does_not_depend_on_the_lengths_of_the_cells() -> None:
    x = cells()
    longer = x * np.linspace(0.1, 9.0, len(x))[:, None]
    assert geometry.mean_cosine(longer) == pytest.approx(geometry.mean_cosine(x), rel=1e-10)


@pytest.mark.parametrize("block", [1, 7, 60, 4096])
@pytest.mark.parametrize("t", [2.0, 0.5])
def test_uniformity_is_exact_whatever_the_block(monkeypatch: pytest.MonkeyPatch, block: int, t: float) -> None:
    monkeypatch.setattr(geometry, "BLOCK", block)
    x = cells()
    expected = np.log(np.exp(-t * squared_distances(x))[different(len(x))].mean())
    assert geometry.uniformity(x, t=t) == pytest.approx(expected, rel=1e-12)


def test_uniformity_is_zero_for_a_collapsed_embedding_and_at_least_minus_4t_for_opposites() -> None:
    assert geometry.uniformity(np.ones((9, 4))) == pytest.approx(0.0, abs=1e-12)
    assert geometry.uniformity([[1.0, 0.0], [-1.0, 0.0]]) == pytest.approx(-8.0)


def test_uniformity_of_a_sample_is_close_to_that_of_all_cells_and_repeats_with_its_seed() -> None:
    x = cells(3000, 8)
    sampled = geometry.uniformity(x, sample=1500, seed=1)
    assert sampled == geometry.uniformity(x, sample=1500, seed=1)
    assert sampled != geometry.uniformity(x, sample=1500, seed=2)
    assert sampled == pytest.approx(geometry.uniformity(x, sample=None), abs=0.05)


def test_alignment_is_the_mean_squared_distance_of_the_two_views() -> None:
    first, second = cells(seed=1), cells(seed=2)
    expected = ((unit(first) - unit(second)) ** 2).sum(axis=1).mean()
    assert geometry.alignment(first, second) == pytest.approx(expected, rel=1e-12)
    assert geometry.alignment(first, first * 3.0) == pytest.approx(0.0, abs=1e-12)
    assert geometry.alignment(first, -first) == pytest.approx(4.0)


def test_alignment_refuses_views_of_different_cells() -> None:
    with pytest.raises(InputError, match=r"two views have shapes \(60, 7\) and \(59, 7\)"):
        geometry.alignment(cells(), cells()[:-1])


def test_label_alignment_draws_a_cell_then_another_of_its_label() -> None:
    x = cells(30)
    labels = np.array(["a"] * 20 + ["b"] * 9 + ["alone"])
    distances = squared_distances(x)
    partners = (labels[:, None] == labels[None]) & different(30)
    per_cell = [distances[i, partners[i]].mean() for i in range(30) if partners[i].any()]
    assert len(per_cell) == 29
    assert geometry.label_alignment(x, labels) == pytest.approx(np.mean(per_cell), rel=1e-12)


def test_label_alignment_refuses_labels_without_any_pair() -> None:
    with pytest.raises(InputError, match="each of the 3 labels has a single cell"):
        geometry.label_alignment(cells(3), ["a", "b", "c"])


@pytest.mark.parametrize("center", [True, False])
def test_effective_rank_is_the_exponential_entropy_of_the_singular_values(center: bool) -> None:
    x = cells(200, 9) * np.geomspace(1, 50, 9)
    singular = np.linalg.svd(x - x.mean(axis=0) if center else x, compute_uv=False)
    share = singular / singular.sum()
    expected = np.exp(-(share * np.log(share)).sum())
    assert geometry.effective_rank(x, center=center) == pytest.approx(expected, rel=1e-9)


def test_effective_rank_of_k_equal_directions_is_k_whatever_their_common_offset() -> None:
    corners = np.vstack([np.eye(6)[:4], -np.eye(6)[:4]]) + 100.0
    assert geometry.effective_rank(corners) == pytest.approx(4.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_effective_rank_of_a_collapsed_embedding_is_zero_not_full_of_rounding(dtype: type) -> None:
    collapsed = np.tile(np.random.default_rng(0).normal(size=32), (500, 1)).astype(dtype)
    assert geometry.effective_rank(collapsed) == 0.0


def test_effective_rank_of_a_line_is_one_in_float32() -> None:
    line = np.outer(np.linspace(1, 2, 300), np.random.default_rng(0).normal(size=40)).astype(np.float32)
    assert geometry.effective_rank(line) == pytest.approx(1.0, abs=0.05)


def test_geometry_gathers_the_single_measures_and_says_what_the_pairs_are() -> None:
    x, labels = cells(), np.arange(60) % 3
    of_labels = geometry.geometry(x, labels=labels)
    assert (of_labels.cells, of_labels.width, of_labels.positives) == (60, 7, "labels")
    assert of_labels.mean_cosine == pytest.approx(geometry.mean_cosine(x))
    assert of_labels.uniformity == pytest.approx(geometry.uniformity(x))
    assert of_labels.effective_rank == pytest.approx(geometry.effective_rank(x))
    assert of_labels.alignment == pytest.approx(geometry.label_alignment(x, labels))
    of_views = geometry.geometry(x, labels=labels, views=(x, cells(seed=4)))
    assert of_views.positives == "views"
    assert of_views.alignment == pytest.approx(geometry.alignment(x, cells(seed=4)))
    bare = geometry.geometry(x)
    assert (bare.alignment, bare.positives) == (None, None)


def test_geometry_leaves_the_embedding_as_it_is() -> None:
    x = cells()
    before = x.copy()
    geometry.geometry(x, labels=np.arange(60) % 2)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones(5), r"shape \(5,\)"),
        (np.array([["a", "b"], ["c", "d"]]), "expected numbers"),
        (np.ones((1, 3)), "1 cells x 3 dimensions"),
        (np.array([[1.0, np.nan], [1.0, 2.0], [np.inf, 0.0]]), "2 of 3 cells have NaN or infinite"),
        (np.array([[0.0, 0.0], [1.0, 2.0]]), "1 of 2 cells have an embedding of length 0"),
    ],
)
def test_an_unusable_embedding_is_named(bad: NDArray[np.generic], message: str) -> None:
    with pytest.raises(InputError, match=message):
        geometry.geometry(bad)
