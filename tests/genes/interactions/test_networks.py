"""Networks of genes: each pair once whatever the order it came in, and what can be done with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell_lm.errors import GeneError, InputError
from cell_lm.genes import Vocabulary
from cell_lm.genes.interactions import Network, join_networks

GENES = Vocabulary(tuple("ABCDEFGH"), ("",) * 8)
PAIRS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.sampled_from([0.1, 0.25, 0.5, 0.7, 1.0])))


def network(rows, name="test", **more):
    a, b, score = ([row[i] for row in rows] for i in range(3))
    return Network.from_pairs(a, b, score, vocabulary=GENES, name=name, **more)


def expected(rows):
    best = {}
    for a, b, score in rows:
        pair = (min(a, b), max(a, b))
        if a != b:
            best[pair] = max(score, best.get(pair, 0))
    return best


def edges(of):
    return {(int(a), int(b)): pytest.approx(s) for a, b, s in zip(of.first, of.second, of.score, strict=True)}


@given(PAIRS)
def test_each_pair_is_kept_once_with_its_highest_score(rows):
    made = network(rows)
    assert edges(made) == expected(rows)
    assert list(zip(made.first, made.second, strict=True)) == sorted(zip(made.first, made.second, strict=True))


@given(PAIRS.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))), st.randoms())
def test_order_and_direction_of_the_pairs_do_not_matter(both, random):
    rows, shuffled = both
    turned = [(b, a, s) if random.random() < 0.5 else (a, b, s) for a, b, s in shuffled]
    assert network(rows).hash == network(turned).hash


@given(PAIRS)
def test_the_adjacency_is_symmetric_with_an_empty_diagonal_and_counts_every_edge_twice(rows):
    made = network(rows)
    matrix = made.adjacency()
    assert (matrix != matrix.T).nnz == 0
    assert matrix.diagonal().sum() == 0
    assert matrix.dtype == np.float32
    assert matrix.shape == (8, 8)
    assert made.degree.tolist() == np.diff(matrix.indptr).tolist()
    assert made.known.tolist() == [d > 0 for d in made.degree]
    assert made.degree.sum() == 2 * len(made)


@given(PAIRS, PAIRS)
def test_joining_is_the_union_with_the_highest_score_whatever_the_order(left, right):
    joined = join_networks([network(left, "a"), network(right, "b")])
    assert edges(joined) == expected(left + right)
    assert joined.name == "a+b"
    assert joined.hash == join_networks([network(right), network(left)]).hash


@given(PAIRS, PAIRS)
def test_pairs_taken_out_are_gone_either_way_round_and_no_others(rows, out):
    taken = network(rows).without([row[1] for row in out], [row[0] for row in out])
    gone = expected(out)
    assert edges(taken) == {pair: score for pair, score in expected(rows).items() if pair not in gone}


def test_dropped_pairs_are_counted_in_the_notes():
    made = network([(0, 1, 0.5), (1, 0, 0.9), (2, 2, 0.5), (3, 4, 0.1)], notes=("before",))
    assert made.notes == (
        "before",
        "1 pairs of a gene with itself were dropped",
        "1 pairs were there more than once: the highest score was kept",
    )
    assert made.above(0.5).notes[-1] == "1 edges of a score under 0.5 were left out"
    assert made.without([0], [1]).notes[-1] == "1 edges were left out by name"
    assert made.above(0.05).notes == made.notes


def test_the_summary_counts_edges_genes_and_scores_and_says_what_was_dropped():
    made = network([(0, 1, 0.5), (0, 2, 0.25), (3, 3, 1.0)], source="somewhere")
    assert made.summary().splitlines() == [
        "test: 2 edges of 3 genes of 8",
        "edges of a gene: median 1, most 2",
        "scores: 0.250 to 0.500, median 0.375; 1 of at least 0.3, 1 of at least 0.5, 0 of at least 0.7",
        "source: somewhere",
        "1 pairs of a gene with itself were dropped",
    ]
    assert network([]).summary() == "test: 0 edges of 0 genes of 8"


def test_a_threshold_keeps_the_edges_that_have_just_it():
    assert len(network([(0, 1, 0.7), (0, 2, 0.6999)]).above(0.7)) == 1


def test_power_sharpens_scores_and_zero_makes_them_equal():
    made = network([(0, 1, 0.5), (0, 2, 1.0)])
    assert made.adjacency(2.0)[0].toarray()[0, :3].tolist() == [0, 0.25, 1]
    assert made.adjacency(0)[0].toarray()[0, :3].tolist() == [0, 1, 1]


def test_edges_without_scores_have_score_one():
    assert Network.from_pairs([1], [0], vocabulary=GENES, name="x").score.tolist() == [1.0]


def test_the_hash_tells_pairs_scores_and_vocabularies_apart():
    other = Vocabulary((*"ABCDEFG", "X"), ("",) * 8)
    made = [
        network([(0, 1, 0.5)]),
        network([(0, 2, 0.5)]),
        network([(0, 1, 0.25)]),
        Network.from_pairs([0], [1], [0.5], vocabulary=other, name="test"),
    ]
    assert len({one.hash for one in made}) == 4
    assert network([(0, 1, 0.5)], "another name").hash == made[0].hash


def test_its_arrays_cannot_be_written():
    made = network([(0, 1, 0.5)])
    for array in (made.first, made.second, made.score):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_the_arrays_it_is_made_of_can_still_be_written_and_do_not_change_it():
    first, second, score = np.array([0], np.int32), np.array([1], np.int32), np.array([0.5], np.float32)
    made = Network(GENES, first, second, score, "x")
    first[0], second[0], score[0] = 3, 4, 1
    assert edges(made) == {(0, 1): 0.5}
    assert Network(GENES, made.first, made.second, made.score, "y").first is made.first


def test_no_pairs_make_an_empty_network():
    made = network([])
    assert len(made) == 0
    assert made.adjacency().nnz == 0
    assert not made.known.any()


@pytest.mark.parametrize("score", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_scores_outside_zero_to_one_are_refused_with_their_count(score):
    with pytest.raises(InputError, match=r"x: 1 of 2 scores"):
        Network.from_pairs([0, 1], [2, 3], [0.5, score], vocabulary=GENES, name="x")


@pytest.mark.parametrize("position", [-1, 8])
def test_positions_outside_the_vocabulary_are_refused(position):
    with pytest.raises(InputError, match="1 of 2 positions are not in the vocabulary of 8 genes"):
        Network.from_pairs([0], [position], vocabulary=GENES, name="x")


def test_lengths_that_differ_are_refused():
    with pytest.raises(InputError, match="do not belong together"):
        Network.from_pairs([0, 1], [1], vocabulary=GENES, name="x")


def test_unsorted_arrays_are_refused_where_nothing_sorts_them():
    first, second = np.array([1, 0], np.int32), np.array([2, 1], np.int32)
    with pytest.raises(InputError, match="not sorted"):
        Network(GENES, first, second, np.ones(2, np.float32), "x")


def test_networks_of_different_vocabularies_are_not_joined():
    other = Vocabulary((*"ABCDEFG", "X"), ("",) * 8)
    with pytest.raises(GeneError, match="different vocabularies"):
        join_networks([network([]), Network.from_pairs([], [], vocabulary=other, name="x")])
    with pytest.raises(InputError, match="no networks"):
        join_networks([])
