from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.errors import ConfigError, InputError
from cell_lm.evaluation.novelty import novelty_auroc
from cell_lm.tasks.annotation.novelty import NoveltyScores
from cell_lm.tasks.annotation.unknown import UnknownRule, fit_unknown

TYPES, WIDTH, GENES = 4, 12, 120
NOVEL = TYPES
"""The type that the reference lacks."""
MARKERS = 8


class Made:
    """Cells of five types from four donors: an embedding, counts, and probabilities of the four known types."""

    def __init__(self, cells: int, seed: int) -> None:
        rng, fixed = np.random.default_rng(seed), np.random.default_rng(42)
        self.codes = rng.integers(0, TYPES + 1, cells)
        self.donors = np.array([f"d{number}" for number in rng.integers(0, 4, cells)], object)
        centres = fixed.normal(0, 1, (TYPES + 1, WIDTH))
        self.features = 3 * centres[self.codes] + rng.normal(0, 1, (cells, WIDTH))
        share = fixed.dirichlet(np.full(GENES, 0.5), 1).repeat(TYPES + 1, axis=0)
        for code in range(TYPES + 1):
            share[code, code * MARKERS : (code + 1) * MARKERS] += 0.02
        share[:NOVEL, NOVEL * MARKERS : (NOVEL + 1) * MARKERS] = 0.0
        share /= share.sum(axis=1, keepdims=True)
        depth = rng.lognormal(6.5, 0.4, cells)
        self.counts = sparse.csr_matrix(rng.poisson(share[self.codes] * depth[:, None]), dtype=np.float32)
        logits = -0.5 * ((self.features[:, None] - 3 * centres[None, :TYPES]) ** 2).sum(axis=2) / 4
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        self.probabilities = p / p.sum(axis=1, keepdims=True)

    def known(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.codes != NOVEL)


@pytest.fixture(scope="module")
def made() -> Made:
    return Made(1200, 0)


@pytest.fixture(scope="module")
def new() -> Made:
    return Made(1200, 1)


def fit(made: Made, *, counts: bool = True, **how: object) -> UnknownRule:
    rows = made.known()
    given = {"counts": made.counts[rows], "measured": np.arange(GENES)} if counts else {}
    return fit_unknown(made.features[rows], made.codes[rows], made.probabilities[rows], **given, **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def rule(made: Made) -> UnknownRule:
    return fit(made, donors=made.donors[made.known()])


def novelty(rule: UnknownRule, cells: Made) -> NDArray[np.float64]:
    return rule.novelty(cells.features, cells.probabilities, cells.counts)


def test_cells_of_a_type_that_the_reference_lacks_are_unknown(rule: UnknownRule, new: Made) -> None:
    found, novel = novelty(rule, new), new.codes == NOVEL
    assert novelty_auroc(found[~novel], found[novel]) > 0.98
    assert rule.is_unknown(found)[novel].mean() > 0.9


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.2])
def test_known_cells_are_wrongly_unknown_at_the_stated_rate(rule: UnknownRule, new: Made, rate: float) -> None:
    wrong = rule.is_unknown(novelty(rule, new)[new.codes != NOVEL], rate)
    assert abs(wrong.mean() - rate) < 3.5 * np.sqrt(2 * rate * (1 - rate) / len(wrong))


