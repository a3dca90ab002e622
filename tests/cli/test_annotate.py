from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest
from anndata import AnnData
from typed import Cli

MakeFile = Callable[..., Path]


@pytest.fixture
def fitted(cli: Cli, make_file: MakeFile, model: Path) -> Path:
    """A classifier of three types."""
    path = make_file("ref.h5ad", cells=90, seed=1)
    out = path.with_name("ann")
    said = cli("annotate", "fit", path, "--label=cell_type", "--groups=donor", "--model", model, "--out", out)
    assert said.code == 0, said.err
    return out


def test_a_fit_tells_what_it_was_fitted_on(cli: Cli, make_file: MakeFile, model: Path, tmp_path: Path) -> None:
    path = make_file(cells=40, change=forget_two)
    said = cli("annotate", "fit", path, "--label=cell_type", "--model", model, "--out", tmp_path / "ann")
    assert said.code == 0, said.err
    assert "fitted on 38 cells of 3 types (2 without a label were left out)" in said.out
    assert f"cell-lm annotate predict my.h5ad --model {tmp_path / 'ann'}" in said.err
    assert {"estimator.json", "arrays.safetensors", "model"} <= {item.name for item in (tmp_path / "ann").iterdir()}


def forget_two(adata: AnnData) -> None:
    adata.obs.loc[["cell3", "cell5"], "cell_type"] = np.nan


