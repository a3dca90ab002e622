"""``cell-lm response`` as a user runs it: from GDSC-like files to predictions, rankings and scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from typed import Cli, Said

from cell_lm.tasks.response import core
from planted_response import lines, responses


class Files(NamedTuple):
    lines: Path
    table: Path
    other: Path
    truth: Path
    model: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Lines and a table as of GDSC, other lines with theirs."""
    folder = tmp_path_factory.mktemp("response")
    made = []
    for seed, count, name in ((0, 60, "train"), (1, 20, "test")):
        adata, latent = lines(count, seed=seed)
        adata.write_h5ad(folder / f"{name}.h5ad")
        table = responses(adata, latent, seed=seed).pairs.rename(
            columns={"line": "CELL_LINE_NAME", "drug": "DRUG_NAME", "response": "LN_IC50"}
        )
        table.drop(columns="replicates").to_csv(folder / f"{name}.csv", index=False)
        made += [folder / f"{name}.h5ad", folder / f"{name}.csv"]
    return Files(*made, folder / "model")


FIT = ["--expression=rma", "--networks=0", "--folds=2", "--min-overlap=100", "--smiles=smiles"]


@pytest.fixture
def fitted(cli: Cli, files: Files) -> Files:
    if not files.model.exists():
        said = cli("response", "fit", files.lines, "--responses", files.table, *FIT, "--out", files.model)
        assert said.code == 0, said.err
        assert "fitted on 60 lines and 36 drugs" in said.out
        assert "new drugs are predicted by the structure of 36 drugs" in said.out
        assert f"cell-lm response predict my.h5ad --model {files.model}" in said.err
        assert "read as a file of GDSC" in said.err
    return files


def test_predictions_are_written_for_every_line_and_drug(cli: Cli, fitted: Files, tmp_path: Path) -> None:
    words = ["response", "predict", fitted.other, "--model", fitted.model, "--min-overlap=100"]
    said = cli(*words, "--out", tmp_path / "p.csv", "--new-drug", "mine=CCOc1ccccc1")
    assert said.code == 0, said.err
    table = pd.read_csv(tmp_path / "p.csv")
    assert len(table) == 20 * 37
    assert set(table["known"]) == {"new line", "both new"}
    assert (table["low"] < table["high"]).all()
    assert "response: ln of the IC50 in µM; low and high: 90% interval" in said.out
    assert "already exists" in cli(*words, "--out", tmp_path / "p.csv").error


def test_measured_responses_are_used(cli: Cli, fitted: Files, tmp_path: Path) -> None:
    pd.read_csv(fitted.truth).groupby("CELL_LINE_NAME").head(6).to_csv(tmp_path / "six.csv", index=False)
    words = ["response", "predict", fitted.other, "--model", fitted.model, "--min-overlap=100"]
    said = cli(*words, "--measured", tmp_path / "six.csv", "--out", tmp_path / "p.csv")
    assert said.code == 0, said.err
    known = pd.read_csv(tmp_path / "p.csv")["known"].value_counts()
    assert known.to_dict() == {"line with measured drugs": 20 * 30, "measured": 20 * 6}


def test_scores_are_those_of_new_lines(cli: Cli, fitted: Files) -> None:
    words = ["response", "evaluate", "--model", fitted.model, "--min-overlap=100", "--unseen-lines"]
    said = cli(*words, fitted.other, "--responses", fitted.truth)
    assert said.code == 0, said.err
    shown = {line.rsplit(None, 1)[0].strip(): line.rsplit(None, 1)[1] for line in said.out.splitlines() if line.strip()}
    assert float(shown["Pearson within drugs, mean of 36"]) > 0.5
    assert 80 < float(shown["inside the 90% interval"].rstrip("%")) < 98
    assert "lines are also in the fit" in cli(*words, fitted.lines, "--responses", fitted.table).error


