"""Names beside points never cover each other, and lead to their points."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from cell_lm.plots.names import write_names
from cell_lm.plots.response_figures import draw_drug_map, draw_strip
from cell_lm.plots.sensitivity_figures import draw_signature


@pytest.fixture
def ax() -> Axes:
    return Figure(figsize=(6.0, 4.5), layout="constrained").add_subplot()


def written(ax: Axes) -> list[Annotation]:
    ax.figure.draw_without_rendering()
    return [text for text in ax.texts if isinstance(text, Annotation) and text.get_text()]


def refuse_overlaps(ax: Axes, at_least: int) -> None:
    boxes = [text.get_window_extent() for text in written(ax)]
    assert len(boxes) >= at_least
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 for box in boxes)


def test_names_of_a_drug_map_do_not_overlap(ax):
    places = np.random.default_rng(0).normal(size=(30, 2)) * 0.02
    places[0] = 1.0  # the others are crowded in a corner
    draw_drug_map(ax, places, np.arange(30.0), [f"drug of number {i}" for i in range(30)], unit="AUC")
    refuse_overlaps(ax, at_least=4)
    assert written(ax)[0].get_text() == "drug of number 0"


def test_names_of_a_strip_do_not_overlap(ax):
    values = np.linspace(0.5, 0.52, 40)
    draw_strip(ax, values, [f"drug of number {i}" for i in range(40)], label="r")
    refuse_overlaps(ax, at_least=6)
    assert {text.get_text()[15:] for text in written(ax)} == {"0", "1", "2", "37", "38", "39"}


def test_names_of_a_signature_do_not_overlap(ax):
    bulk = np.concatenate([np.linspace(0.4, 0.5, 12), np.random.default_rng(0).uniform(-0.3, 0.3, 200)])
    draw_signature(ax, bulk, bulk, [f"GENE{i}" for i in range(212)], trusted=True)
    refuse_overlaps(ax, at_least=6)


def test_a_name_is_next_to_its_point_where_it_can_be(ax):
    ax.set(xlim=(0, 1), ylim=(0, 1))
    points = np.array([[0.2, 0.5], [0.99, 0.5]])
    assert write_names(ax, points, ["left", "right"], others=points) == 2
    first, second = written(ax)
    assert (first.get_horizontalalignment(), first.xy) == ("left", (0.2, 0.5))
    assert second.get_horizontalalignment() == "right"  # to the right of it the axes end
    assert not [text for text in ax.texts if not text.get_text()]


def test_other_points_stay_visible(ax):
    ax.set(xlim=(0, 1), ylim=(0, 1))
    right = np.column_stack([np.linspace(0.32, 0.4, 20), np.full(20, 0.5)])
    write_names(ax, np.array([[0.3, 0.5]]), ["named"], others=np.vstack([[[0.3, 0.5]], right]))
    assert written(ax)[0].get_horizontalalignment() == "right"


def test_a_name_without_a_free_place_is_left_out(ax):
    ax.set(xlim=(0, 1), ylim=(0, 1))
    points = np.full((20, 2), 0.5)
    number = write_names(ax, points, [f"name {i}" for i in range(20)], others=points)
    assert number == len(written(ax)) < 20
    assert written(ax)[0].get_text() == "name 0"


def test_a_line_leads_out_of_a_crowd(ax):
    ax.set(xlim=(0, 1), ylim=(0, 1))
    angle = np.linspace(0, 2 * np.pi, 40)
    crowd = 0.5 + 0.02 * np.column_stack([np.cos(angle), np.sin(angle)])
    assert write_names(ax, np.array([[0.5, 0.5]]), ["x"], others=crowd) == 1
    (line,) = (text for text in ax.texts if not text.get_text())
    assert line.xy == (0.5, 0.5)
    assert line.get_position() == written(ax)[0].get_position()
    box = written(ax)[0].get_window_extent()
    assert box.count_contains(ax.transData.transform(crowd)) == 0
