"""The demo from end to end, on fewer cells, with a tiny model and two steps a fold: what it promises is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from anndata import AnnData

from cell_lm import tl
from cell_lm.data.demo import HELD_OUT, demo_cells
from cell_lm.demo import DemoResult, folds, run, run_demo
from cell_lm.demo.run import LEFT
from cell_lm.errors import InputError
from cell_lm.evaluation import Splits, cells_hash
from cell_lm.model import CellLM
from cell_lm.tasks.annotation import CellTypeClassifier
from cell_lm.tasks.classifier import Classifier

FOLDS = ({"human1", "OvC_patient_11"}, {"human2", "OvC_patient_12"}, {"human3", "OvC_patient_13"})


@dataclass
class Demo:
    """A demo, and the donors whose cells each fold gave to the encoder, to the initial encoder and to the fits."""

    out: Path
    result: DemoResult
    learned: dict[str, list[set[str]]] = field(default_factory=dict)


def a_tenth(*, harmonise: bool = False) -> dict[str, AnnData]:
    """Return a tenth of the packaged cells, of every donor and type."""
    packaged = demo_cells(harmonise=harmonise)
    return {
        name: adata[(adata.obs.groupby(["donor", "cell_type"], observed=True).cumcount() % 10 == 0).to_numpy()].copy()
        for name, adata in packaged.items()
    }


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    out = tmp_path_factory.mktemp("demo") / "demo"
    learned: dict[str, list[set[str]]] = {"pretrain": [], "initial_model": [], "fit": []}

    def recorded(name: str) -> Any:
        wrapped = getattr(folds, name)

        def call(datasets: Any, *arguments: Any, **options: Any) -> Any:
            learned[name].append({donor for cells in datasets for donor in cells.obs["donor"]})
            return wrapped(datasets, *arguments, **options)

        return call

    def recorded_fit(fit: Callable[..., Classifier]) -> Callable[..., Classifier]:
        def recorded(self: Classifier, data: Any, *arguments: Any, **options: Any) -> Classifier:
            learned["fit"].append(set(data.obs["donor"]))
            return fit(self, data, *arguments, **options)

        return recorded

    with pytest.MonkeyPatch.context() as patch:
        for name in ("pretrain", "initial_model"):
            patch.setattr(folds, name, recorded(name))
        for kind in (Classifier, CellTypeClassifier):
            patch.setattr(kind, "fit", recorded_fit(kind.fit))
        patch.setattr(run, "demo_cells", a_tenth)
        result = run_demo(out, steps=2, preset="tiny")
    return Demo(out, result, learned)


@pytest.fixture(scope="module")
def cells(demo: Demo) -> AnnData:
    return anndata.read_h5ad(demo.out / "cells.h5ad")


def test_no_donor_is_on_both_sides_of_any_fold(demo: Demo, cells: AnnData) -> None:
    everybody, order = set().union(*FOLDS), (2, 0, 1)  # the last fold runs first
    rest = [everybody - FOLDS[number] for number in order]
    assert demo.learned["pretrain"] == rest
    assert demo.learned["initial_model"] == rest
    assert demo.learned["fit"] == [donors for donors in rest for _ in demo.result.annotation.methods]
    for number, left_out in enumerate(FOLDS, 1):
        folder = demo.out if number == 3 else demo.out / "folds" / str(number)
        assert json.loads((folder / "data.json").read_text())["cells"] == (~cells.obs["donor"].isin(left_out)).sum()


def test_the_splits_that_are_saved_leave_every_cell_out_once(demo: Demo, cells: AnnData) -> None:
    splits = Splits.load(demo.out / "splits.json", cells=cells_hash(cells.obs_names, cells.X))
    donors = cells.obs["donor"].astype(str)
    assert [set(donors.iloc[split.test]) for split in splits] == list(FOLDS)
    assert not any(set(donors.iloc[split.train]) & set(donors.iloc[split.test]) for split in splits)
    assert sorted(np.concatenate([split.test for split in splits])) == list(range(cells.n_obs))
    for number, split in enumerate(splits, 1):
        assert (cells.obs["fold"].iloc[split.test] == number).all()
        assert split.rare == tuple(sorted(split.rare))
    assert "epsilon" in splits.splits[0].rare


def test_types_that_a_fold_has_few_cells_of_are_named(demo: Demo) -> None:
    assert "epsilon (no training cells with human1 left out)" in demo.result.rare
    few = {"11": 10, "12": 10, "13": 2}
    told = "; ".join(f"{cells} training cells with OvC_patient_{donor} left out" for donor, cells in few.items())
    assert f"B cell ({told})" in demo.result.rare
    assert "no training cells with human1 left out" in demo.result.report.read_text(encoding="utf-8")


def test_the_cells_carry_embedding_labels_and_their_own_counts(cells: AnnData) -> None:
    packaged = a_tenth()
    assert cells.n_obs == sum(adata.n_obs for adata in packaged.values())
    assert cells.obsm["X_cell_lm"].shape == (cells.n_obs, 32)
    assert np.isfinite(cells.obsm["X_cell_lm"]).all()
    assert set(cells.obs["cell_lm_label"]) <= set(cells.obs["cell_type"])
    assert cells.obs["cell_lm_confidence"].between(0, 1).all()
    for name, adata in packaged.items():
        part = cells[cells.obs["dataset"] == name, adata.var_names]
        assert (part.X != adata.X).nnz == 0


def test_a_type_has_one_name_in_both_data_sets(cells: AnnData) -> None:
    assert cells.obs.groupby("cell_type", observed=True)["dataset"].nunique()[["endothelial", "macrophage"]].eq(2).all()
    assert "Endothelial" not in set(cells.obs["cell_type"])
    assert "Endothelial" in set(cells.obs["published_type"])


def test_model_and_classifier_that_are_left_are_those_of_the_last_fold(demo: Demo, cells: AnnData) -> None:
    held_out = cells.obs["role"] == "held out"
    assert set(cells.obs["donor"][held_out]) == set(HELD_OUT.values()) == FOLDS[2]
    assert not set(cells.obs["donor"][~held_out]) & FOLDS[2]
    assert CellTypeClassifier.load(demo.out / "classifier").reference_.cells == (~held_out).sum()
    assert (cells.obs["left_out_label"] == cells.obs["cell_lm_label"].astype(str))[held_out].all()
    part = cells[:20].copy()
    expected = part.obsm.pop("X_cell_lm")
    tl.embed(part, CellLM.from_pretrained(demo.out / "model"))
    assert np.allclose(part.obsm["X_cell_lm"], expected, atol=1e-5)
    assert {item.name for item in (demo.out / "folds" / "1").iterdir()} == {"config.json", "data.json", "log.jsonl"}


def test_the_scores_are_those_of_all_cells_while_left_out(demo: Demo, cells: AnnData) -> None:
    annotation = demo.result.annotation
    right = (cells.obs["cell_type"].astype(str) == cells.obs["left_out_label"].astype(str)).mean()
    assert annotation.scores.accuracy == pytest.approx(right)
    assert annotation.scores.cells == cells.n_obs
    rivals = {one.name: one for one in annotation.methods}
    assert rivals["logistic regression on the genes"].accuracy > 0.8  # a rival that was not starved
    assert rivals["always the most frequent type"].macro_f1.mean < 0.1


def test_every_score_and_difference_lies_in_its_interval(demo: Demo) -> None:
    saved = json.loads((demo.out / "scores.json").read_text())
    own = next(iter(saved["methods"].values()))["macro_f1"]["mean"]
    assert set(saved["donors"]) == set().union(*FOLDS)
    assert len(saved["methods"]) == 7
    for one in saved["methods"].values():
        for value in filter(None, (one["macro_f1"], one["difference"])):
            assert value["interval"][0] <= value["mean"] <= value["interval"][1]
        if one["difference"]:
            assert one["difference"]["mean"] == pytest.approx(own - one["macro_f1"]["mean"], abs=2e-4)


def test_the_report_holds_the_table_and_loads_nothing(demo: Demo) -> None:
    page = demo.result.report.read_text(encoding="utf-8").replace("\u00a0", " ")
    for one in demo.result.annotation.methods:
        assert one.name in page
        assert f"{one.macro_f1.mean:.3f} ({one.macro_f1.low:.3f} to {one.macro_f1.high:.3f})" in page
    for donor in set().union(*FOLDS):
        assert donor.replace("_", "_<wbr>") in page
    assert 'src="http' not in page


def test_the_report_links_to_the_explorer_of_the_same_cells(demo: Demo) -> None:
    page, explorer = (path.read_text(encoding="utf-8") for path in (demo.result.report, demo.out / "explore.html"))
    assert '<a href="explore.html">Explore these cells</a>' in page
    assert '"color":"cell_type"' in explorer
    assert '"basis":"X_cell_lm"' in explorer


def test_a_demo_replaces_a_demo_and_nothing_else(demo: Demo, tmp_path: Path) -> None:
    assert {item.name for item in demo.out.iterdir()} <= LEFT
    (tmp_path / "precious").touch()
    with pytest.raises(InputError, match="--force"):
        run_demo(tmp_path, steps=1)
    with pytest.raises(InputError, match="something else than a demo"):
        run_demo(tmp_path, steps=1, force=True)
    assert (tmp_path / "precious").exists()
