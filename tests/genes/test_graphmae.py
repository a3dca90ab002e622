from __future__ import annotations

import numpy as np
import pytest
import torch

from cell_lm.config import GraphMAEConfig
from cell_lm.genes.graph import Graph
from cell_lm.genes.graphmae import GraphMAE
from cell_lm.genes.interactions.network import Network
from community_network import community_network

CONFIG = GraphMAEConfig(dim=8, hidden=16, heads=2, pairs=32)
KINDS = ["gin", "gat"]


def made(kind: str = "gin", **settings: object) -> tuple[GraphMAE, Graph, torch.Tensor]:
    network, _ = community_network()
    graph = Graph.of(network)
    torch.manual_seed(0)
    model = GraphMAE(12, CONFIG.model_copy(update={"encoder": kind, **settings}))
    with torch.no_grad():  # layers that have learned something
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model, graph, torch.randn(len(graph), 12)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_matrix_is_symmetric_and_normalised_by_the_sums_of_scores():
    network, _ = community_network()
    graph = Graph.of(network)
    adjacency = network.adjacency()[graph.genes][:, graph.genes].toarray()
    degree = adjacency.sum(axis=1)
    expected = adjacency / np.sqrt(degree[:, None] * degree)
    np.testing.assert_allclose(graph.messages().matrix.to_dense().numpy(), expected, atol=1e-6)


def test_edges_that_are_not_heard_are_in_neither_direction():
    network, _ = community_network()
    graph = Graph.of(network)
    heard = torch.rand(len(network), generator=generator()) < 0.5
    dense = graph.messages(heard).matrix.to_dense()
    assert torch.equal(dense[graph.first, graph.second] > 0, heard)
    assert torch.equal(dense, dense.T)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_know_neighbours_and_scores(kind):
    model, graph, features = made(kind)
    codes = model.encode(features, graph.messages())
    assert codes.shape == (len(graph), 8)
    moved = features.clone()
    moved[0] += 1
    changed = (model.encode(moved, graph.messages()) - codes).abs().amax(dim=1) > 1e-6
    near = graph.messages().matrix.to_dense()[0] > 0
    assert changed[0]
    assert changed[near].all()
    other = Graph(graph.genes, graph.first, graph.second, torch.rand(len(graph.score), generator=generator()) + 0.1)
    assert (model.encode(features, other.messages()) - codes).abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_hidden_gene_is_asked_of_its_neighbours_alone(kind):
    """Neither its features nor its code may reach the answer: the mask stands in both (re-mask)."""
    model, graph, features = made(kind)
    hidden = torch.arange(0, 5)
    codes = torch.randn(len(graph), 8)
    answers = answer(model, codes, features, hidden, graph)
    changed = codes.clone()
    changed[hidden] += 1
    torch.testing.assert_close(answer(model, changed, features, hidden, graph), answers)
    shown, drawn = model._hide(features, generator())
    others = features.clone()
    others[shown] = 7.0
    again = model._hide(others, generator())[1]
    kept = torch.ones(len(graph), dtype=torch.bool).index_fill(0, shown, False)
    torch.testing.assert_close(again[kept], drawn[kept])
    masked = (drawn == model.mask).all(dim=1)
    assert int(masked.sum()) > 10
    assert torch.equal(again[masked], drawn[masked])


def answer(model: GraphMAE, codes: torch.Tensor, features: torch.Tensor, hidden: torch.Tensor, graph: Graph) -> object:
    return model._reconstruction(codes, features, hidden, graph.messages())


def test_the_error_is_the_scaled_cosine_error():
    model, graph, features = made(gamma=3.0)
    codes, hidden, messages = torch.randn(len(graph), 8), torch.tensor([1, 4]), graph.messages()
    asked = model.ask(codes)
    asked[hidden] = 0
    decoded = model.decode(asked + model.answer(model.answer_norm(asked), messages))[hidden]
    cosine = (decoded * features[hidden]).sum(1) / decoded.norm(dim=1) / features[hidden].norm(dim=1)
    found = model._reconstruction(codes, features, hidden, messages)
    torch.testing.assert_close(found, ((1 - cosine) ** 3).mean())


def test_so_many_genes_are_hidden_as_said():
    model, graph, features = made(mask_rate=0.25, replace_rate=0.2)
    hidden, shown = model._hide(features, generator())
    assert len(hidden) == round(0.25 * len(graph)) == len(set(hidden.tolist()))
    masked = (shown == model.mask).all(dim=1)
    assert int(masked.sum()) == len(hidden) - round(0.2 * len(hidden))
    untouched = torch.ones(len(graph), dtype=torch.bool).index_fill(0, hidden, False)
    assert torch.equal(shown[untouched], features[untouched])


def test_links_are_asked_of_unheard_edges_only(monkeypatch):
    model, graph, features = made()
    seen: list[torch.Tensor] = []
    encode = GraphMAE.encode

    def spy(self, nodes, messages, drops=None):
        seen.append(messages.matrix.to_dense() > 0)
        return encode(self, nodes, messages, drops)

    asked: list[torch.Tensor] = []
    links = GraphMAE._links

    def note(self, codes, of, unheard, drawn):
        asked.append(unheard)
        return links(self, codes, of, unheard, drawn)

    monkeypatch.setattr(GraphMAE, "encode", spy)
    monkeypatch.setattr(GraphMAE, "_links", note)
    model.losses(features, graph, generator())
    passed = seen[0][graph.first, graph.second]
    assert torch.equal(passed, ~asked[0])
    assert 0.1 < asked[0].float().mean() < 0.5


def test_without_links_the_loss_is_graphmaes_own():
    model, graph, features = made(links=0.0)
    error, links = model.losses(features, graph, generator())
    assert links.item() == 0.0
    assert error.item() > 0


def test_a_draw_decides_the_losses():
    model, graph, features = made()
    first, again, other = (model.losses(features, graph, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_genes_without_an_edge_are_not_in_the_graph():
    network, community = community_network()
    assert len(Graph.of(network)) == int((community >= 0).sum())
    lone = Network.from_pairs([0], [3], vocabulary=network.vocabulary, name="two")
    assert Graph.of(lone).genes.tolist() == [0, 3]
