"""How numbers are written on the page."""

from __future__ import annotations

import math

import pytest

from cell_lm.evaluation.intervals import Interval
from cell_lm.report import numbers


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.934, "93.4 %"), (0, "0.0 %"), (1, "100.0 %"), (0.99996, "> 99.9 %"), (0.00001, "< 0.1 %"), (0.5, "50.0 %")],
)
def test_a_share_that_is_not_quite_all_is_never_called_all(share: float, text: str) -> None:
    assert plain(numbers.percent(share)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2.34, "2.3 s"),
        (59.6, "1 min 0 s"),
        (372.4, "6 min 12 s"),
        (3_661, "1 h 1 min"),
        (90_000, "1 d 1 h"),
        (42, "42 s"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert plain(numbers.duration(seconds)) == text


def test_scores_have_three_decimals_and_a_true_minus() -> None:
    assert numbers.score(0.93449) == "0.934"
    assert numbers.score(-2.151, 2) == "−2.15"
    assert numbers.score(-0.0001) == "0.000"
    assert numbers.count(1234567) == "1,234,567"
    assert numbers.amount(5_421_312) == "5.42M"


@pytest.mark.parametrize("write", [numbers.count, numbers.score, numbers.percent, numbers.amount, numbers.duration])
@pytest.mark.parametrize("undefined", [None, math.nan, math.inf])
def test_what_is_undefined_is_a_dash_not_a_number(write: object, undefined: float | None) -> None:
    assert callable(write)
    assert write(undefined) == "–"


@pytest.mark.parametrize(
    ("size", "text"), [(7.012e9, "7.01 GB"), (3_400_000, "3.4 MB"), (999, "0.999 kB"), (1e9, "1 GB")]
)
def test_bytes_are_told_in_the_unit_that_fits(size: float, text: str) -> None:
    assert plain(numbers.size(size)) == text


def test_a_score_comes_with_its_interval_and_a_difference_with_its_sign() -> None:
    assert plain(numbers.interval(Interval(0.934, 0.9211, 0.9456, 100))) == "0.934 (0.921 to 0.946)"
    assert plain(numbers.interval(Interval(0.01, -0.02, 0.04, 9), signed=True)) == "+0.010 (−0.020 to +0.040)"
    assert plain(numbers.interval(Interval(0.0001, -0.0001, 0.0, 9), signed=True)) == "0.000 (0.000 to 0.000)"
    assert numbers.interval(None) == "–"
