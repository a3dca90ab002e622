"""The parts of the regressor against what is known of them: closed forms, conditionals, conformal quantiles, graphs."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from cell_lm.data.response.molecules import read_molecules
from cell_lm.tasks.response.conformal import calibrate, conformal_factor, factor_for
from cell_lm.tasks.response.core import _calibrated
from cell_lm.tasks.response.drugs import DrugModel, Structures
from cell_lm.tasks.response.gaussian import condition, fit_covariance
from cell_lm.tasks.response.graphs import Batch, MoleculeEncoder, fit_graph_correction
from cell_lm.tasks.response.impute import drug_scale, soft_impute
from cell_lm.tasks.response.network import fit_network
from cell_lm.tasks.response.packing import unpack_factors
from cell_lm.tasks.response.ridge import STRENGTHS, _leave_one_out_ridge, fit_gene_weighted, fit_low_rank
from planted_response import molecules


def low_rank(lines: int = 80, drugs: int = 20, rank: int = 2, noise: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(lines, rank)) @ rng.normal(size=(rank, drugs)) + noise * rng.normal(size=(lines, drugs))


def test_gaps_of_a_low_rank_matrix_are_filled_and_the_rest_is_unchanged() -> None:
    truth = low_rank()
    gaps = np.random.default_rng(1).random(truth.shape) < 0.2
    filled = soft_impute(np.where(gaps, np.nan, truth), shrinkage=1.0)
    assert np.array_equal(filled[~gaps], truth[~gaps])
    assert np.corrcoef(filled[gaps], truth[gaps])[0, 1] > 0.97


def test_the_scale_of_a_drug_ignores_gaps_and_is_undone_exactly() -> None:
    Y = low_rank() * 3 + np.arange(20)
    Y[::3, 4] = np.nan
    scale = drug_scale(Y)
    assert scale.mean[4] == pytest.approx(np.nanmean(Y[:, 4]))
    assert scale.restore(scale.standardise(Y))[1] == pytest.approx(Y[1])


def test_the_closed_form_is_leave_one_out_with_the_strength_held() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 8))
    X -= X.mean(axis=0)
    y = X @ rng.normal(size=8) + rng.normal(size=30)
    y -= y.mean()
    values, vectors = np.linalg.eigh(X @ X.T)
    dual = _leave_one_out_ridge(np.maximum(values, 0), vectors, y[:, None])

    def left_out(strength: float) -> float:
        errors = []
        for row in range(30):
            rest = np.arange(30) != row
            centre, mean = X[rest].mean(axis=0), y[rest].mean()
            A, b = X[rest] - centre, y[rest] - mean
            slope = np.linalg.solve(A.T @ A + strength * np.eye(8), A.T @ b)
            errors.append(y[row] - mean - (X[row] - centre) @ slope)
        return float(np.mean(np.square(errors)))

    unit = np.maximum(values, 0).mean()
    best = min(STRENGTHS * unit, key=left_out)
    assert X.T @ dual[:, 0] == pytest.approx(Ridge(best, fit_intercept=False).fit(X, y).coef_, rel=1e-6)


def test_both_ridges_find_the_genes_that_matter() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 300))
    truth = np.zeros((300, 6))
    truth[:5] = rng.normal(size=(5, 6))
    Y = X @ truth + 0.3 * rng.normal(size=(120, 6))
    Y = (Y - Y.mean(axis=0)) / Y.std(axis=0)
    new = rng.normal(size=(60, 300))
    for weights in (fit_low_rank(X - X.mean(axis=0), Y), fit_gene_weighted(X, Y, top=40)):
        found = [np.corrcoef(new @ weights[:, k], new @ truth[:, k])[0, 1] for k in range(6)]
        assert np.mean(found) > 0.55
    assert (fit_gene_weighted(X, Y, top=40) != 0).sum(axis=0).max() <= 40


def test_the_covariance_of_rows_with_gaps_is_found_and_conditioning_is_exact() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    truth = root @ root.T
    rows = rng.multivariate_normal(np.zeros(6), truth, size=600)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    found = fit_covariance(rows, steps=8, prior=0.0)
    assert np.abs(found - truth).max() < 0.2 * truth.max()
    given = np.array([1.0, np.nan, -2.0, np.nan, np.nan, np.nan])
    result, known, rest = condition(truth, given), [0, 2], [1, 3, 4, 5]
    gain = truth[np.ix_(rest, known)] @ np.linalg.inv(truth[np.ix_(known, known)])
    assert result.mean[rest] == pytest.approx(gain @ given[known], rel=1e-3)
    exact = np.diag(truth)[rest] - np.diag(gain @ truth[np.ix_(known, rest)])
    kept = exact > 0.01 * np.diag(truth)[rest]
    assert result.spread[rest][kept] ** 2 == pytest.approx(exact[kept], rel=1e-2)
    assert result.mean[known] == pytest.approx([1.0, -2.0])


def test_the_prior_draws_covariances_to_a_factor_model_and_leaves_variances() -> None:
    rows = low_rank(200, 12, noise=1.0)
    plain, without, with_two = (fit_covariance(rows, factors=k, prior=w) for k, w in ((0, 0.0), (0, 5.0), (2, 5.0)))
    off = ~np.eye(12, dtype=bool)
    share = 200 / (200 + 5.0 * 12)  # of the lines; a model without factors has no covariances
    assert without[off] == pytest.approx(share * plain[off])
    for drawn in (without, with_two):
        assert np.diag(drawn) == pytest.approx(np.diag(plain))
    spread = np.sqrt(np.diag(plain))
    values, vectors = np.linalg.eigh(plain / np.outer(spread, spread))
    model = (vectors[:, -2:] * values[-2:]) @ vectors[:, -2:].T * np.outer(spread, spread)
    assert with_two[off] == pytest.approx((share * plain + (1 - share) * model)[off], rel=1e-3)
    assert np.linalg.eigvalsh(with_two).min() > 0


def test_the_prior_helps_where_lines_are_hardly_more_than_drugs() -> None:
    rng, errors = np.random.default_rng(1), {0.0: 0.0, 2.0: 0.0}
    loadings = rng.normal(size=(4, 60))
    made = rng.normal(size=(160, 4)) @ loadings + 1.5 * rng.normal(size=(160, 60))
    rows, new = made[:80].copy(), made[80:]
    rows[rng.random(rows.shape) < 0.3] = np.nan
    given = np.where(rng.random(new.shape) < 0.5, new, np.nan)
    for prior in errors:
        covariance = fit_covariance(rows, factors=5, prior=prior)
        for known, truth in zip(given, new, strict=True):
            hidden = np.isnan(known)
            errors[prior] += float(((condition(covariance, known).mean - truth)[hidden] ** 2).sum())
    assert errors[2.0] < 0.9 * errors[0.0]


def test_the_conformal_factor_covers_new_lines_whatever_the_number_of_pairs_of_a_line() -> None:
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(300):
        scale, sizes = rng.lognormal(0, 0.6, 41), rng.integers(2, 60, 41)
        scores = [np.abs(scale[k] * rng.normal(size=sizes[k])) for k in range(41)]
        lines = np.repeat(np.arange(40), sizes[:40])
        inside.append(np.mean(scores[40] <= conformal_factor(np.concatenate(scores[:40]), lines, 0.9)))
    assert 0.88 < np.mean(inside) < 0.95


def test_a_line_with_many_pairs_weighs_like_one_with_few() -> None:
    scores = np.concatenate([np.full(1000, 5.0), np.arange(1, 20) / 10])
    lines = np.concatenate([np.zeros(1000, np.int64), np.arange(1, 20)])
    assert conformal_factor(scores, lines, 0.5) == pytest.approx(1.1)
    assert factor_for({0: 2.0, 10: 1.0}, 0) == 2.0
    assert 1.0 < factor_for({0: 2.0, 10: 1.0}, 3) < 2.0


def test_numbers_of_drugs_that_few_lines_have_are_not_calibrated() -> None:
    residuals = low_rank(lines=100, drugs=60)
    residuals[12:, 30:] = np.nan  # 12 lines have more than 30
    halves = np.arange(100) % 2 == 0
    folds = [(mask, fit_covariance(residuals[~mask], steps=1)) for mask in (halves, ~halves)]
    assert set(calibrate(residuals, folds, confidence=0.9, revealed=(0, 10, 40))) == {0, 10}


def test_intervals_of_drugs_not_measured_in_known_lines_hold_what_they_promise() -> None:
    inside = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=(100, 8)) @ rng.normal(size=(8, 60)) / np.sqrt(8) + 0.5 * rng.normal(size=(100, 60))
        residuals = np.where(rng.random(truth.shape) < 0.1, np.nan, truth)
        values, arrays = _calibrated(residuals, 0.9, seed)
        for own, row in zip(truth, residuals, strict=True):
            found, hidden = condition(arrays["covariance"], row), np.isnan(row)
            factor = factor_for(unpack_factors(values["factors"]), int((~hidden).sum()))
            inside.append((np.abs(own - found.mean) <= factor * found.spread)[hidden])
    assert 0.88 <= np.concatenate(inside).mean() <= 0.92


def test_a_network_that_has_nothing_to_learn_says_nothing() -> None:
    rng = np.random.default_rng(0)
    network = fit_network(rng.normal(size=(80, 30)), rng.normal(size=(80, 5)), members=2)
    assert np.abs(network.predict(rng.normal(size=(20, 30)))).mean() < 0.15


@pytest.fixture(scope="module")
def structures() -> Structures:
    return Structures.of(list(read_molecules(molecules(), where="made").values()))


def test_a_new_molecule_takes_mean_and_profile_from_its_scaffold(structures: Structures) -> None:
    scaffold = np.repeat([0, 1, 2], 12)
    profiles = np.random.default_rng(0).normal(size=(3, 40))[scaffold]
    means, test = 3.0 * scaffold, np.arange(0, 36, 6)
    rest = np.setdiff1d(np.arange(36), test)
    model = DrugModel(structures[rest], means[rest], np.ones(len(rest)), profiles[rest], trees=30)
    assert model.mean(structures[test]) == pytest.approx(means[test], abs=1.2)
    weights = model.weights(structures[test])
    for row, drug in enumerate(test):
        assert np.corrcoef(weights[row] @ profiles[rest], profiles[drug])[0, 1] > 0.9


def test_the_graph_encoder_is_blind_to_the_order_of_atoms_and_begins_at_zero() -> None:
    graphs = Structures.of(list(read_molecules({"a": "CCO", "b": "OCC", "c": "c1ccncc1"}, where="m").values())).graphs
    module = MoleculeEncoder()
    vectors = module.encode(Batch.of(graphs))
    assert vectors[0].detach().numpy() == pytest.approx(vectors[1].detach().numpy(), abs=1e-5)
    assert np.abs(vectors[0].detach().numpy() - vectors[2].detach().numpy()).max() > 1e-2
    assert module(Batch.of(graphs)).abs().max() == 0


def test_the_graph_correction_learns_an_effect_of_the_molecule_and_no_noise(structures: Structures) -> None:
    graphs, scaffold = structures.graphs, np.repeat([-1.0, 0.0, 1.0], 12)
    test = np.arange(0, 36, 5)
    rest = np.setdiff1d(np.arange(36), test)
    few = [graphs[row] for row in rest]
    learned = fit_graph_correction(few, scaffold[rest]).predict([graphs[row] for row in test])
    assert np.corrcoef(learned, scaffold[test])[0, 1] > 0.6
    noise = fit_graph_correction(few, np.random.default_rng(0).normal(size=len(rest)))
    assert np.std(noise.predict([graphs[row] for row in test])) < 0.5
