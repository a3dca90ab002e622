from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cell_lm import pl
from cell_lm.errors import InputError
from cell_lm.evaluation import FewShotCurve, risk_coverage

TRUTH, PREDICTED = ["T", "T", "B", "B"], ["T", "T", "B", "T"]
CONFIDENCE = [0.95, 0.85, 0.85, 0.55]


def test_reliability_is_drawn_with_the_calibration_error(tmp_path: Path) -> None:
    axes = pl.annotation_reliability(TRUTH, PREDICTED, CONFIDENCE, save=tmp_path / "reliability.png")
    assert axes.get_title(loc="left") == "reliability (ECE 0.225, 4 cells)"
    points = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_allclose(points, [[0.55, 0], [0.85, 1], [0.95, 1]])
    assert axes.get_ylabel() == "fraction of labels that are right"
    assert (tmp_path / "reliability.png").stat().st_size > 1000
    with pytest.raises(InputError, match="confidences from"):
        pl.annotation_reliability(TRUTH, PREDICTED, [5, 1, 1, 1])


def test_risk_is_drawn_for_one_method_or_several() -> None:
    curve = risk_coverage(TRUTH, PREDICTED, CONFIDENCE)
    axes = pl.risk_coverage(curve)
    assert axes.get_title(loc="left") == "risk and coverage (mean risk 0.062)"
    assert axes.get_legend() is None
    np.testing.assert_allclose(axes.lines[0].get_xdata(), curve.coverage)
    several = pl.risk_coverage({"ours": curve, "linear": risk_coverage(TRUTH, PREDICTED, [1, 2, 3, 4])})
    assert [text.get_text() for text in several.get_legend().get_texts()] == ["ours", "linear"]


def test_few_shot_curves_are_drawn_with_intervals() -> None:
    ours = FewShotCurve((1, 5), ((0.5, 0.6, 0.7), (0.8, 0.85, 0.9)))
    axes = pl.few_shot_curve({"ours": ours, "linear": FewShotCurve((1, 5), ((0.4, 0.5, 0.6), (0.7, 0.7, 0.8)))})
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "5"]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.6, 0.85])
    assert len(axes.collections) == 2
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["ours", "linear"]
    assert pl.few_shot_curve(FewShotCurve((1,), ((0.5,),))).get_legend() is None
