from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from typed import TINY, Cli, shell

from cell_lm import pretraining as training
from cell_lm.config import PretrainConfig, resolve_config
from cell_lm.data.loading.batch import CellBatch
from cell_lm.genes import GeneVectors, Vocabulary
from cell_lm.model import CellLM
from cell_lm.pretraining.batches import Batches

MakeFile = Callable[..., Path]


def settings(run: Path) -> PretrainConfig:
    values = json.loads((run / "config.json").read_text())
    return PretrainConfig.model_validate({key: value for key, value in values.items() if key != "checksum"})


def untouched(folder: Path, *names: str) -> bool:
    """Whether nothing but these is in a folder."""
    return {path.name for path in folder.iterdir()} == set(names)


def test_a_run_ends_with_model_report_and_what_to_do_next(cli: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = cli(
        "pretrain", make_file(), "--out", run, *TINY, "--malignancy-column=malignant", "--tumour=putative", "--seed=5"
    )
    assert said.code == 0, said.err
    assert "pretrained 3 steps" in said.out
    assert f"model: {run / 'model'}" in said.out
    assert f"report: {run / 'report.html'}" in said.out
    assert "60 cells: 20 tumour, 40 normal" in said.err
    assert f"cell-lm embed my.h5ad --model {run}" in said.err
    assert (settings(run).training.steps, settings(run).training.seed, settings(run).encoder.layers) == (3, 5, 1)
    assert (run / "model" / "model.safetensors").is_file()
    page = (run / "report.html").read_text()
    for told in (
        "cells.h5ad",
        "always the gene&#39;s most frequent bin",
        "always the more frequent malignancy",
        "--tumour=putative",
    ):
        assert told in page, told
    assert (run / "command.txt").read_text().startswith("cell-lm pretrain ")


def test_the_report_can_be_left_out_and_quiet_is_quiet(cli: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    said = cli("pretrain", make_file(), "--out", tmp_path / "run", *TINY, "--no-report", "--quiet")
    assert (said.code, said.err) == (0, "")
    assert "report:" not in said.out
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_stopped_run_leaves_with_the_signal_and_goes_on_under_its_own_settings(
    cli: Cli, make_file: MakeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, whole, stopped = make_file(), tmp_path / "whole", tmp_path / "stopped"
    assert cli("pretrain", cells, "--out", whole, *TINY, "--no-report").code == 0

    train = Batches.train

    def interrupt(self: Batches, step: int) -> CellBatch:
        os.kill(os.getpid(), signal.SIGINT)
        return train(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "train", interrupt)
        said = cli("pretrain", cells, "--out", stopped, *TINY)
    assert said.code == 130
    assert "stopped after step 1 of 3" in said.out
    assert "--resume" in said.out
    said = cli("pretrain", cells, "--out", stopped, "--resume", "--set", "training.keep_checkpoints=5")
    assert said.code == 0, said.err
    assert settings(stopped).training.keep_checkpoints == 5
    assert settings(stopped).encoder == settings(whole).encoder
    weights, same = (load_file(run / "model" / "model.safetensors") for run in (stopped, whole))
    assert all(np.array_equal(weights[name], same[name]) for name in same)
    assert "--resume" not in (stopped / "command.txt").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--preset", "huge"], "no preset is called 'huge'. Choose one of tiny, small, base"),
        (["--set", "training.step=3"], "there is no setting 'training.step'. Did you mean training.steps"),
        (["--set", "training.steps=many"], "'training.steps' Input should be a valid integer"),
        (["--set", "training.warmup=2"], "'training.warmup'"),
        (["--config", "absent.toml"], "absent.toml: cannot be read as TOML"),
        (["--tumour", "yes"], "Add --malignancy-column"),
        (["--malignancy-column", "cell_type"], "mean neither tumour nor normal"),
        (["--malignancy-column", "malign"], "Did you mean 'malignant'"),
        (["--layer", "counts"], "no layer 'counts'"),
        (["--input", "log1p"], "log1p"),
        (["--gene-column", "symbol"], "var has no column 'symbol'"),
        (["--min-genes", "5000"], "Lower min_genes= (--min-genes)"),
        (["--batch-size", "500"], "500"),
        (["--gene-vectors", "netwrok"], "'netwrok' is none of components, network, network+coexpression"),
        (["--resume"], "there is no run here that could go on"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(
    cli: Cli, make_file: MakeFile, tmp_path: Path, words: list[str], says: str
) -> None:
    said = cli("pretrain", make_file(), "--out", tmp_path / "run", *words)
    assert said.code == 1
    assert says in said.error
    assert said.out == ""
    assert untouched(tmp_path, "cells.h5ad")


def test_gene_vectors_start_from_a_file_and_stay_frozen(cli: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    human, run = Vocabulary.human(), tmp_path / "run"
    values = np.random.default_rng(0).normal(size=(len(human), 8))
    vectors = GeneVectors.from_values(values, np.arange(len(human)) % 2 > 0, human, source="a test")
    vectors.save(tmp_path / "v.safetensors")
    words = ["--gene-vectors", tmp_path / "v.safetensors", "--freeze-gene-vectors"]
    said = cli("pretrain", make_file(), "--out", run, *TINY, "--no-report", *words)
    assert said.code == 0, said.err
    assert settings(run).training.freeze_gene_vectors
    flat = " ".join(said.err.split())
    assert "9,640 of 19,281 start from" in flat
    assert "the other 9,641 at random; all are frozen" in flat
    table = load_file(run / "model" / "model.safetensors")["encoder.embedding.genes.weight"]
    start = 0.02 * GeneVectors.load(tmp_path / "v.safetensors").project(table.shape[1])
    assert np.allclose(table[vectors.known], start[vectors.known], atol=1e-8)


def test_one_bad_file_among_several_stops_it_before_anything_is_written(
    cli: Cli, make_file: MakeFile, tmp_path: Path
) -> None:
    good, bad = make_file("good.h5ad"), make_file("bad.h5ad", change=lambda adata: setattr(adata, "X", adata.X * 0.37))
    said = cli("pretrain", good, bad, "--out", tmp_path / "run", *TINY)
    assert said.code == 1
    assert "bad.h5ad" in said.error
    assert untouched(tmp_path, "good.h5ad", "bad.h5ad")


def test_a_folder_that_holds_something_is_left_alone(cli: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("precious")
    said = cli("pretrain", make_file(), "--out", tmp_path / "run", *TINY)
    assert said.code == 1
    assert "holds other files already" in said.error
    assert "reading" not in said.err
    assert untouched(tmp_path / "run", "mine.txt")


def test_a_folder_that_cannot_be_made_is_one_line(
    cli: Cli, make_file: MakeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(path: Path, *arguments: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    cells = make_file()
    monkeypatch.setattr(Path, "mkdir", deny)
    said = cli("pretrain", cells, "--out", tmp_path / "run", *TINY)
    assert said.code == 1
    assert "Permission denied" in said.error
    assert untouched(tmp_path, "cells.h5ad")


def test_nothing_but_notes_comes_on_standard_error(make_file: MakeFile, tmp_path: Path) -> None:
    said = shell("pretrain", make_file(), "--out", tmp_path / "run", *TINY, OMP_NUM_THREADS="1")
    assert said.code == 0, said.err
    assert "Warning" not in said.err
    assert "\x1b" not in said.out + said.err
    assert all(line == line.rstrip() for line in said.out.splitlines())


def test_a_dry_run_tells_memory_and_time_and_writes_nothing(cli: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    file = make_file()
    before = set(tmp_path.iterdir())
    said = cli("pretrain", file, "--preset=tiny", "--batch-size=8", "--steps=500", "--memory=64GB", "--dry-run")
    assert said.code == 0
    assert "a step: 8 cells; chunks of at most 65,536 genes over both views: 1; graphs kept: 1" in said.out
    assert re.search(r"memory: \d+\.\d\d GB of the 64\.00 GB it may take", said.out)
    assert re.search(r"time: \S+ s a step, .* for 500 steps", said.out)
    assert said.out.endswith("nothing was written\n")
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        ("20MB", r"0\.02 GB of memory, and a step takes \d+\.\d\d GB at least"),
        ("much", "'training.memory' could not parse"),
    ],
)
def test_memory_that_is_too_little_or_none_at_all_is_one_line(
    memory: str, message: str, cli: Cli, make_file: MakeFile, tmp_path: Path
) -> None:
    said = cli(
        "pretrain", make_file(), "--out", tmp_path / "run", "--preset=tiny", "--batch-size=8", "--memory", memory
    )
    assert said.code == 1
    assert re.search(message, said.err.splitlines()[-1])
    assert not (tmp_path / "run").exists()


def test_without_a_run_folder_only_a_dry_run_is_possible(cli: Cli, make_file: MakeFile) -> None:
    said = cli("pretrain", make_file())
    assert said.code == 2
    assert (
        said.err.strip() == "error: Invalid value for --out: name the run folder to make. See cell-lm pretrain --help"
    )


def test_workers_of_ray_read_the_files_again_and_the_command_reports(
    cli: Cli, make_file: MakeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def in_this_process(
        read: Any, config: PretrainConfig, out: Path, *, workers: int, initial: str | None, resume: bool
    ) -> Any:
        asked.append(workers)
        read = pickle.loads(pickle.dumps(read))
        return training.pretrain(read(), config, out, initial=initial, resume=resume, progress=False)

    monkeypatch.setattr("cell_lm.pretraining.ray.pretrain_on_ray", in_this_process)
    said = cli("pretrain", make_file(), "--out", tmp_path / "run", *TINY, "--ray-workers", 3)
    assert said.code == 0, said.err
    assert asked == [3]
    assert said.err.count("reading ") == 1
    assert "training on 3 workers of Ray" in said.err
    assert "pretrained 3 steps" in said.out
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_store_and_a_file_that_stays_on_disk_are_pretrained_on_together(
    cli: Cli, make_file: MakeFile, tmp_path: Path
) -> None:
    first, second, store, run = make_file("a.h5ad"), make_file("b.h5ad", seed=1), tmp_path / "store", tmp_path / "run"
    assert cli("prepare", first, "--out", store, "--quiet").code == 0
    said = cli("pretrain", store, second, "--backed", "--out", run, *TINY)
    assert said.code == 0, said.err
    assert "60 cells: 60 of unknown malignancy" in said.err
    assert "1 source in 1 shard" in said.err
    assert "b.h5ad, which stays on disk" in said.err
    told = json.loads((run / "data.json").read_text())
    assert [one["name"] for one in told["datasets"]] == ["a.h5ad", "b.h5ad"]
    assert told["stores"][0]["name"] == "store"
    assert "120 cells" in (run / "report.html").read_text()
    assert settings(run).data.backed_above == 0
    assert cli("pretrain", store, second, "--out", run, "--resume").code == 0


def test_a_store_that_is_said_to_be_tumour_or_is_not_finished_is_refused(
    cli: Cli, make_file: MakeFile, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    assert cli("prepare", make_file(), "--out", store, "--quiet").code == 0
    assert "it is a store" in cli("pretrain", "--tumour-file", store, "--out", tmp_path / "run").error
    assert (
        "no malignancy column is read"
        in cli("pretrain", store, "--malignancy-column=x", "--out", tmp_path / "run").error
    )
    (store / "manifest.json").unlink()
    assert "not finished" in cli("pretrain", store, "--out", tmp_path / "run").error


def test_a_finished_run_is_extended_by_steps_and_resume(cli: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    cells, run = make_file(), tmp_path / "run"
    assert cli("pretrain", cells, "--out", run, *TINY, "--no-report").code == 0
    said = cli("pretrain", cells, "--out", run, "--no-report", "--resume")
    assert (said.code, settings(run).training.steps) == (0, 3)
    assert "there was nothing left to train (--steps N --resume extends the run)" in said.out
    said = cli("pretrain", cells, "--out", run, "--no-report", "--resume", "--steps=5")
    assert said.code == 0, said.err
    assert "pretrained 5 steps" in said.out
    assert "nothing left" not in said.out
    assert "training.steps was 3, now 5" in said.err
    assert settings(run).training.steps == 5
    said = cli("pretrain", cells, "--out", run, "--no-report", "--resume", "--steps=2")
    assert said.code == 0, said.err
    assert "2 steps were asked for, and 5 are done: the run is finished as it stands" in said.err
    assert settings(run).training.steps == 5


def test_settings_that_a_run_cannot_go_on_with_are_refused_before_cells_are_read(
    cli: Cli, make_file: MakeFile, tmp_path: Path
) -> None:
    cells, run = make_file(), tmp_path / "run"
    assert cli("pretrain", cells, "--out", run, *TINY, "--no-report").code == 0
    said = cli("pretrain", tmp_path / "nowhere.h5ad", "--out", run, "--resume", "--seed=8")
    assert said.code == 1
    assert "training.seed: 0, now 8" in said.error


def test_a_run_begins_from_another_with_its_encoder_and_goes_on_when_that_is_gone(
    cli: Cli, make_file: MakeFile, tmp_path: Path
) -> None:
    cells, first, second = make_file(), tmp_path / "first", tmp_path / "second"
    assert cli("pretrain", cells, "--out", first, *TINY, "--no-report").code == 0
    training = ["--steps=4", "--batch-size=8"]
    said = cli("pretrain", cells, "--from", first, "--out", second, *training, "--no-report")
    assert said.code == 0, said.err
    assert settings(second).encoder == settings(first).encoder
    assert f"continued from {first}" in " ".join(said.err.split())
    shutil.rmtree(first)
    words = ["--out", second, "--no-report", "--resume", "--steps=5"]
    assert cli("pretrain", cells, "--from", first, *words).code == 0
    assert cli("pretrain", cells, *words, "--steps=6").code == 0
    assert settings(second).training.steps == 6


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--preset=small"],
            "encoder.attention is latent here, and full in the model of --from. Leave it out (--preset",
        ),
        (["--set", "encoder.width=8"], "encoder.width is 8 here"),
        (["--config", "encoder.toml"], "encoder.layers is 3 here"),
        (["--gene-vectors=network"], "--gene-vectors: gene vectors are to start from elsewhere"),
        (["--from=nowhere"], "nowhere: does not exist"),
    ],
)
def test_what_does_not_fit_the_model_of_from_is_refused_before_anything_is_read(
    cli: Cli, make_file: MakeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    first = tmp_path / "first"
    assert cli("pretrain", make_file(), "--out", first, *TINY, "--no-report").code == 0
    monkeypatch.chdir(tmp_path)
    Path("encoder.toml").write_text("[encoder]\nlayers = 3\n")
    said = cli("pretrain", "absent.h5ad", "--from", first, "--out", "second", *words)
    assert (said.code, said.out) == (1, "")
    assert says in said.error
    assert not Path("second").exists()


def test_cells_are_read_with_the_vocabulary_of_the_model(cli: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    human, run = Vocabulary.human(), tmp_path / "run"
    few = Vocabulary(human.symbols[::2], human.ensembl[::2])
    encoder = resolve_config("tiny").encoder
    CellLM(encoder, few).save_pretrained(tmp_path / "model")
    words = ["--min-genes=1", "--steps=2", "--batch-size=8", "--no-report"]
    said = cli("pretrain", make_file(), "--from", tmp_path / "model", "--out", run, *words)
    assert said.code == 0, said.err
    assert Vocabulary.load(run / "model" / "vocabulary.json").hash == few.hash
    said = cli("pretrain", make_file(), "--out", run, "--min-genes=1", "--no-report", "--resume", "--steps=3")
    assert said.code == 0, said.err
    assert settings(run).preset == "tiny"
