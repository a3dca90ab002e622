"""What is drawn is what was measured."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cell_lm.evaluation.annotation_metrics import annotation_scores
from cell_lm.plots import figures
from cell_lm.plots.style import category_colours, drawing


def axes() -> Axes:
    return Figure(figsize=(5, 4)).add_subplot()


def texts(ax: Axes) -> dict[tuple[float, float], str]:
    return {text.get_position(): text.get_text() for text in ax.texts}


def test_the_heat_map_writes_every_count_at_its_place_and_shades_by_row() -> None:
    truth = ["rare"] + ["common"] * 4 + ["middle"] * 2
    guess = ["common"] + ["common"] * 3 + ["ghost"] + ["middle"] * 2
    scores = annotation_scores(truth, guess)
    ax = axes()
    figures.draw_confusion(ax, scores)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["common  (4)", "middle  (2)", "rare  (1)"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["common", "middle", "rare", "ghost"]
    assert texts(ax) == {(0, 0): "3", (3, 0): "1", (1, 1): "2", (0, 2): "1"}
    np.testing.assert_allclose(ax.images[0].get_array(), [[0.75, 0, 0, 0.25], [0, 1, 0, 0], [1, 0, 0, 0]])
    assert sum(int(text) for text in texts(ax).values()) == len(truth)


def test_counts_can_be_read_on_every_shade() -> None:
    def luminance(rgb: NDArray[np.float64]) -> float:
        return float(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])

    for right in range(1, 101):
        ax = axes()
        figures.draw_confusion(ax, annotation_scores(["a"] * 100 + ["b"], ["a"] * right + ["b"] * (101 - right)))
        *colour, alpha = figures.HEAT(right / 100)
        shade = luminance(alpha * np.array(colour) + (1 - alpha))
        text = luminance(np.array(next(to_rgb(t.get_color()) for t in ax.texts if t.get_position() == (0, 0))))
        high, low = max(shade, text), min(shade, text)
        assert (high + 0.05) / (low + 0.05) > 3, f"a share of {right} %"


def test_the_map_draws_every_cell_in_its_colour_and_missing_ones_first() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(50, 2))
    values = np.array(["not given"] * 10 + ["a"] * 25 + ["b"] * 15)
    colours = category_colours(values.tolist())
    ax = axes()
    figures.draw_map(ax, points, values, colours)
    drawn = ax.collections[0]
    where = {tuple(point): i for i, point in enumerate(points)}
    order = [where[tuple(point)] for point in drawn.get_offsets()]
    assert sorted(order) == list(range(50))
    assert set(order[:10]) == set(range(10))
    assert order[10:] != sorted(order[10:])
    for i, colour in zip(order, drawn.get_facecolors(), strict=True):
        np.testing.assert_allclose(colour[:3], to_rgb(colours[values[i]]))


def test_the_legend_counts_the_cells_largest_first() -> None:
    values = ["few"] * 2 + ["many"] * 5
    ax = axes()
    figures.draw_map(ax, np.random.default_rng(0).normal(size=(7, 2)), values, category_colours(values))
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["many  5", "few  2"]


def test_names_on_the_map_never_overlap_and_stand_on_a_cell_of_theirs() -> None:
    rng = np.random.default_rng(1)
    values = np.array([f"cell type {i % 14}" for i in range(700)])
    points = rng.normal(0, 0.5, (700, 2)) + np.arange(700)[:, None] % 14 * [0.4, 0.1]
    figure = Figure(figsize=(4, 3))
    ax = figure.add_subplot()
    with drawing():
        figures.draw_map(ax, points, values, category_colours(values.tolist()), on_map=True, legend=False)
    named = [text for text in ax.texts if text.get_text().startswith("cell type")]
    assert 1 < len(named) < 14
    assert not any(a.get_window_extent().overlaps(b.get_window_extent()) for a, b in combinations(named, 2))
    for text in named:
        assert tuple(text.get_position()) in {tuple(point) for point in points[values == text.get_text()]}


def test_dollars_in_names_are_not_read_as_formulas() -> None:
    values = ["$\\frac{$"] * 5 + ["$x^2$"] * 5
    figure = Figure(layout="constrained")
    ax = figure.add_subplot()
    with drawing():
        figures.draw_map(
            ax, np.random.default_rng(0).normal(size=(10, 2)), values, category_colours(values), on_map=True
        )
        figures.draw_confusion(figure.add_subplot(2, 2, 4), annotation_scores(values, values))
        figure.draw_without_rendering()


def test_a_curve_shows_training_smoothed_validation_and_baseline(history: pd.DataFrame) -> None:
    ax = axes()
    figures.draw_curve(ax, history, "masked_accuracy", title="T", percent=True, baseline=(0.41, "naive"))
    lines = {str(line.get_label()): line for line in ax.lines}
    assert {"training (smoothed)", "validation", "naive"} <= set(lines)
    assert lines["validation"].get_xdata().tolist() == [10, 20, 30, 40, 50, 60]
    assert lines["naive"].get_linestyle() == "--"
    low, high = ax.get_ylim()
    assert low < 0.41 < high
    ax.figure.draw_without_rendering()
    assert any(label.get_text().endswith(" %") for label in ax.get_yticklabels())


def test_one_spike_does_not_squeeze_the_curve() -> None:
    values = np.linspace(2, 1, 400)
    values[7] = 1e6
    history = pd.DataFrame({"kind": "train", "step": np.arange(400), "total": values})
    ax = axes()
    figures.draw_curve(ax, history, "total", title="T")
    assert ax.get_ylim()[1] < 3


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5, 0.5], [np.nan, np.nan]])
def test_short_flat_and_empty_curves_are_drawn(values: list[float]) -> None:
    history = pd.DataFrame({"kind": "train", "step": np.arange(len(values)), "total": values})
    ax = axes()
    figures.draw_curve(ax, history, "total", title="T")
    ax.figure.draw_without_rendering()


def test_distributions_are_shares_of_each_data_set_and_skip_empty_cells() -> None:
    values = {"a": np.array([0, 10, 100, 1000]), "b": np.full(50, 30)}
    ax = axes()
    figures.draw_distribution(ax, values, {"a": "#111111", "b": "#222222"}, title="T")
    outlines = [patch for patch in ax.patches if not patch.get_fill()]
    assert [float(np.sum(patch.get_data().values)) for patch in outlines] == pytest.approx([1.0, 1.0])
    assert ax.get_xscale() == "log"


def test_the_gene_audit_stacks_to_all_genes_of_the_input() -> None:
    ax = axes()
    figures.draw_gene_audit(ax, {"x": {"matched": 70, "renamed": 20, "unknown": 10}, "y": {"matched": 5}})
    ends = {}
    for bar in ax.patches:
        ends[round(bar.get_y())] = max(ends.get(round(bar.get_y()), 0), bar.get_x() + bar.get_width())
    assert sorted(ends.values()) == [5, 100]
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["matched  75", "renamed  20", "unknown  10"]