def test_a_ranking_is_shown_for_a_line_and_for_a_drug(cli: Cli, fitted: Files) -> None:
    words = ["response", "rank", "--model", fitted.model]
    said = cli(*words, "--for-drug", "drug0-1", "--top", 3)
    assert said.code == 0, said.err
    assert sum(line.startswith("line0_") for line in said.out.splitlines()) == 3
    said = cli(*words, fitted.other, "--for-line", "line1_003", "--min-overlap=100")
    assert sum(line.startswith("drug") for line in said.out.splitlines()[1:]) == 20
    assert "Give one of --for-line and --for-drug" in cli(*words).error


def test_an_interrupted_fit_goes_on_to_the_same_files(
    cli: Cli, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    def fit(name: str, *words: str) -> Said:
        given = ["--responses", table, *FIT[:-1], "--out", tmp_path / name]
        return cli("response", "fit", files.lines, *given, *words)

    table, parts = tmp_path / "t.csv", tmp_path / "m.unfinished"
    pd.read_csv(files.table).drop(columns="smiles").to_csv(table, index=False)
    with monkeypatch.context() as patched:
        patched.setattr(core, "_calibrated", stop)
        said = fit("m")
    assert (said.code, said.error) == (130, "interrupted")
    assert "go on with the same command and --resume" in said.out
    assert {item.name for item in tmp_path.iterdir()} == {table.name, parts.name}
    assert "not finished (3 parts are done). Go on with it by resume=True (--resume), or begin anew" in fit("m").error
    assert "was begun with confidence=0.9, not 0.8" in fit("m", "--resume", "--confidence=.8").error
    said = fit("m", "--resume")
    assert said.code == 0, said.err
    assert f"3 parts of {parts} are done" in said.err
    assert not parts.exists()
    assert "already exists" in fit("m", "--resume").error
    said = fit("anew", "--resume")
    assert "nothing to go on with" in said.err
    for item in (tmp_path / "m").iterdir():
        assert item.read_bytes() == (tmp_path / "anew" / item.name).read_bytes()


def test_force_begins_an_unfinished_fit_anew(
    cli: Cli, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = tmp_path / "m.unfinished"
    parts.mkdir()
    (parts / "notes.txt").touch()
    words = ["response", "fit", files.lines, "--responses", files.table, *FIT, "--out", tmp_path / "m", "--force"]
    assert "holds something else than an unfinished fit" in cli(*words).error
    (parts / "notes.txt").rename(parts / "unfinished.json")
    monkeypatch.setattr(core, "left_out_predictions", lambda *_, **__: 1 / 0)
    cli(*words)
    assert '"parts": {}' in (parts / "unfinished.json").read_text()


@pytest.mark.parametrize(
    ("change", "words", "says"),
    [
        (lambda t: t.assign(LN_IC50=t["LN_IC50"].where(t.index != 4)), [], "row 5: "),
        (lambda t: t.assign(LN_IC50=t["LN_IC50"] * 1e4), [], "cannot be ln IC50 in µM"),
        (lambda t: t[t["DRUG_NAME"] == "drug0-1"], [], "one drug only"),
        (lambda t: t.assign(smiles="C1CC"), [], "SMILES cannot be read"),
        (lambda t: t, ["--line=name"], "no column 'name'"),
        (lambda t: t, ["--cells=both"], "--cells both with no --encoder"),
        (lambda t: t.assign(CELL_LINE_NAME="x" + t["CELL_LINE_NAME"]), [], "0 of its 60 lines have expression"),
    ],
    ids=["missing", "unit", "one drug", "structures", "column", "no encoder", "names"],
)
def test_bad_input_is_one_line_and_writes_nothing(
    cli: Cli, files: Files, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], words: list[str], says: str
) -> None:
    change(pd.read_csv(files.table)).to_csv(tmp_path / "t.csv", index=False)
    said = cli("response", "fit", files.lines, "--responses", tmp_path / "t.csv", *FIT, *words, "--out", tmp_path / "m")
    assert said.code == 1
    assert says in said.error
    assert {item.name for item in tmp_path.iterdir()} == {"t.csv"}
