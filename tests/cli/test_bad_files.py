"""Whatever is wrong with a file, every verb says so in one line, exits 1, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from typed import TINY, Cli

from cell_lm.genes import Vocabulary

MakeFile = Callable[..., Path]


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def set_x(change: Callable[[AnnData], object]) -> Callable[[AnnData], None]:
    return lambda adata: setattr(adata, "X", change(adata))


def name_as_mice_do(adata: AnnData) -> None:
    adata.var_names = [symbol.capitalize() for symbol in Vocabulary.human().symbols[: adata.n_vars]]


BAD: dict[str, tuple[Callable[[AnnData], object] | None, Callable[[Path], None] | None, str]] = {
    "truncated": (None, cut_off, "it is cut off"),
    "no h5ad": (None, lambda path: path.write_text("cell,gene\n1,2\n") and None, "neither its rows"),
    "absent": (None, Path.unlink, "there is no such file"),
    "no cells": (lambda adata: adata[:0].copy(), None, "it holds 0 cells"),
    "all zero": (set_x(lambda adata: adata.X * 0), None, "60 cells ha"),
    "logarithms": (set_x(lambda adata: adata.X.log1p()), None, "log"),
    "not a number": (set_x(lambda adata: adata.X * np.float32("nan")), None, "NaN"),
    "negative": (set_x(lambda adata: -adata.X), None, "negative"),
    "mouse": (name_as_mice_do, None, "mouse"),
    "other genes": (lambda adata: setattr(adata, "var_names", [f"g{i}" for i in range(adata.n_vars)]), None, "gene"),
}

VERBS: dict[str, Callable[[Path, Path, Path, Path], list[object]]] = {
    "pretrain": lambda cells, out, model, ann: ["pretrain", cells, "--out", out, *TINY],
    "embed": lambda cells, out, model, ann: ["embed", cells, "--out", out, "--model", model],
    "fit": lambda cells, out, model, ann: [
        *("annotate", "fit", cells, "--label=cell_type", "--out", out, "--model", model)
    ],
    "predict": lambda cells, out, model, ann: ["annotate", "predict", cells, "--out", out, "--model", ann],
}


@pytest.fixture(scope="module")
def ann(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier."""
    from cell_lm.cli import main

    out = tmp_path_factory.mktemp("fitted") / "ann"
    words = ["annotate", "fit", model.with_name("cells.h5ad"), "--label=cell_type", "--model", model, "--out", out]
    assert main([*map(str, words), "--quiet"]) == 0
    return out


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_line_and_nothing_is_written(
    cli: Cli, make_file: MakeFile, tmp_path: Path, model: Path, ann: Path, verb: str, kind: str
) -> None:
    change, spoil, says = BAD[kind]
    path = make_file(change=change)
    if spoil is not None:
        spoil(path)
    before = sorted(item.name for item in tmp_path.iterdir())
    said = cli(*VERBS[verb](path, tmp_path / "out", model, ann))
    assert said.code == 1
    assert says in said.error
    assert "cells.h5ad" in said.error
    assert said.out == ""
    assert sorted(item.name for item in tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", BAD)
def test_check_calls_a_bad_file_bad(cli: Cli, make_file: MakeFile, kind: str) -> None:
    change, spoil, says = BAD[kind]
    path = make_file(change=change)
    if spoil is not None:
        spoil(path)
    said = cli("check", path)
    assert said.code == 1
    assert any(says in line for line in said.out.splitlines() if line.startswith("  problem"))
    assert "cannot be used" in said.error


def flip_a_byte(folder: Path) -> None:
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (folder / "model.safetensors").write_bytes(weights)


def change_the_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["encoder"]["width"] = 48
    (folder / "config.json").write_text(json.dumps(config))


BAD_MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (shutil.rmtree, "does not exist"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "holds no model"),
    "damaged": (flip_a_byte, "its SHA-256 is not the one that config.json names"),
    "cut off": (lambda folder: cut_off(folder / "model.safetensors"), "its SHA-256 is not the one"),
    "other shape": (change_the_shape, "not those that its checksum names"),
    "no json": (lambda folder: (folder / "config.json").write_text("{"), "config.json: cannot be read"),
    "newer": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "cell-lm", "format": 99}'),
        "Upgrade cell-lm",
    ),
}