def test_predictions_are_written_told_and_scored(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    path = make_file("new.h5ad", cells=60, seed=2, change=forget_two)
    said = cli("annotate", "predict", path, "--model", fitted, "--truth=cell_type")
    assert said.code == 0, said.err
    adata = anndata.read_h5ad(path.with_name("new.annotated.h5ad"))
    assert set(adata.obs["cell_lm_label"]) <= {"type 0", "type 1", "type 2"}
    assert adata.obs["cell_lm_confidence"].between(1 / 3, 1).all()
    right = (adata.obs["cell_lm_label"].astype(str) == adata.obs["cell_type"].astype(str))[
        adata.obs["cell_type"].notna()
    ]
    assert right.mean() > 0.9
    assert f"accuracy {right.mean():.3f}, macro-F1" in said.out
    assert "on 58 labelled cells" in said.out
    told = {line.split("  ")[0]: line.split() for line in said.out.split("\n\n")[0].splitlines()}
    for name, number in adata.obs["cell_lm_label"].value_counts().items():
        assert str(number) in told[str(name)]


def test_without_a_truth_nothing_is_scored(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    said = cli("annotate", "predict", make_file(cells=10), "--model", fitted)
    assert said.code == 0, said.err
    assert "accuracy" not in said.out


def test_a_truth_that_is_not_there_is_refused_before_anything_is_written(
    cli: Cli, make_file: MakeFile, fitted: Path
) -> None:
    path = make_file(cells=10)
    said = cli("annotate", "predict", path, "--model", fitted, "--truth=celltype")
    assert said.code == 1
    assert f"{path}: obs has no column 'celltype'" in said.error
    assert not path.with_name("cells.annotated.h5ad").exists()


@pytest.mark.parametrize(
    ("label", "change", "says"),
    [
        ("celltype", None, "Did you mean 'cell_type'"),
        (
            "cell_type",
            lambda adata: adata.obs.__setitem__("cell_type", "one"),
            "holds one label only, 'one' (60 cells)",
        ),
        ("cell_type", lambda adata: adata.obs.__setitem__("cell_type", np.nan), "missing (NaN) for all 60 cells"),
    ],
    ids=["absent", "one class", "all missing"],
)
def test_labels_that_teach_nothing_are_refused(
    cli: Cli,
    make_file: MakeFile,
    model: Path,
    tmp_path: Path,
    label: str,
    change: Callable[[AnnData], object] | None,
    says: str,
) -> None:
    path = make_file(change=change)
    said = cli("annotate", "fit", path, "--label", label, "--model", model, "--out", tmp_path / "ann")
    assert said.code == 1
    assert says in said.error
    assert said.error.startswith("cells.h5ad")
    assert {item.name for item in tmp_path.iterdir()} == {"cells.h5ad"}


def test_a_single_donor_cannot_be_left_out(cli: Cli, make_file: MakeFile, model: Path, tmp_path: Path) -> None:
    path = make_file(change=lambda adata: adata.obs.__setitem__("donor", "me"))
    words = ["--label=cell_type", "--groups=donor", "--model", model, "--out", tmp_path / "ann"]
    assert "one group only, 'me'" in cli("annotate", "fit", path, *words).error


def test_a_classifier_that_is_there_is_replaced_only_by_force_and_nothing_else_ever(
    cli: Cli, make_file: MakeFile, model: Path, fitted: Path, tmp_path: Path
) -> None:
    words = ["annotate", "fit", make_file(), "--label=donor", "--model", model]
    assert "already exists" in cli(*words, "--out", fitted).error
    assert "cell_type" in (fitted / "estimator.json").read_text()
    assert cli(*words, "--out", fitted, "--force").code == 0
    assert '"label": "donor"' in (fitted / "estimator.json").read_text()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    assert cli(*words, "--out", tmp_path / "mine", "--force").code == 1
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "precious"


@pytest.mark.filterwarnings("default::cell_lm.tasks.CoverageWarning")
def test_missing_genes_are_a_warning_in_one_line(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    path = make_file("few.h5ad", cells=10, change=rename_half)
    said = cli("annotate", "predict", path, "--model", fitted, "--quiet")
    assert said.code == 0, said.err
    warnings = [line for line in said.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "genes of the reference" in warnings[0]
    assert ".py:" not in said.err


def rename_half(adata: AnnData) -> None:
    """Move most genes out of those of the reference, to others of the vocabulary."""
    from cell_lm.genes import Vocabulary

    symbols = Vocabulary.human().symbols
    adata.var_names = [*symbols[:400], *symbols[5000 : 5000 + adata.n_vars - 400]]


def test_a_classifier_of_baselines_annotates_too(cli: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    from cell_lm.tasks import CentroidBaseline

    CentroidBaseline().fit(make_file("ref.h5ad", cells=90), "cell_type").save(tmp_path / "centroids")
    path = make_file("new.h5ad", cells=12, seed=2)
    said = cli("annotate", "predict", path, "--model", tmp_path / "centroids", "--truth=cell_type")
    assert said.code == 0, said.err
    assert "accuracy 1.000" in said.out


def test_a_store_is_fitted_on_and_annotated(cli: Cli, make_file: MakeFile, model: Path, tmp_path: Path) -> None:
    columns = tmp_path / "columns.toml"
    columns.write_text('cell_type = {column = "cell_type"}\ndonor = {column = "donor"}\n')
    assert cli("prepare", make_file(cells=60), "--columns", columns, "--out", tmp_path / "store").code == 0
    words = ["--label=cell_type", "--groups=donor", "--model", model, "--out", tmp_path / "ann"]
    said = cli("annotate", "fit", tmp_path / "store", *words)
    assert said.code == 0, said.err
    said = cli("annotate", "predict", tmp_path / "store", "--model", tmp_path / "ann", "--truth=cell_type")
    assert said.code == 0, said.err
    adata = anndata.read_h5ad(tmp_path / "store.annotated.h5ad")
    assert adata.X is None
    assert (adata.obs["cell_lm_label"].astype(str) == adata.obs["cell_type"].astype(str)).mean() > 0.9
    said = cli("annotate", "predict", tmp_path / "store", "--model", tmp_path / "ann", "--layer=counts", "--force")
    assert said.error.startswith(f"{tmp_path / 'store'}: --layer given for a store")


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_a_run_is_not_taken_for_cells(cli: Cli, model: Path, fitted: Path, tmp_path: Path, verb: str) -> None:
    said = cli(
        "annotate", verb, model, "--model", fitted, "--out", tmp_path / ("out.csv" if verb == "explain" else "out.h5ad")
    )
    assert said.code == 1
    assert said.error.startswith(f"{model}: it holds a model (config.json), not cells")
