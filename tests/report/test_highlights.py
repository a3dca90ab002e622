"""The numbers at the head of the page stand beside what they must be read against."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from cell_lm.report import Annotation, Baseline, ReportData, Training
from cell_lm.report.highlights import cards, compare, findings


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def against(right: int, rival_right: int) -> ReportData:
    """Make a report of 200 cells of two types, of which model and baseline label so many as they are."""
    truth = ["a", "b"] * 100
    other = ["b", "a"] * 100
    predicted, baseline = (truth[:n] + other[n:] for n in (right, rival_right))
    made = Annotation(
        truth, predicted, baselines={"majority": ["a"] * 200, "logistic regression": baseline}, tested_on="200 cells"
    )
    return ReportData("t", annotation=made)


def test_a_model_that_loses_to_the_baseline_is_said_to_lose() -> None:
    lost = against(160, 190)
    card = cards(lost).results[0]
    assert (card.value, card.verdict) == ("0.800", "below baseline")
    assert card.note == "logistic regression: 0.950"
    first, second = map(plain, findings(lost))
    assert first.startswith(
        "On 200 cells, 80.0 % of the cells are labelled correctly; macro-F1 is 0.800 (95 % interval 0."
    )
    assert "the baseline is ahead by 0.150, and the simpler method is the better choice here" in second
    assert "(model less baseline), −0." in second
    assert second.endswith("excludes 0.")


def test_a_model_that_wins_is_said_to_win_against_the_strongest_baseline() -> None:
    won = against(190, 160)
    assert cards(won).results[0].verdict == "above baseline"
    said = findings(won)[1]
    assert said.startswith("Logistic regression, the strongest baseline, reaches macro-F1 0.800")
    assert "the model is ahead by 0.150;" in said
    assert said.endswith("excludes 0.")


def test_a_lead_within_chance_is_called_level_and_chance() -> None:
    close = against(180, 179)
    assert cards(close).results[0].verdict == "level with baseline"
    assert "the model is ahead by 0.005, which may be chance" in findings(close)[1]
    assert findings(close)[1].endswith("includes 0.")
    assert "they are level, which may be chance" in findings(against(180, 180))[1]


def test_without_a_baseline_nothing_is_compared() -> None:
    alone = ReportData("t", annotation=Annotation(["a", "b"], ["a", "b"]))
    card = cards(alone).results[0]
    assert (card.note, card.verdict) == ("", "")
    assert len(findings(alone)) == 1


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
