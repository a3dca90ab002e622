"""The fix that an error names is followed, and then the command works; ``benchmarks.robustness`` follows all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from advice import Case, NotFollowedError, Room, add, found
from advice_cases import CASES, embed, logged, x

FOLLOWED = (
    "a panel, embed",
    "a panel, fit",
    "log2(TPM + 1), said to be log1p",
    "corrected counts",
    "z-scores, counts in a layer",
    "logged twice, counts beside",
    "transposed",
    "numbers, symbols in a column",
    "empty cells, predict",
    "two modalities",
    "a store with an option for files",
    "values of malignancy that are unknown",
    "a key that is a path",
    "a size without unit",
    "a run that is there",
)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    return Room(tmp_path_factory.mktemp("room"))


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_an_error_advises_works(name: str, room: Room) -> None:
    outcome = CASES[name].run(room)
    assert outcome.failed == ""
    assert outcome.codes[-1] == 0
    assert outcome.codes[0] in (1, 2)


def test_an_advice_that_is_not_given_or_does_not_help_is_noticed(room: Room) -> None:
    silent = Case(lambda r: embed(r, x(r, logged(r))), add("no-such-option")).run(room)
    assert "no '" in silent.failed
    useless = Case(lambda r: embed(r, x(r, logged(r))), lambda r, words, error: words).run(room)
    assert "Then: error: " in useless.failed
    taken = Case(lambda r: embed(r, r.good), add("scale")).run(room)
    assert taken.failed == "the bad input was taken"
    with pytest.raises(NotFollowedError):
        found("Did you mean (.*)", "it is damaged")
