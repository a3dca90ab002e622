"""The regressor on made data: every kind of pair, its intervals, its folder, and input that cannot be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from cell_lm.data.response import ResponseTable, response_table
from cell_lm.errors import ConfigError, InputError, ModelError
from cell_lm.tasks import Classifier, DrugResponseRegressor, Estimator, NotFittedError
from planted_response import READ, lines, molecules, responses

NEW = {"new-a": "CC(C)Cc1ccccc1", "new-b": "CC(C)CC1CCNCC1"}


@pytest.fixture(scope="module")
def fitted() -> DrugResponseRegressor:
    adata, latent = lines()
    return DrugResponseRegressor(members=0, trees=20).fit(adata, responses(adata, latent), **READ)


@pytest.fixture(scope="module")
def unseen() -> tuple:
    """Other lines and their responses."""
    adata, latent = lines(40, seed=1)
    return adata, responses(adata, latent, seed=5)


def split(table: ResponseTable, k: int) -> tuple[ResponseTable, ResponseTable]:
    """Return k pairs of each line, and the others."""
    order = table.pairs.sample(frac=1, random_state=0).groupby("line").cumcount().sort_index().to_numpy()
    return table.keep(order < k), table.keep(order >= k)


def twice(adata: AnnData) -> AnnData:
    """The same lines, the first of them under the name of the second."""
    return AnnData(
        adata.X, obs=adata.obs.set_index(pd.Index([adata.obs_names[1], *adata.obs_names[1:]])), var=adata.var
    )


def per_drug(table: pd.DataFrame, truth: ResponseTable) -> float:
    joined = table.merge(truth.pairs, on=["line", "drug"], suffixes=("", "_true"))
    return float(
        joined.groupby("drug").apply(lambda g: g["response"].corr(g["response_true"]), include_groups=False).mean()
    )


def test_unseen_lines_are_predicted_by_the_planted_signal(fitted: DrugResponseRegressor, unseen: tuple) -> None:
    adata, truth = unseen
    scores = fitted.evaluate(adata, truth, unseen_lines=True, **READ)
    assert scores.pearson_per_drug > 0.6  # the ceiling is 1 / sqrt(1 + .64 + .16) = .745
    assert scores.pearson > scores.pearson_per_drug
    assert scores.normalised_pearson is not None
    assert fitted.score(adata, truth, **READ) == pytest.approx(scores.pearson_per_drug)


def test_genes_that_are_shuffled_teach_nothing(unseen: tuple) -> None:
    adata, latent = lines()
    table = responses(adata, latent)
    adata.X = adata.X[np.random.default_rng(0).permutation(adata.n_obs)]
    other, truth = unseen
    assert DrugResponseRegressor(members=0, trees=20).fit(adata, table, **READ).score(other, truth, **READ) < 0.25


def test_measured_drugs_of_an_unseen_line_tell_of_the_others(fitted: DrugResponseRegressor, unseen: tuple) -> None:
    adata, truth = unseen
    given, hidden = split(truth, 8)
    blind, seeing = (fitted.predict(adata, measured=each, **READ) for each in (None, given))
    assert per_drug(seeing, hidden) > per_drug(blind, hidden) + 0.15
    assert set(blind["known"]) == {"new line"}
    assert set(seeing["known"]) == {"measured", "line with measured drugs"}
    widths = [float((each["high"] - each["low"])[each["known"] != "measured"].mean()) for each in (blind, seeing)]
    assert widths[1] < 0.8 * widths[0]


def test_pairs_that_were_measured_come_back_as_measured(fitted: DrugResponseRegressor, unseen: tuple) -> None:
    adata, truth = unseen
    given, _ = split(truth, 3)
    table = fitted.predict(adata, measured=given, **READ).query("known == 'measured'")
    joined = table.merge(given.pairs, on=["line", "drug"])
    assert len(joined) == len(table) == len(given)
    assert joined["response_x"].to_numpy() == pytest.approx(joined["response_y"].to_numpy())
    assert table["low"].isna().all()


def test_known_lines_use_what_was_measured_in_them(fitted: DrugResponseRegressor) -> None:
    adata, latent = lines()
    whole = responses(adata, latent, measured=1.1)
    was = fitted.predict()
    gaps = was[was["known"] == "known line"]
    assert 200 < len(gaps) < 600
    joined = gaps.merge(whole.pairs, on=["line", "drug"])
    residual = joined["response_x"] - joined["response_y"]
    assert residual.std() < 1.2  # without the measured drugs it is over 1.5 x sqrt(.8) = 1.34
    pd.testing.assert_frame_equal(fitted.predict(adata, **READ).sort_values(["line", "drug"], ignore_index=True), was)


@pytest.mark.parametrize("k", [0, 5])
def test_intervals_cover_what_they_promise(fitted: DrugResponseRegressor, k: int) -> None:
    adata, latent = lines(80, seed=3)
    given, hidden = split(responses(adata, latent, seed=11), k)
    table = fitted.predict(adata, measured=given if k else None, **READ)
    joined = table.merge(hidden.pairs, on=["line", "drug"], suffixes=("", "_true"))
    inside = joined["response_true"].between(joined["low"], joined["high"]).mean()
    assert 0.85 < inside < 0.95


def test_a_new_molecule_is_predicted_by_its_structure(unseen: tuple, tmp_path: Path) -> None:
    adata, latent = lines()
    table = responses(adata, latent)
    left_out = [name for name in molecules() if name.endswith(("-2", "-7"))]
    rest = table.keep(~table.pairs["drug"].isin(left_out).to_numpy())
    regressor = DrugResponseRegressor(members=0, trees=20, graphs=True).fit(adata, rest, **READ)
    cold, known = regressor.compare(None, table.keep(table.pairs["drug"].isin(left_out).to_numpy()))
    assert set(known["known"]) == {"new drug"}
    assert cold.pearson > 0.75
    assert cold.pearson_per_drug > 0.6
    other, truth = unseen
    both, shown = regressor.compare(other, truth.keep(truth.pairs["drug"].isin(left_out).to_numpy()), **READ)
    assert set(shown["known"]) == {"both new"}
    assert both.pearson_per_drug > 0.4
    assert regressor.model_.cold is not None
    assert regressor.model_.cold.model.correction is not None
    regressor.save(tmp_path / "graphs")
    again = DrugResponseRegressor.load(tmp_path / "graphs").predict(drugs=[], new_drugs=NEW)
    pd.testing.assert_frame_equal(again, regressor.predict(drugs=[], new_drugs=NEW))


def test_a_ranking_weighs_a_drug_against_its_own_mean(fitted: DrugResponseRegressor, unseen: tuple) -> None:
    adata, _ = unseen
    name = str(adata.obs_names[0])
    ranked = fitted.rank_drugs(adata, name, **READ)
    assert ranked["score"].is_monotonic_increasing
    assert not ranked["response"].is_monotonic_increasing
    assert set(ranked["line"]) == {name}
    by_line = fitted.rank_lines(adata, "drug0-1", **READ)
    assert by_line["response"].is_monotonic_increasing
    assert len(by_line) == adata.n_obs
    assert len(fitted.rank_lines(adata, "new-a", new_drugs=NEW, **READ)) == adata.n_obs


def test_a_saved_regressor_predicts_the_same(fitted: DrugResponseRegressor, unseen: tuple, tmp_path: Path) -> None:
    adata, truth = unseen
    fitted.save(tmp_path / "response")
    loaded = Estimator.load(tmp_path / "response")
    assert isinstance(loaded, DrugResponseRegressor)
    assert loaded.get_params() == fitted.get_params()
    given, _ = split(truth, 4)
    arguments = {"measured": given, "new_drugs": NEW, **READ}
    pd.testing.assert_frame_equal(loaded.predict(adata, **arguments), fitted.predict(adata, **arguments))
    with pytest.raises(ModelError, match="it holds a DrugResponseRegressor, not a Classifier"):
        Classifier.load(tmp_path / "response")


def test_the_network_learns_the_signal_and_is_saved(unseen: tuple, tmp_path: Path) -> None:
    adata, latent = lines()
    regressor = DrugResponseRegressor(members=2, folds=2, trees=20).fit(adata, responses(adata, latent), **READ)
    network = regressor.model_.lines.network
    assert network is not None
    assert network.slope > 0.5
    other, truth = unseen
    own = regressor.model_.lines.standardise(np.asarray(other.X, np.float64))
    predicted = regressor.model_.scale.restore(network.predict(own))
    frame = pd.DataFrame(predicted, index=other.obs_names, columns=regressor.drugs_).stack().rename("response")
    frame.index.names = ["line", "drug"]
    assert per_drug(frame.reset_index(), truth) > 0.5
    regressor.save(tmp_path / "r")
    loaded = DrugResponseRegressor.load(tmp_path / "r")
    pd.testing.assert_frame_equal(loaded.predict(other, **READ), regressor.predict(other, **READ))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a, t: (a, t.keep(t.pairs["drug"].eq("drug0-1").to_numpy())), "one drug only"),
        (lambda a, t: (a[:5], t), "5 of its 90 lines have expression, fewer than 10"),
        (lambda a, t: (twice(a), t), "1 lines have more than one row of expression, as 'line0_001'"),
        (lambda a, t: (a, replace(t, pairs=t.pairs.assign(smiles="C1CC"))), "SMILES cannot be read .'drug0-0': 'C1CC'"),
        (lambda a, t: (a[:, :60].copy(), t), "60 of the"),
    ],
    ids=["one drug", "few lines", "a line twice", "structures", "few genes"],
)
@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_what_cannot_be_fitted_is_refused(change, says: str) -> None:
    adata, latent = lines()
    adata, table = change(adata, responses(adata, latent))
    with pytest.raises(InputError, match=says):
        DrugResponseRegressor(members=0, trees=20).fit(adata, table, **READ)


def test_expression_that_is_not_what_it_is_said_to_be_is_refused(fitted: DrugResponseRegressor) -> None:
    adata, latent = lines()
    table = responses(adata, latent)
    adata.X = np.where(adata.X < 7, 0, adata.X)
    with pytest.raises(InputError, match=r"said to be RMA .* of its entries are zero.*log2_tpm"):
        DrugResponseRegressor(members=0, trees=20).fit(adata, table, **READ)
    assert len(DrugResponseRegressor(members=0, trees=20, expression="log2_tpm").fit(adata, table, **READ).lines_) == 90
    with pytest.raises(
        InputError, match=r"not counts.*State what it holds by expression= \(--expression\): rma, log2_tpm or counts"
    ):
        DrugResponseRegressor(members=0, trees=20, expression="counts").fit(adata, table, **READ)
    with pytest.raises(ConfigError, match="expression='tpm'"):
        DrugResponseRegressor(expression="tpm").fit(adata, table, **READ)  # type: ignore[arg-type]


def test_scores_of_fitted_pairs_and_lines_are_refused(fitted: DrugResponseRegressor) -> None:
    adata, latent = lines()
    table = responses(adata, latent)
    with pytest.raises(InputError, match="pairs were in the fit, as line0_000 x drug0-1"):
        fitted.evaluate(adata, table, **READ)
    with pytest.raises(InputError, match="90 lines are also in the fit"):
        fitted.evaluate(adata, table, unseen_lines=True, **READ)


def test_unknown_drugs_lines_and_molecules_are_named(fitted: DrugResponseRegressor, unseen: tuple) -> None:
    adata, truth = unseen
    with pytest.raises(InputError, match=r"as 'drug0_1'\. Did you mean 'drug0-1'"):
        fitted.predict(adata, drugs=["drug0_1"], **READ)
    with pytest.raises(InputError, match="SMILES cannot be read"):
        fitted.predict(adata, new_drugs={"x": "C1CC"}, **READ)
    with pytest.raises(InputError, match="is a drug of the fit"):
        fitted.predict(adata, new_drugs={"drug0-1": "CC"}, **READ)
    with pytest.raises(InputError, match="1 of 40 lines with measured responses are not among"):
        fitted.predict(adata[1:].copy(), measured=truth, **READ)
    with pytest.raises(InputError, match="there is no line 'nobody'"):
        fitted.rank_drugs(adata, "nobody", **READ)
    area = response_table(pd.DataFrame({"line": ["a"], "drug": ["drug0-1"], "auc": [0.5]}), scale="auc")
    with pytest.raises(InputError, match="are auc, those of the fit ln_ic50"):
        fitted.predict(adata, measured=area, **READ)


def test_before_a_fit_there_is_nothing_to_predict() -> None:
    with pytest.raises(NotFittedError):
        DrugResponseRegressor().predict()


def test_vectors_of_the_encoder_without_a_model_are_refused() -> None:
    adata, latent = lines()
    with pytest.raises(ModelError, match="no model"):
        DrugResponseRegressor(cells="both").fit(adata, responses(adata, latent), **READ)


def test_another_rdkit_is_refused(
    fitted: DrugResponseRegressor, unseen: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cell_lm.tasks.response import drugs

    whole = drugs.descriptors
    monkeypatch.setattr(drugs, "descriptors", lambda molecules: whole(molecules)[:, 1:])
    with pytest.raises(ConfigError, match="Install the version of RDKit it was fitted with"):
        fitted.predict(unseen[0], new_drugs={"x": "CCO"}, **READ)
