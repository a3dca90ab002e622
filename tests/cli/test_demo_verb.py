from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typed import Cli

from cell_lm.report import Annotation


def test_the_demo_is_called_as_typed_and_says_what_came_out_and_where_to_look(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: dict[str, Any] = {}
    truth = ["a", "b"] * 50
    annotation = Annotation(truth, ["a"] * 100, method="ours", baselines={"theirs": truth}, tested_on="100 cells")

    def run_demo(out: Path, **options: object) -> SimpleNamespace:
        called.update(options, out=out)
        return SimpleNamespace(report=out / "report.html", annotation=annotation, rare="rare types: b (3)")

    monkeypatch.setattr("cell_lm.demo.run_demo", run_demo)
    said = cli("demo", "--out", tmp_path / "d", "--steps", "7", "--seed", "3", "--force")
    assert (said.code, said.err) == (0, "")
    assert called == {"out": tmp_path / "d", "steps": 7, "seed": 3, "quick": False, "force": True}
    lines = [line.replace("\u00a0", " ").split() for line in said.out.splitlines()]
    assert ["ours", "0.333"] in [line[:2] for line in lines]
    theirs = next(line for line in lines if line[:1] == ["theirs"])
    assert theirs[1:5] == ["1.000", "(1.000", "to", "1.000)"]
    assert theirs[5] == "−0.667"
    assert "the baseline is ahead by 0.667" in said.out
    assert "rare types: b (3)" in said.out
    for name in ("report.html", "cells.h5ad", "model"):
        assert str(tmp_path / "d" / name) in said.out
    assert cli("demo", "--steps", "0").code == 2
    cli("demo", "--quick")
    assert called == {"out": Path("demo"), "steps": None, "seed": 0, "quick": True, "force": False}
