from __future__ import annotations

from pathlib import Path

import pytest
from typed import Cli

from cell_lm.data.downloads import Dataset, RemoteFile, registry


def test_the_list_says_which_hashes_are_known(cli: Cli) -> None:
    said = cli("download", "--list")
    assert said.code == 0
    lines = {line.split()[0]: line.rstrip() for line in said.out.splitlines()}
    assert lines["pbmc3k"].endswith("pinned")
    assert lines["zheng_b_cells"].endswith("noted on first download")


def test_a_set_is_fetched_and_what_to_do_next_is_said(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = RemoteFile("https://nowhere.invalid/cells.csv", "cells.csv")
    monkeypatch.setitem(registry.REGISTRY, "my", Dataset("my", "some cells", "mine", (file,)))
    (tmp_path / "cells.csv").write_text("a,b\n")
    said = cli("download", "my", "--out", tmp_path / "out", "--mirror", tmp_path)
    assert said.code == 0
    assert f"  {tmp_path / 'out' / 'cells.csv'}" in said.out
    assert "no hash of it was published" in said.err
    assert f"cell-lm check {tmp_path / 'out' / 'cells.csv'}" in said.err


def test_a_network_is_fetched_and_learning_gene_vectors_comes_next(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = RemoteFile("https://nowhere.invalid/links.txt", "links.txt")
    monkeypatch.setitem(registry.REGISTRY, "my", Dataset("my", "a network", "mine", (file,), "network"))
    (tmp_path / "links.txt").write_text("a b\n")
    said = cli("download", "my", "--out", tmp_path / "out", "--mirror", tmp_path)
    assert said.code == 0
    assert f"cell-lm genes pretrain {tmp_path / 'out'}" in said.err


def test_a_name_or_folder_that_is_missing_is_asked_for(cli: Cli) -> None:
    said = cli("download", "pbmc3k")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "cell-lm download pbmc3k --out data" in said.err
    assert cli("download", "nothing", "--out", "x").code == 1
