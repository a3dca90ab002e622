"""The benchmark of drug response: its splits and methods on made data, its peers, and the comparison of vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cell_lm.data import from_anndata
from typed_cells import tiny_model, typed_adata

pytest.importorskip("benchmarks", reason="benchmarks are not part of a source distribution")
pytest.importorskip("rdkit", reason="molecules need RDKit")
from benchmarks import drug_response
from benchmarks.parts import response_peers
from benchmarks.parts.response_cells import Compared, Refinement
from benchmarks.parts.response_made import made
from benchmarks.parts.response_methods import METHODS, drug_mean
from benchmarks.parts.response_peers import PEERS
from benchmarks.parts.response_sets import KINDS, Data, Task, splits, task


@pytest.fixture(scope="module")
def data() -> Data:
    return made(lines=80, genes=200)


@pytest.fixture(scope="module")
def unseen(data: Data) -> Task:
    return task(data, splits(data, "cold_line", None)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_no_test_pair_is_trained_on_and_what_is_unseen_is_unseen(data: Data, kind: str) -> None:
    for split in splits(data, kind, None):
        work = task(data, split)
        trained = np.isfinite(work.train)
        assert work.test.any()
        assert not (work.test & trained).any()
        assert not (work.test & work.validation).any()
        assert work.new_lines.any() == (kind in ("cold_line", "cold_both", "cold_tissue"))
        assert work.new_drugs.any() == (kind in ("cold_drug", "cold_both"))
        assert work.new_lines[np.nonzero(work.test)[0]].all() or kind in ("warm", "cold_drug")
        assert work.new_drugs[np.nonzero(work.test)[1]].all() or kind in ("warm", "cold_line", "cold_tissue")


@pytest.mark.parametrize("name", ["deepcdr", "gin_mlp"])
def test_peers_learn_from_the_training_pairs_alone(name: str, unseen: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_peers, "EPOCHS", 3)
    monkeypatch.setattr(response_peers, "BATCH", 64)
    found = PEERS[name](unseen).mean
    assert np.isfinite(found[unseen.test]).all()
    assert np.isnan(found[~unseen.test]).all()
    truth = unseen.data.Y[unseen.test]
    assert np.corrcoef(found[unseen.test], truth)[0, 1] > 0.3, "the kinds of molecules differ in their means"
    blind = replace(unseen, data=replace(unseen.data, Y=np.where(unseen.test, 99.0, unseen.data.Y)))
    # sums of torch may differ in their last bits; a leak of 99 would not
    np.testing.assert_allclose(PEERS[name](blind).mean[unseen.test], found[unseen.test], atol=0.05)


@pytest.mark.parametrize("name", ["ridge", "low_rank", "tissue_mean"])
def test_methods_are_blind_to_the_test_pairs(name: str, unseen: Task) -> None:
    blind = replace(unseen, data=replace(unseen.data, Y=np.where(unseen.test, 99.0, unseen.data.Y)))
    np.testing.assert_array_equal(METHODS[name](blind).mean[unseen.test], METHODS[name](unseen).mean[unseen.test])


def test_scores_of_the_mean_of_a_drug_are_none_within_drugs(unseen: Task) -> None:
    found = drug_response.scores(unseen, drug_mean(unseen))
    assert abs(float(found["pearson_per_drug"] or 0.0)) < 1e-9  # type: ignore[arg-type]
    assert float(found["pearson"]) > 0.5  # type: ignore[arg-type]


def test_vectors_are_compared_under_one_ridge(data: Data, unseen: Task, capsys: pytest.CaptureFixture[str]) -> None:
    noise, few = np.random.default_rng(0).normal(size=(len(data.lines), 5)), data.X[:, :5]
    compared = Compared({})
    compared.add(unseen, {"noise": noise, "all": data.X}, few, None)
    compared.show("made", "cold_line")
    mean = {name: values[0] for name, values in compared.scores.items()}
    assert set(mean) == {"genes", "pca", "noise", "all", "genes + pca", "genes + noise", "genes + all"}
    assert mean["noise"] < mean["genes"] < mean["all"]
    assert "made     cold_line    genes" in capsys.readouterr().out


def test_fine_tuning_on_responses_uses_the_training_lines_alone() -> None:
    cells, model = from_anndata(typed_adata(120, seed=3)), tiny_model()
    kinds = typed_adata(120, seed=3).obs["cell_type"].astype("category").cat.codes.to_numpy()
    responses = np.eye(4)[kinds] + 0.1 * np.random.default_rng(0).normal(size=(120, 4))
    tuned, rows = Refinement(model, cells), np.arange(80)
    found = tuned(responses[rows], rows)
    assert np.isfinite(found).all()
    assert found.shape == (120, model.config.width)
    before = tuned.before.numpy()
    assert _explained(found, responses) > _explained(before, responses)
    np.testing.assert_array_equal(tuned(responses[rows], rows), found)
    np.testing.assert_allclose(before, tuned.readout.refine(tuned.before).detach().numpy(), atol=1e-6)


def _explained(vectors: np.ndarray, responses: np.ndarray) -> float:
    """Return the fraction of the variance of the other lines that a ridge on the first 80 explains."""
    x = vectors - vectors[:80].mean(axis=0)
    x = x / x[:80].std()
    weights = np.linalg.solve(
        x[:80].T @ x[:80] + 8 * np.eye(x.shape[1]), x[:80].T @ (responses[:80] - responses[:80].mean(axis=0))
    )
    off = responses[80:] - responses[:80].mean(axis=0) - x[80:] @ weights
    return float(1 - (off**2).sum() / ((responses[80:] - responses[:80].mean(axis=0)) ** 2).sum())