def test_novelty_is_a_fraction_of_known_cells_and_far_cells_are_not_tied(rule: UnknownRule, new: Made) -> None:
    found = novelty(rule, new)
    known = found[new.codes != NOVEL]
    assert 0 <= found.min() <= found.max() <= 1
    np.testing.assert_allclose(np.quantile(known, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.06)
    far = found[new.codes == NOVEL]
    assert len(np.unique(far)) > 0.95 * len(far)


def test_each_score_alone_sees_the_novel_type(rule: UnknownRule, new: Made) -> None:
    scores = rule.scores.score(new.features, new.probabilities, new.counts)
    assert rule.scores.names == ("excess", "profile", "direction", "distance", "confidence")
    novel = new.codes == NOVEL
    aurocs = {
        name: novelty_auroc(column[~novel], column[novel])
        for name, column in zip(rule.scores.names, scores.T, strict=True)
    }
    assert min(aurocs[name] for name in ("excess", "profile", "direction", "distance")) > 0.9
    assert aurocs["confidence"] > 0.6


def test_the_genes_in_excess_are_those_of_the_novel_type(rule: UnknownRule, new: Made) -> None:
    rows = np.flatnonzero(new.codes == NOVEL)
    _, genes, excess = rule.scores.excess_genes(new.counts[rows])
    total = np.bincount(genes, excess, minlength=GENES)
    assert set(np.argsort(-total)[:MARKERS]) == set(range(NOVEL * MARKERS, (NOVEL + 1) * MARKERS))
    assert (excess > 0).all()


def test_a_gene_that_no_type_expresses_counts_only_where_it_was_measured(made: Made, new: Made) -> None:
    rows, novel = made.known(), np.flatnonzero(new.codes == NOVEL)
    markers = np.arange(NOVEL * MARKERS, (NOVEL + 1) * MARKERS)
    for measured, there in ((np.arange(GENES), True), (None, False)):
        scores = NoveltyScores.fit(made.features[rows], made.codes[rows], made.counts[rows], measured)
        assert bool(np.isin(scores.excess_genes(new.counts[novel])[1], markers).any()) is there


def test_without_counts_two_scores_are_left(made: Made, new: Made) -> None:
    rule = fit(made, counts=False)
    assert rule.scores.names == ("direction", "distance", "confidence")
    found, novel = rule.novelty(new.features, new.probabilities), new.codes == NOVEL
    assert novelty_auroc(found[~novel], found[novel]) > 0.9


def test_a_rule_that_reads_counts_says_so(rule: UnknownRule, new: Made) -> None:
    with pytest.raises(InputError, match="the rule reads counts"):
        rule.novelty(new.features, new.probabilities)


def test_a_rate_that_is_none_and_cells_that_cannot_be_left_out_are_refused(made: Made, rule: UnknownRule) -> None:
    with pytest.raises(ConfigError, match="wrongly unknown cells is 1"):
        fit(made, rate=1.0)
    with pytest.raises(ConfigError, match="wrongly unknown cells is 0"):
        rule.is_unknown(np.zeros(3), 0.0)
    rows = np.array([np.flatnonzero(made.codes == code)[0] for code in range(TYPES)])
    with pytest.raises(InputError, match="no cell could be left out"):
        fit_unknown(made.features[rows], made.codes[rows], np.full((TYPES, TYPES), np.nan))


def test_donors_are_left_out_whole(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, seen = made.known(), list[NDArray[np.float64]]()
    learn = NoveltyScores.fit.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        NoveltyScores, "fit", classmethod(lambda cls, x, *rest: (seen.append(x), learn(cls, x, *rest))[1])
    )
    donors = made.donors[rows]
    fit_unknown(made.features[rows], made.codes[rows], made.probabilities[rows], donors=donors)
    places = {row.tobytes(): number for number, row in enumerate(made.features[rows])}
    folds = [set(donors[[places[row.tobytes()] for row in x]]) for x in seen]
    assert sorted(map(len, folds)) == [3, 3, 3, 3, 4]


def test_saved_and_restored_it_gives_the_same_and_holds_no_cells(rule: UnknownRule, new: Made) -> None:
    values, arrays = json.loads(json.dumps(rule.values())), rule.arrays()
    again = UnknownRule.restore(values, arrays, TYPES, WIDTH, GENES)
    np.testing.assert_array_equal(novelty(again, new), novelty(rule, new))
    assert again.rate == rule.rate
    assert max(array.shape[0] for array in arrays.values() if array.ndim == 2) <= max(TYPES, WIDTH)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("unknown.means", lambda array: array[:, :-1]),
        ("unknown.largest", lambda array: array * np.float16(np.nan)),
        ("unknown.genes", lambda array: array[::-1]),
        ("unknown.genes", lambda array: array + np.int32(GENES)),
        ("unknown.knots", lambda array: array[:, ::-1].copy()),
        ("unknown.unit_whitener", lambda array: array.astype(np.float64)),
    ],
)
def test_a_damaged_rule_is_refused(rule: UnknownRule, name: str, change: object) -> None:
    arrays = rule.arrays()
    with pytest.raises(ValueError, match=r"unknown|indices|calibration"):
        UnknownRule.restore(rule.values(), arrays | {name: change(arrays[name])}, TYPES, WIDTH, GENES)  # type: ignore[operator]
