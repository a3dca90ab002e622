from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typed import Cli


def test_the_demo_is_called_as_typed_and_says_where_to_look(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: dict[str, Any] = {}

    def run_demo(out: Path, **options: object) -> SimpleNamespace:
        called.update(options, out=out)
        scores, rival = SimpleNamespace(macro_f1=0.9121), SimpleNamespace(macro_f1=0.8)
        return SimpleNamespace(report=out / "report.html", scores=scores, rivals={"logistic regression": rival})

    monkeypatch.setattr("cell_lm.demo.run_demo", run_demo)
    said = cli("demo", "--out", tmp_path / "d", "--steps", "7", "--seed", "3", "--force")
    assert (said.code, said.err) == (0, "")
    assert called == {"out": tmp_path / "d", "steps": 7, "seed": 3, "force": True}
    assert "macro-F1 0.912" in said.out
    assert "logistic regression: 0.800" in said.out
    for name in ("report.html", "cells.h5ad", "model"):
        assert str(tmp_path / "d" / name) in said.out
    assert cli("demo", "--steps", "0").code == 2
    cli("demo")
    assert called == {"out": Path("demo"), "steps": None, "seed": 0, "force": False}