@pytest.mark.parametrize("verb", ["embed", "fit"])
@pytest.mark.parametrize("kind", BAD_MODELS)
def test_a_bad_model_is_one_line_and_nothing_is_written(
    cli: Cli, make_file: MakeFile, tmp_path: Path, model: Path, ann: Path, verb: str, kind: str
) -> None:
    path = make_file(cells=12)
    copied = Path(shutil.copytree(model / "model", tmp_path / "copied"))
    spoil, says = BAD_MODELS[kind]
    spoil(copied)
    said = cli(*VERBS[verb](path, tmp_path / "out", copied, ann))
    assert said.code == 1
    assert says in said.error
    assert "copied" in said.error
    assert {item.name for item in tmp_path.iterdir()} <= {"cells.h5ad", "copied"}


def test_a_classifier_that_is_none_is_one_line(cli: Cli, make_file: MakeFile, tmp_path: Path, model: Path) -> None:
    said = cli("annotate", "predict", make_file(cells=12), "--model", model, "--out", tmp_path / "out.h5ad")
    assert said.code == 1
    assert "holds no estimator" in said.error
    assert not (tmp_path / "out.h5ad").exists()


@pytest.mark.parametrize("verb", ["embed", "fit", "predict"])
def test_an_output_that_is_there_is_refused_before_any_work(
    cli: Cli, make_file: MakeFile, tmp_path: Path, model: Path, ann: Path, verb: str
) -> None:
    (tmp_path / "out").write_text("mine")
    said = cli(*VERBS[verb](make_file(cells=12), tmp_path / "out", model, ann))
    assert said.code == 1
    assert "it already exists" in said.error
    assert "reading" not in said.err
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("verb", ["embed", "fit", "predict"])
def test_an_output_in_a_folder_that_cannot_be_written_to_is_refused_before_any_work(
    cli: Cli, make_file: MakeFile, tmp_path: Path, model: Path, ann: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_file(cells=12)
    monkeypatch.setattr("os.access", lambda path, mode, **named: not mode & os.W_OK)
    said = cli(*VERBS[verb](path, tmp_path / "new" / "out", model, ann))
    assert said.code == 1
    assert f"{tmp_path} cannot be written to" in said.error
    assert "reading" not in said.err
    assert {item.name for item in tmp_path.iterdir()} == {"cells.h5ad"}


@pytest.mark.parametrize("verb", ["embed", "predict"])
def test_an_output_below_a_file_or_that_is_a_folder_is_refused(
    cli: Cli, make_file: MakeFile, tmp_path: Path, model: Path, ann: Path, verb: str
) -> None:
    path = make_file(cells=12)
    assert "is not a folder" in cli(*VERBS[verb](path, path / "out", model, ann)).error
    said = cli(*VERBS[verb](path, tmp_path, model, ann), "--force")
    assert "it is a folder" in said.error


@pytest.mark.parametrize("verb", ["embed", "predict"])
def test_a_disk_that_fills_up_leaves_what_was_there(
    cli: Cli, make_file: MakeFile, tmp_path: Path, model: Path, ann: Path, verb: str
) -> None:
    """The kernel lets no file grow past 20 kB, as a quota does."""
    path, out = make_file(cells=12), tmp_path / "out"
    out.write_text("mine")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        said = cli(*VERBS[verb](path, out, model, ann), "--force")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert said.code == 1
    assert "out: it could not be written (File too large). Make room" in said.error
    assert out.read_text() == "mine"
    assert {item.name for item in tmp_path.iterdir()} == {"cells.h5ad", "out"}
