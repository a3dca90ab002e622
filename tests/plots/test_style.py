"""Colours that everybody can tell apart, and names and numbers that fit."""

from __future__ import annotations

import itertools

import matplotlib as mpl
import numpy as np
import pytest
from numpy.typing import NDArray

from cell_lm.plots import style

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
SIGHTS = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}


def linear(colour: str) -> NDArray[np.float64]:
    value = np.array(mpl.colors.to_rgb(colour))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def oklab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    to_lms = np.array(
        [
            [0.41222147, 0.53633254, 0.05144599],
            [0.21190350, 0.68069955, 0.10739696],
            [0.08830246, 0.28171884, 0.62997870],
        ]
    )
    to_lab = np.array(
        [
            [0.21045426, 0.79361779, -0.00407205],
            [1.97799850, -2.42859220, 0.45059371],
            [0.02590404, 0.78277177, -0.80867577],
        ]
    )
    return to_lab @ np.cbrt(np.clip(to_lms @ rgb, 0, None))


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def contrast(first: str, second: str) -> float:
    high, low = sorted([luminance(first), luminance(second)], reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("sight", SIGHTS)
def test_any_two_category_colours_differ_for_every_sight(sight: str) -> None:
    seen = [oklab(np.clip(SIGHTS[sight] @ linear(colour), 0, 1)) for colour in style.CATEGORIES]
    nearest = min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2))
    assert nearest > 0.055


def test_category_colours_show_on_white_and_on_dark_paper() -> None:
    for colour in style.CATEGORIES:
        assert contrast(colour, "#ffffff") > 1.8
        assert contrast(colour, "#12171d") > 1.8


def test_text_colours_have_the_contrast_that_wcag_asks_for() -> None:
    assert contrast(style.INK, "#ffffff") > 7
    assert contrast(style.MUTED, "#ffffff") > 4.5
    assert contrast("#ffffff", style.ACCENT) > 4.5


def test_categories_are_ordered_by_size_then_by_natural_name_with_missing_last() -> None:
    values = ["not given"] * 9 + ["donor10", "donor2"] + ["T cell"] * 3
    assert list(style.by_size(values).items()) == [("T cell", 3), ("donor2", 1), ("donor10", 1), ("not given", 9)]


def test_states_always_have_their_own_colours() -> None:
    assert style.category_colours(["normal"] * 5 + ["tumour"]) == {
        "normal": style.STATES["normal"],
        "tumour": style.STATES["tumour"],
    }


def test_a_category_keeps_the_colour_of_an_earlier_figure_and_new_ones_take_free_colours() -> None:
    first = style.category_colours(["a"] * 3 + ["b"] * 2 + ["c"])
    second = style.category_colours(["c"] * 3 + ["a"] * 2 + ["new"], first)
    assert (second["a"], second["c"]) == (first["a"], first["c"])
    assert second["new"] not in first.values()


def test_unrelated_categories_do_not_borrow_colours() -> None:
    first = style.category_colours(["a", "b"])
    donors = style.category_colours(["d1", "d2"], first, skip=2)
    assert not set(donors.values()) & set(first.values())


def test_past_twenty_categories_the_smallest_share_a_grey_and_one_entry_of_the_legend() -> None:
    values = [f"type {i}" for i in range(25) for _ in range(30 - i)] + ["not given"]
    colours = style.category_colours(values)
    assert len(set(list(colours.values())[:20])) == 20
    assert {colours[f"type {i}"] for i in range(20, 25)} == {style.GREY}
    keys = style.legend(values, colours)
    assert [key.name for key in keys[-3:]] == ["type 19", "5 smaller ones", "not given"]
    assert sum(key.cells for key in keys) == len(values)


def test_long_names_lose_their_middle() -> None:
    assert style.short("alpha") == "alpha"
    long = style.short("CD8+ tissue-resident memory T cell, colon", 20)
    assert len(long) <= 20
    assert long.startswith("CD8+")
    assert long.endswith("colon")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12, "12"), (999.6, "1k"), (12_345, "12.3k"), (5.42e6, "5.42M"), (0.00025, "2.5e−4"), (-3.5, "−3.5")],
)
def test_compact_numbers(value: float, text: str) -> None:
    assert style.compact(value) == text


def test_drawing_leaves_the_settings_of_the_user() -> None:
    before = dict(mpl.rcParams)
    with style.drawing():
        assert mpl.rcParams["text.parse_math"] is False
    assert dict(mpl.rcParams) == before
