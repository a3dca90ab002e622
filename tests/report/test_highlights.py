"""The numbers at the head of the page stand beside what they must be read against."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from cell_lm.evaluation.annotation_metrics import annotation_scores
from cell_lm.report import Annotation, Baseline, ReportData, Training
from cell_lm.report.highlights import cards, compare, findings


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def test_a_model_that_loses_to_the_baseline_is_said_to_lose(full: ReportData) -> None:
    card = cards(full).results[0]
    assert (card.value, card.verdict) == ("0.589", "below baseline")
    assert card.note == "logistic regression: 1.000"
    said = plain(" ".join(findings(full)))
    assert "On 10 cells of 1 unseen donor, 80.0 % of the cells" in said
    assert "Logistic regression reaches 1.000 on the same cells: the baseline is ahead" in said


def test_a_model_that_wins_is_said_to_win() -> None:
    truth = ["a", "a", "b", "b"]
    won = Annotation(truth, truth, baselines={"majority": annotation_scores(truth, ["a"] * 4)})
    assert cards(ReportData("t", annotation=won)).results[0].verdict == "above baseline"
    assert "the model is ahead" in findings(ReportData("t", annotation=won))[1]


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (0.904, "level with baseline"),
        (0.896, "level with baseline"),
        (0.91, "above baseline"),
        (0.89, "below baseline"),
    ],
)
def test_small_differences_are_called_level(value: float, verdict: str) -> None:
    assert compare(value, 0.9) == verdict


def test_masked_accuracy_is_that_of_validation_beside_the_naive_guess(full: ReportData) -> None:
    card = cards(full).results[1]
    assert plain(card.value) == "59.0 %"
    assert "in validation cells" in card.label
    assert plain(card.note) == "always the most frequent bin: 41.0 %"


def test_without_validation_the_card_says_that_it_is_of_training_cells(history: pd.DataFrame) -> None:
    only = Training(history[history["kind"] == "train"].reset_index(drop=True), {"masked_accuracy": Baseline(0.9, "x")})
    card = cards(ReportData("t", training=only)).results[0]
    assert "in training cells" in card.label
    assert card.verdict == "below baseline"


def test_facts_add_up(full: ReportData) -> None:
    facts = {card.label: card for card in cards(full).facts}
    assert facts["cells"].value == "60"
    assert facts["cells"].note == "2 data sets, 3 donors"
    assert facts["parameters"].value == "1.23M"
    assert plain(facts["from start to end"].value) == "6 min 12 s"
    assert facts["from start to end"].note == "60 steps, 830 cells/s in training"


def test_donors_are_left_out_where_one_data_set_does_not_know_them(full: ReportData) -> None:
    unknown = replace(full, datasets=(full.datasets[0], replace(full.datasets[1], donors=None)))
    assert cards(unknown).facts[0].note == "2 data sets"


def test_the_time_of_training_stands_in_for_that_of_the_run(full: ReportData) -> None:
    facts = {card.label: plain(card.value) for card in cards(replace(full, seconds=None)).facts}
    assert facts["of training"] == "30 s"


def test_confidence_is_reported_with_its_share(annotation: Annotation) -> None:
    assert annotation.at_confidence(0.9) == (pytest.approx(0.2), pytest.approx(1.0))
    assert annotation.at_confidence(0.0) == (pytest.approx(1.0), pytest.approx(0.8))
    assert annotation.at_confidence(0.999) is None
    assert replace(annotation, confidence=None).at_confidence(0.5) is None


def test_an_empty_report_has_no_cards_and_no_findings() -> None:
    made = cards(ReportData("t"))
    assert (made.results, made.facts, findings(ReportData("t"))) == ((), (), [])
