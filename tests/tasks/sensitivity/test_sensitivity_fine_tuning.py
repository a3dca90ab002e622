"""Fine-tuning of the sensitivity classifier: what is trained, what is saved, and whose scores calibrate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy.special import logit

from cell_lm.errors import ConfigError
from cell_lm.evaluation import linear_head
from cell_lm.model import CellLM
from cell_lm.tasks import DrugSensitivityClassifier, Estimator
from cell_lm.tasks.finetuning import FineTuned, fine_tune, tunable
from cell_lm.tasks.sensitivity.fitting import Trial, fit
from cell_lm.tasks.sensitivity.mixture import fit_mixture
from sensitive_cells import sensitive_adata, z_scored
from typed_cells import tiny_model

QUICK = {"steps": 12, "batch_size": 32, "validate_every": 4, "learning_rate": 3e-3}


@pytest.fixture(autouse=True)
def _one_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try one strength of the head only: that it is chosen is tested elsewhere."""
    monkeypatch.setattr(linear_head, "GRID", (0.1,))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FineTuned]:
    """What every fine-tuning of a test returned."""
    found: list[FineTuned] = []

    def kept(*given: object, **how: object) -> FineTuned:
        found.append(fine_tune(*given, **how))
        return found[-1]

    monkeypatch.setattr(tunable, "fine_tune", kept)
    return found


@pytest.fixture(scope="module")
def model() -> CellLM:
    return tiny_model()


def unchanged(model: CellLM, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("cells", "how"),
    [
        (sensitive_adata(70, labelled=12, strength=2.0), {}),
        (z_scored(sensitive_adata(80, labelled=16, strength=2.0)), {"scale": "scaled"}),
    ],
    ids=["counts", "z-scores"],
)
def test_a_trained_encoder_is_used_and_saved_and_the_given_one_stays(
    model: CellLM, made: list[FineTuned], tmp_path: Path, cells: AnnData, how: dict[str, str]
) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    classifier = DrugSensitivityClassifier(model, fine_tune=QUICK, cache=False).fit(cells, "response", **how)
    assert unchanged(model, before)
    assert classifier.fine_tuned_.startswith("fine-tuned for ")
    assert classifier.encoder_ is made[0].model
    assert not unchanged(classifier.encoder_, before)
    assert classifier.fit_.calibrated == "mixture"
    called = classifier.predict(cells, **how).astype(str)
    assert (called == cells.obs["truth"]).mean() > 0.9
    classifier.save(tmp_path / "sens")
    loaded = Estimator.load(tmp_path / "sens")
    assert isinstance(loaded, DrugSensitivityClassifier)
    np.testing.assert_array_equal(loaded.table(cells, **how)["score"], classifier.table(cells, **how)["score"])
    assert loaded.fine_tuned_ == classifier.fine_tuned_


def test_cells_that_the_encoder_was_trained_without_calibrate(
    model: CellLM, made: list[FineTuned], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials: list[Trial] = []

    def noted(*given: object, trial: Trial, **how: object) -> object:
        trials.append(trial)
        return fit(*given, trial=trial, **how)

    monkeypatch.setattr("cell_lm.tasks.sensitivity.learning.fit", noted)
    adata = sensitive_adata(80, labelled=28, strength=1.5)
    classifier = DrugSensitivityClassifier(model, fine_tune=QUICK).fit(adata, "response")
    (trial,), (tuned,) = trials, made
    assert classifier.fit_.calibrated == "left out"
    assert tuned.trial is not tuned.model
    np.testing.assert_array_equal(trial.left_out, tuned.left_out)
    assert (trial.left_out.sum(), len(trial.points)) == (10, 80)


def test_without_a_trial_the_labels_that_trained_the_encoder_make_it_overconfident() -> None:
    """Points that tell labelled cells apart, but no new ones, as an encoder shows them that has learned by heart."""
    rng = np.random.default_rng(0)
    codes, labelled = np.repeat([0, 1], 30).astype(np.int64), np.arange(60)
    unseen = rng.normal(0, 1, (80, 2))
    by_heart = unseen.copy()
    by_heart[:60, 0] = 0.3 * unseen[:60, 0] + 3 * (codes - 0.5)
    left_out = np.arange(60) % 5 == 0
    before = np.where((np.arange(80) < 60)[:, None] & ~np.append(left_out, [False] * 20)[:, None], by_heart, unseen)
    naive = fit(by_heart, 0, labelled, codes)
    honest = fit(by_heart, 0, labelled, codes, trial=Trial(before, left_out))
    assert np.median(np.abs(naive.probabilities(unseen) - 0.5)) > 0.25
    assert np.median(np.abs(honest.probabilities(unseen) - 0.5)) < 0.15
    few = np.r_[0:5, 30:35]
    alone = fit(by_heart[few], 0, np.arange(10), codes[few], trial=Trial(before[few], np.arange(10) % 5 == 0))
    assert alone.calibrated == "left out"
    assert np.abs(alone.scores(by_heart[few])).max() < logit(0.99)


def test_the_mixture_leaves_out_scores_that_the_labels_were_learned_from() -> None:
    rng = np.random.default_rng(1)
    codes = np.repeat([0, 1], 100).astype(np.int64)
    scores = rng.normal(0, 1, 200) + 3 * codes
    labelled = np.r_[0:40, 100:140]
    shown = scores.copy()
    shown[labelled] += 20 * (codes[labelled] - 0.5)
    alone = fit_mixture(np.delete(scores, labelled), np.empty(0, np.int64), np.empty(0, np.int64))
    found = fit_mixture(shown, labelled, codes[labelled], trained=True)
    assert found.separation == pytest.approx(alone.separation, abs=0.1)
    assert found.prevalence == pytest.approx(0.5, abs=0.05)
    assert abs(fit_mixture(shown, labelled, codes[labelled]).separation - alone.separation) > 0.5


@pytest.mark.parametrize(
    ("sizes", "says"),
    [((3, 3), "there are too few cells to leave any out"), ((20, 3), "the left-out cells lack cells of a label")],
)
def test_the_encoder_is_as_it_was_where_no_cell_of_each_kind_can_be_left_out(
    model: CellLM, sizes: tuple[int, int], says: str
) -> None:
    adata = sensitive_adata(70, labelled=20)
    for kind, size in zip(("resistant", "sensitive"), sizes, strict=True):
        extra = np.flatnonzero(adata.obs["response"] == kind)[size:]
        adata.obs.iloc[extra, adata.obs.columns.get_loc("response")] = None
    classifier = DrugSensitivityClassifier(model, fine_tune=QUICK).fit(adata, "response")
    assert classifier.fine_tuned_.startswith(f"not fine-tuned: {says}")
    assert classifier.encoder_ is model
    frozen = DrugSensitivityClassifier(model).fit(adata, "response")
    np.testing.assert_array_equal(classifier.table(adata)["score"], frozen.table(adata)["score"])
    assert frozen.fine_tuned_ == ""


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, r"fine_tune is 'last', but there is no model.*model= \(--model\)"),
        ({"model": "small", "parts": "genes"}, "fine_tune is 'last', but parts is 'genes'"),
        ({"model": "small", "fine_tune": "head"}, "fine_tune"),
        ({"model": "small", "fine_tune": 3}, "fine_tune is a int"),
    ],
)
def test_what_cannot_be_fine_tuned_is_refused(params: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        DrugSensitivityClassifier(**{"fine_tune": "last", **params}).fit(sensitive_adata(20), "response")
    assert "\n" not in str(caught.value)
