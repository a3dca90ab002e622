"""The benchmark of gene vectors, on a network of four groups of genes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cell_lm.genes import Vocabulary
from cell_lm.genes.features import node_features
from cell_lm.pretraining.gene_vectors import learn_gene_vectors
from studies import gene_methods
from studies.gene_graphs import (
    ANAT,
    BIOGRID,
    GRAPHS,
    HELD_OUT,
    NO_COMMON_SET,
    WHOLE,
    Knowledge,
    Pairs,
    read_knowledge,
)
from studies.gene_methods import METHODS, Bench, Scale, beside, exact_netmf, features, graphmae_config
from studies.gene_pairs import ClassifierSettings, classifier_auc, read_pairs
from studies.gene_store import ResultStore, Vectors
from studies.gene_tests import cosine, degree_sum, forms, link_aucs, purities
from studies.gene_vectors import NAMES, judge, summary
from studies.gene_walks import Node2VecSettings, node2vec_vectors, random_walks, running_sums

GENES, GROUPS = 80, 4
SCALE = Scale(
    width=16, seeds=2, windows=(3,), powers=(1.0, 2.0), spectral_powers=(0.0, 1.0),
    node2vec=Node2VecSettings(width=16, walk_length=6, context=3, epochs=3, batch=16),
    graphmae={"steps": 2, "hidden": 16, "window": 3, "pairs": 32},
)  # fmt: skip


def group(gene: np.ndarray) -> np.ndarray:
    return gene % GROUPS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write files like the real ones: genes of a group interact, and share a set and a pathway."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("genes")
    symbols = np.array(Vocabulary.human().symbols[:GENES])
    first, second = (each.ravel() for each in np.triu_indices(GENES, 1))
    inside = group(first) == group(second)
    linked = rng.random(len(first)) < np.where(inside, 0.5, 0.02)
    edges = pd.DataFrame({"gene_a": symbols[first], "gene_b": symbols[second], "score": 0.5})
    edges[linked].to_parquet(folder / "ppi_string12_union.parquet")
    anat = edges[rng.random(len(edges)) < 0.1].assign(source=ANAT)
    biogrid = edges[rng.random(len(edges)) < np.where(inside, 0.3, 0.05)].assign(source=BIOGRID)
    strangers = pd.DataFrame({"gene_a": ["NOT-A-GENE"], "gene_b": [symbols[0]], "score": [0.9], "source": [ANAT]})
    pd.concat([anat, biogrid, strangers]).to_parquet(folder / "ppi_all_sources.parquet")
    labelled = edges.assign(label=inside.astype(int), split=rng.choice(["train", "valid", "test"], len(edges)))
    pd.concat([labelled, strangers.assign(label=1, split="test")]).to_parquet(folder / "gene2vec_ggi_pairs.parquet")
    for name in ("reactome", "hallmark"):
        lines = ["\t".join([f"set{i}", "url", *symbols[i::GROUPS], "NOT-A-GENE"]) for i in range(GROUPS)]
        (folder / f"{name}.gmt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def knowledge(folder: Path) -> Knowledge:
    return read_knowledge(folder)


@pytest.fixture
def bench(folder: Path, knowledge: Knowledge, tmp_path: Path) -> Bench:
    pairs = read_pairs(folder / "gene2vec_ggi_pairs.parquet", knowledge.vocabulary)
    return Bench(knowledge, pairs, folder, ResultStore(tmp_path), SCALE)


@pytest.fixture
def perfect(knowledge: Knowledge) -> Vectors:
    values = np.zeros((len(knowledge.vocabulary), GROUPS), np.float32)
    values[np.arange(GENES), group(np.arange(GENES))] = 1
    return Vectors.of(values)


# --- what is learned on ---


def test_no_edge_of_a_common_set_is_left_in_the_graph_without_them(knowledge: Knowledge) -> None:
    for source in ("string", "anat", "joined"):
        network = knowledge.network(source, NO_COMMON_SET)
        assert 0 < len(network) < len(knowledge.network(source, WHOLE))
        assert not np.any(group(network.first) == group(network.second))


@pytest.mark.parametrize("source", ["string", "anat", "joined"])
def test_edges_that_are_held_out_are_in_no_network(knowledge: Knowledge, source: str) -> None:
    network, genes = knowledge.network(source, HELD_OUT), len(knowledge.vocabulary)
    left = Pairs(network.first.astype(np.int64), network.second.astype(np.int64)).codes(genes)
    assert not np.isin(knowledge.held_out.codes(genes), left).any()
    assert len(knowledge.held_out) == round(0.1 * len(knowledge.string))


def test_biogrid_edges_are_in_no_other_source(knowledge: Knowledge) -> None:
    genes, joined = len(knowledge.vocabulary), knowledge.network("joined", WHOLE)
    others = Pairs(joined.first.astype(np.int64), joined.second.astype(np.int64)).codes(genes)
    assert len(knowledge.biogrid) > 50
    assert not np.isin(knowledge.biogrid.codes(genes), others).any()


@pytest.mark.parametrize("matched", [False, True])
def test_chance_pairs_do_not_interact_and_follow_their_seed(knowledge: Knowledge, matched: bool) -> None:
    genes = len(knowledge.vocabulary)
    drawn = knowledge.negatives(knowledge.held_out, 3, matched=matched)
    assert len(drawn) == len(knowledge.held_out)
    assert not np.isin(drawn.codes(genes), knowledge.interactions).any()
    assert np.all(drawn.first != drawn.second)
    again, other = (knowledge.negatives(knowledge.held_out, seed, matched=matched) for seed in (3, 4))
    np.testing.assert_array_equal(drawn.first, again.first)
    assert np.any(drawn.first != other.first)


def test_matched_chance_pairs_are_as_popular_as_the_links(knowledge: Knowledge) -> None:
    hub = Pairs(np.zeros(2000, np.int64), np.arange(2000) % 1000 + 2000)
    even, matched = (knowledge.negatives(hub, 0, matched=kind) for kind in (False, True))
    assert np.mean((matched.first == 0) | (matched.second == 0)) > 0.5
    assert np.mean((even.first == 0) | (even.second == 0)) < 0.05


# --- tests of vectors ---


def test_vectors_that_know_the_groups_are_pure_and_random_ones_as_chance_has_it(
    knowledge: Knowledge, perfect: Vectors
) -> None:
    pure, chance = purities(perfect, [knowledge.sets["reactome"]])["reactome"]
    assert pure == 1.0
    assert chance == pytest.approx((GENES / GROUPS - 1) / (GENES - 1))
    noise = Vectors.of(
        np.where(perfect.known[:, None], np.random.default_rng(0).normal(size=(len(perfect.known), 8)), 0)
    )
    assert purities(noise, [knowledge.sets["reactome"]])["reactome"][0] == pytest.approx(chance, abs=0.05)


def test_genes_that_are_not_known_count_as_chance(knowledge: Knowledge, perfect: Vectors) -> None:
    known = perfect.known & (np.arange(len(perfect.known)) % 8 < 4)
    half = Vectors.of(np.where(known[:, None], perfect.values, 0))
    pure, chance = purities(half, [knowledge.sets["reactome"]])["reactome"]
    nine_of_ten = 0.9  # a group has nine other genes that are known
    assert pure == pytest.approx((nine_of_ten + 10 / 40) / 2, abs=0.01)
    assert chance == pytest.approx((9 / 39 + 10 / 40) / 2)


def test_only_some_genes_can_be_neighbours(knowledge: Knowledge, perfect: Vectors) -> None:
    strangers = group(np.arange(len(perfect.known))) == 0
    pure, _ = purities(perfect, [knowledge.sets["reactome"]], strangers)["reactome"]
    assert pure == pytest.approx(1 / GROUPS)


def test_pairs_with_a_gene_that_is_not_known_have_cosine_0(perfect: Vectors) -> None:
    pairs = Pairs(np.array([0, 0, -1, 0]), np.array([4, 1, 0, GENES]))
    np.testing.assert_allclose(cosine(perfect)(pairs), [1, 0, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(degree_sum(np.arange(100))(Pairs(np.array([3, -1]), np.array([4, 5]))), [7, 5])


def test_perfect_vectors_predict_links_and_pairs(bench: Bench, perfect: Vectors) -> None:
    assert bench.pairs["test"].judge(cosine(perfect)) > 0.95  # one pair has no gene of the vocabulary
    links = link_aucs(cosine(perfect), bench.knowledge.held_out, bench.knowledge, 2)
    assert min(links["random"]) > 0.8
    assert len(links["matched"]) == 2


def test_the_classifier_learns_what_no_cosine_shows_and_is_the_same_again(bench: Bench) -> None:
    values = np.zeros((len(bench.knowledge.vocabulary), 8), np.float32)
    values[:GENES] = np.eye(8)[group(np.arange(GENES))] + 1
    settings = ClassifierSettings(hidden=32, batch=64, epochs=15, timeout=15, dropout=0.0, learning_rate=0.03)
    found = classifier_auc(Vectors.of(values), bench.pairs, settings, seed=1)
    assert found["test"] > 0.9
    assert classifier_auc(Vectors.of(values), bench.pairs, settings, seed=1) == found


def test_forms_leave_cosines_where_nothing_is_changed(perfect: Vectors) -> None:
    noise = Vectors.of(
        np.where(perfect.known[:, None], np.random.default_rng(0).normal(size=(len(perfect.known), 8)), 0)
    )
    pairs = Pairs(np.arange(10), np.arange(10, 20))
    read = forms(noise)
    np.testing.assert_allclose(cosine(read["axes ** 0"])(pairs), cosine(noise)(pairs), atol=1e-5)
    assert np.abs(cosine(read["axes ** 2"])(pairs) - cosine(noise)(pairs)).max() > 0.01


# --- walks ---


def test_walks_follow_edges_by_their_scores() -> None:
    starts, columns = np.array([0, 2, 3, 4, 4]), np.array([1, 2, 0, 0])
    heaps = running_sums(starts, np.array([0.9, 0.1, 0.9, 0.1], np.float32))
    np.testing.assert_allclose(heaps, [0.9, 1.0, 0.9, 0.1], atol=1e-6)
    begin = np.array([0] * 4000 + [3])
    walks = random_walks(starts, columns, heaps, begin, 2, (1.0, 1.0), np.zeros(1, np.uint64))
    assert np.mean(walks[:-1, 1] == 1) == pytest.approx(0.9, abs=0.02)
    assert np.all(walks[:-1, 2] == 0)
    assert np.all(walks[-1] == 3)  # a gene without edges stays where it is


def test_walks_that_may_not_go_back_go_on() -> None:
    ring = np.arange(10)
    columns = np.sort(np.stack([(ring - 1) % 10, (ring + 1) % 10], axis=1), axis=1).ravel()
    starts = np.arange(0, 21, 2)
    heaps = running_sums(starts, np.ones(20, np.float32))
    walks = random_walks(starts, columns, heaps, ring, 8, (1e-9, 1.0), np.zeros(1, np.uint64))
    turns = np.diff(walks, axis=1) % 10
    assert np.all(turns == turns[:, :1])


def test_node2vec_finds_the_groups_and_leaves_the_global_generator_alone(knowledge: Knowledge) -> None:
    settings = Node2VecSettings(width=8, walk_length=8, context=4, epochs=30, batch=16, learning_rate=0.05)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    vectors = node2vec_vectors(knowledge.string, settings, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert purities(Vectors.of(vectors), [knowledge.sets["reactome"]])["reactome"][0] > 0.6
    np.testing.assert_array_equal(vectors, node2vec_vectors(knowledge.string, settings, seed=1))


# --- methods ---


def test_node_features_are_those_that_gene_vectors_are_learned_from(bench: Bench) -> None:
    networks, config = [bench.knowledge.string, bench.knowledge.anat], graphmae_config(bench, 0)
    ours, theirs = features(bench, WHOLE, config), node_features(networks, config)
    np.testing.assert_allclose(ours.values, theirs.values, atol=1e-3)
    np.testing.assert_allclose(ours.structure, theirs.structure, atol=1e-3)


def test_graphmae_is_what_gene_vectors_are_learned_by(bench: Bench) -> None:
    networks = [bench.knowledge.string, bench.knowledge.anat]
    ours = METHODS["graphmae"].make(bench, WHOLE, 0)
    theirs = learn_gene_vectors(networks, graphmae_config(bench, 0))
    pairs = Pairs(np.arange(40), np.arange(40, 80))
    expected = cosine(Vectors.of(theirs.values, theirs.known))(pairs)
    np.testing.assert_allclose(cosine(ours)(pairs), expected, atol=0.01)


def test_netmf_is_tuned_on_the_validation_split_and_keeps_every_figure(bench: Bench) -> None:
    METHODS["netmf"].make(bench, WHOLE, 0)
    (choice,) = bench.store.folder.glob("choice_netmf_string-*.json")
    assert list(json.loads(choice.read_text())["result"]) == ["(3, 1.0)", "(3, 2.0)"]


def test_powers_of_netmf_scale_its_axes_by_their_eigenvalues(bench: Bench) -> None:
    plain, squared = (exact_netmf(bench, "string", WHOLE, 3, power).values for power in (1.0, 2.0))
    length, stretched = np.linalg.norm(plain, axis=0), np.linalg.norm(squared, axis=0)
    np.testing.assert_allclose(stretched / stretched[0], (length / length[0]) ** 2, rtol=1e-3)


def test_a_mixture_has_the_weighted_mean_of_the_cosines(perfect: Vectors) -> None:
    other = Vectors.of(
        np.where(perfect.known[:, None], np.random.default_rng(0).normal(size=(len(perfect.known), 8)), 0)
    )
    pairs = Pairs(np.arange(10), np.arange(10, 20))
    expected = 0.7 * cosine(perfect)(pairs) + 0.3 * cosine(other)(pairs)
    np.testing.assert_allclose(cosine(beside(perfect, other, 0.3, 12))(pairs), expected, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["degree", "random", "spectral", "netmf", "node2vec", "graphmae", "graphmae_codes", "graphmae_random"]
)
def test_a_method_gets_every_figure(bench: Bench, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = ClassifierSettings(hidden=8, batch=256, epochs=1)
    monkeypatch.setattr("studies.gene_vectors.ClassifierSettings", lambda **_: quick)
    figures = summary(judge(bench, name))
    wanted = {"gene_pairs_auc", "gene_pairs_classifier_auc", "string_auc", "biogrid_matched_auc"}
    if name != "degree":
        wanted |= {
            "reactome_purity",
            "hallmark_purity_no_common_set",
            "reactome_small_purity",
            "reactome_annotated_purity",
        }
    assert wanted <= set(figures)
    if name in ("netmf", "graphmae", "node2vec"):
        assert figures["reactome_purity"][0] > 2 * figures["reactome_chance"][0]
        assert figures["reactome_purity_no_common_set"][0] < figures["reactome_purity"][0]


def test_methods_that_read_no_network_are_the_same_for_every_graph() -> None:
    assert all(METHODS["coexpression"].graph(wanted) == WHOLE for wanted in GRAPHS)
    assert METHODS["packaged"].graph(HELD_OUT) is None  # it was trained on those edges
    assert set(NAMES) == {"degree", *METHODS}


def test_coexpression_is_taken_off_a_mixture_that_it_does_not_help(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = Vectors.of(np.random.default_rng(0).normal(size=(len(bench.knowledge.vocabulary), 16)).astype(np.float32))
    monkeypatch.setattr(gene_methods, "coexpression", lambda *_: noise)
    base = partial(exact_netmf, source="string", window=3)
    gene_methods.beside_coexpression(lambda bench, graph, _seed: base(bench, graph=graph), "mixed", bench, WHOLE, 0)
    (choice,) = bench.store.folder.glob("choice_mixed-*.json")
    figures = json.loads(choice.read_text())["result"]
    assert max(figures, key=figures.__getitem__) in ("0.05", "0.1", "0.15")


# --- what is kept ---


def test_a_result_is_made_once_for_the_same_settings(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, int]:
        made.append(1)
        return {"value": len(made)}

    assert ResultStore(tmp_path).result("a", {"seed": 0}, make) == {"value": 1}
    assert ResultStore(tmp_path).result("a", {"seed": 0}, make) == {"value": 1}
    assert ResultStore(tmp_path).result("a", {"seed": 1}, make) == {"value": 2}


def test_vectors_are_the_same_fresh_and_from_the_store(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    fresh = ResultStore(tmp_path).vectors("v", {}, lambda: Vectors.of(values))
    stored = ResultStore(tmp_path).vectors("v", {}, lambda: pytest.fail("made again"))
    np.testing.assert_array_equal(fresh.values, stored.values)
    assert stored.known.all()
