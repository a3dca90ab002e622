from __future__ import annotations

import re

import pytest
from typed import Cli

VERBS = {
    "check": ("check",),
    "adapt": ("adapt",),
    "embed": ("embed",),
    "annotate fit": ("annotate", "fit"),
    "annotate predict": ("annotate", "predict"),
    "annotate explain": ("annotate", "explain"),
    "annotate evaluate": ("annotate", "evaluate"),
    "malignancy fit": ("malignancy", "fit"),
    "malignancy predict": ("malignancy", "predict"),
    "sensitivity fit": ("sensitivity", "fit"),
    "sensitivity predict": ("sensitivity", "predict"),
    "sensitivity transfer": ("sensitivity", "transfer"),
    "sensitivity evaluate": ("sensitivity", "evaluate"),
    "pretrain": ("pretrain",),
    "prepare": ("prepare",),
    "genes pretrain": ("genes", "pretrain"),
    "inspect": ("inspect",),
}
OPTIONS = ("--layer", "--scale", "--input", "--gene-column", "--min-overlap", "--min-genes")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_reads_cells_has_all_options_of_reading(verb: str, cli: Cli, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = cli(*VERBS[verb], "--help").out
    wanted = [option for option in OPTIONS if (verb, option) != ("inspect", "--min-genes")]
    assert [option for option in wanted if not re.search(rf"{option}\b", text)] == []
    assert text.count("What is read") == 1
