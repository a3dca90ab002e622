"""Self-training, the mixture and the calibration on made components of cells."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss
from threadpoolctl import threadpool_limits

from cell_lm.tasks.sensitivity.fitting import fit
from cell_lm.tasks.sensitivity.mixture import fit_mixture
from cell_lm.tasks.sensitivity.self_training import best_of_starts, regression, self_train


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads slow each other down on problems of this size."""
    with threadpool_limits(1):
        yield


def made(cells: int, prevalence: float, distance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two normal groups that differ in one of ten directions, which is not that of the largest variance."""
    rng = np.random.default_rng(seed)
    codes = (rng.permutation(cells) < round(prevalence * cells)).astype(np.int64)
    points = rng.normal(0, 0.3, (cells, 10))
    points[:, 0] = rng.normal(0, 1, cells)
    points[:, 2] += 0.3 * distance * codes
    return points, codes


def few(codes: np.ndarray, each: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(codes == kind))[:each] for kind in (0, 1)]))


@pytest.mark.parametrize("prevalence", [0.1, 0.5, 0.9])
def test_prevalence_is_estimated_from_scores_that_form_two_groups(prevalence: float) -> None:
    points, codes = made(1000, prevalence, 5.0)
    rows = few(codes, 3)
    found = fit_mixture(points[:, 2], rows, codes[rows])
    assert found.prevalence == pytest.approx(prevalence, abs=0.03)
    assert found.separation == pytest.approx(5.0, abs=0.5)
    stated = fit_mixture(points[:, 2], rows, codes[rows], prior=0.3)
    assert stated.prevalence == 0.3


@pytest.mark.parametrize("prevalence", [0.1, 0.9])
def test_unlabelled_cells_help_and_an_assumed_half_harms_where_groups_are_unequal(prevalence: float) -> None:
    points, codes = made(300, prevalence, 6.0, seed=3)
    scores = {}
    for seed in range(2):
        rows = few(codes, 3, seed)
        rest = np.setdiff1d(np.arange(len(codes)), rows)
        for name, line in {
            "labelled alone": regression(points[rows], codes[rows]),
            "estimated": best_of_starts(points, rows, codes[rows]),
            "half": self_train(points, rows, codes[rows], prior=0.5),
        }.items():
            scores.setdefault(name, []).append(f1_score(codes[rest], line(points[rest]) > 0, average="macro"))
    mean = {name: np.mean(values) for name, values in scores.items()}
    assert mean["estimated"] > 0.95
    assert mean["estimated"] > mean["labelled alone"]
    assert mean["estimated"] > mean["half"] + 0.3


def test_with_labels_enough_the_calibration_comes_from_left_out_cells() -> None:
    points, codes = made(500, 0.5, 2.0)
    rows = few(codes, 100)
    rest = np.setdiff1d(np.arange(len(codes)), rows)
    found = fit(points, 0, rows, codes[rows])
    assert found.calibrated == "left out"
    assert [each[:2] for each in found.losses] == [(10, True), (10, False)]
    p = found.probabilities(points[rest])
    too_sure = np.clip(1 / (1 + np.exp(-3 * found.scores(points[rest]))), 1e-6, 1)
    assert log_loss(codes[rest], p) < log_loss(codes[rest], too_sure)
    assert abs(p.mean() - codes[rest].mean()) < 0.06
    few_labels = fit(points, 0, few(codes, 3), codes[few(codes, 3)])
    assert few_labels.calibrated == "mixture"


def test_a_stated_prior_moves_the_probabilities() -> None:
    points, codes = made(200, 0.5, 2.0)
    rows = few(codes, 40)
    means = [fit(points, 0, rows, codes[rows], prior=prior).probabilities(points).mean() for prior in (0.1, 0.5, 0.9)]
    assert means[0] < means[1] - 0.1 < means[2] - 0.2


def test_without_unlabelled_cells_the_regression_is_left_as_it_is() -> None:
    points, codes = made(8, 0.5, 6.0)
    found = fit(points, 0, np.arange(8), codes, self_training=False)
    assert (found.calibrated, found.slope, found.intercept) == ("regression", 1.0, 0.0)
