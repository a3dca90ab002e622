from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
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
    assert "fitted on 38 cells of 3 types (2 without a label)" in said.out
    assert f"cell-lm annotate predict my.h5ad --model {tmp_path / 'ann'}" in said.err
    assert {"estimator.json", "arrays.safetensors", "model"} <= {item.name for item in (tmp_path / "ann").iterdir()}


def forget_two(adata: AnnData) -> None:
    adata.obs.loc[["cell3", "cell5"], "cell_type"] = np.nan


def test_predictions_are_written_told_and_scored(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    path = make_file("new.h5ad", cells=60, seed=2, change=forget_two)
    said = cli("annotate", "predict", path, "--model", fitted, "--truth=cell_type")
    assert said.code == 0, said.err
    adata = anndata.read_h5ad(path.with_name("new.annotated.h5ad"))
    assert set(adata.obs["cell_lm_label"]) <= {"type 0", "type 1", "type 2", "unknown"}
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


def test_blanks_and_words_for_no_label_are_told_on_the_way(
    cli: Cli, make_file: MakeFile, model: Path, tmp_path: Path
) -> None:
    path = make_file(cells=60, change=soil_labels)
    words = ["annotate", "fit", path, "--label=cell_type", "--model", model]
    said = cli(*words, "--out", tmp_path / "a")
    assert said.code == 1
    assert "1 of 5 types of obs column 'cell_type' have one cell each: 'alone'" in said.error
    assert "--min-cells 2" in said.error
    said = cli(*words, "--out", tmp_path / "a", "--min-cells=2", "--unlabelled", "unassigned")
    assert said.code == 0, said.err
    notes = [line for line in said.err.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: cells.h5ad: blanks around 1 labels of obs column 'cell_type' were removed, as in ' type 0'",
        "note: cells.h5ad: types of fewer than 2 cells were left out: 'alone' (1 cells)",
    ]
    assert "fitted on 57 cells of 3 types (3 without a label)" in said.out
    said = cli(*words, "--out", tmp_path / "b", "--min-cells=2")
    assert "'Unassigned' (2 cells), which may mean that there is no label" in said.err
    assert '(--unlabelled "Unassigned")' in said.err


def soil_labels(adata: AnnData) -> None:
    values = adata.obs["cell_type"].astype(str).to_numpy(object)
    values[0], values[3], values[4], values[5] = " type 0", "alone", "Unassigned", "Unassigned"
    adata.obs["cell_type"] = values


def test_a_panel_is_refused_and_a_fit_on_the_shared_genes_works(
    cli: Cli, make_file: MakeFile, fitted: Path, model: Path, tmp_path: Path
) -> None:
    panel = make_file("panel.h5ad", cells=30, seed=2, change=keep_forty)
    words = ["annotate", "predict", panel, "--min-overlap=20", "--min-genes=1", "--truth=cell_type"]
    said = cli(*words, "--model", fitted)
    assert said.code == 1
    assert "it has 40 of 1,200 genes of the reference (3 %)" in said.error
    assert "--genes-of" in said.error
    assert not panel.with_name("panel.annotated.h5ad").exists()
    reference = make_file("ref.h5ad", cells=90, seed=1)
    options = ["--label=cell_type", "--model", model, "--out", tmp_path / "panel", "--min-overlap=20"]
    said = cli("annotate", "fit", reference, *options, "--genes-of", panel)
    assert said.code == 0, said.err
    assert "on the 40 genes that both have" in said.out
    said = cli(*words, "--model", tmp_path / "panel")
    assert said.code == 0, said.err
    accuracy = float(said.out.split("accuracy ")[1].split(",")[0])
    assert accuracy > 0.8


def keep_forty(adata: AnnData) -> AnnData:
    """A panel of the genes with the most counts in each third, which tell the types apart."""
    total = np.asarray(adata.X.sum(axis=0)).ravel()
    thirds = np.array_split(np.arange(adata.n_vars), 3)
    kept = np.concatenate(
        [third[np.argsort(-total[third])[:size]] for third, size in zip(thirds, (14, 13, 13), strict=True)]
    )
    return adata[:, np.sort(kept)].copy()


def test_an_older_call_is_not_overwritten_unasked(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    path = make_file("new.h5ad", cells=12, seed=2)
    assert cli("annotate", "predict", path, "--model", fitted).code == 0
    again = path.with_name("new.annotated.h5ad")
    words = ["annotate", "predict", again, "--model", fitted, "--out", path.with_name("twice.h5ad")]
    said = cli(*words)
    assert said.code == 1
    assert "obs has 'cell_lm_label' and 'cell_lm_confidence' and" in said.error
    assert "--key" in said.error
    assert not path.with_name("twice.h5ad").exists()
    assert cli(*words, "--key=second").code == 0
    adata = anndata.read_h5ad(path.with_name("twice.h5ad"))
    assert (adata.obs["second_label"] == adata.obs["cell_lm_label"].astype(str)).all()
    assert {"second_annotation", "cell_lm_annotation"} <= set(adata.uns)
    assert cli(*words, "--force").code == 0
    assert "cannot be the name" in cli(*words, "--key=a/b").error


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_probabilities_are_a_table(cli: Cli, make_file: MakeFile, fitted: Path, suffix: str) -> None:
    path = make_file("new.h5ad", cells=12, seed=2)
    table = path.with_name(f"p.{suffix}")
    said = cli("annotate", "predict", path, "--model", fitted, "--probabilities", table)
    assert said.code == 0, said.err
    found = pd.read_csv(table) if suffix == "csv" else pd.read_parquet(table)
    assert found.columns.tolist() == ["cell", "type 0", "type 1", "type 2"]
    adata = anndata.read_h5ad(path.with_name("new.annotated.h5ad"))
    assert found["cell"].tolist() == adata.obs_names.tolist()
    np.testing.assert_allclose(found.iloc[:, 1:].sum(axis=1), 1, atol=1e-4)
    assert (found.iloc[:, 1:].idxmax(axis=1).to_numpy() == adata.obs["cell_lm_label"].astype(str)).all()
    assert "cell_lm_proba" not in adata.obsm
    assert "already exists" in cli("annotate", "predict", path, "--model", fitted, "--probabilities", table).error


def test_a_table_of_no_known_format_is_refused(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    path = make_file("new.h5ad", cells=6)
    said = cli("annotate", "predict", path, "--model", fitted, "--probabilities", path.with_name("p.xlsx"))
    assert "Name it p.csv or p.parquet" in said.error


def test_truth_that_shares_no_type_is_a_warning(cli: Cli, make_file: MakeFile, fitted: Path) -> None:
    said = cli("annotate", "predict", make_file("new.h5ad", cells=12), "--model", fitted, "--truth=donor")
    assert said.code == 0, said.err
    (line,) = [line for line in said.err.splitlines() if line.startswith("warning: ") and "type" in line]
    assert "share no type: 'donor0', 'donor1', 'donor2', 'donor3' there, 'type 0', 'type 1', 'type 2' here" in line
