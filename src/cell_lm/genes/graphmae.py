"""GraphMAE on gene networks: mask features of genes, and predict them from the neighbours.

Hou et al. 2022, "GraphMAE: self-supervised masked graph autoencoders": masked node features, codes of masked nodes
masked again before decoding (re-mask), scaled cosine error. There are two additions for gene vectors. Edge scores
weight the messages. And each step leaves out a fraction of the edges, which a loss separates from random pairs by the
cosine of the codes, because the vectors are compared by cosine.

Shapes: N genes of the graph, F features, H hidden width, D width of the codes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cell_lm.config import GraphMAEConfig
from cell_lm.genes.graph import Graph, Messages


class SumLayer(nn.Module):
    """GIN (Xu et al. 2019) with edge scores: an MLP of a node plus the weighted sum of its neighbours, [N, H]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        from torch_geometric.nn import GINConv

        network = nn.Sequential(nn.Linear(inputs, outputs), nn.PReLU(), nn.Linear(outputs, outputs))
        self.conv = GINConv(network, train_eps=True)

    def forward(self, nodes: Tensor, messages: Messages) -> Tensor:
        """Aggregate the messages of the neighbours."""
        output: Tensor = self.conv(nodes, messages.matrix)
        return output


class AttentionLayer(nn.Module):
    """GAT (Veličković et al. 2018) with the score of an edge as input of the attention, [N, H]."""

    def __init__(self, inputs: int, outputs: int, heads: int) -> None:
        super().__init__()
        from torch_geometric.nn import GATConv

        self.conv = GATConv(inputs, outputs // heads, heads=heads, edge_dim=1, fill_value=1.0)

    def forward(self, nodes: Tensor, messages: Messages) -> Tensor:
        """Aggregate the messages of the neighbours."""
        output: Tensor = self.conv(nodes, messages.edges, edge_attr=messages.score[:, None])
        return output


class GraphMAE(nn.Module):
    """Encoder of genes in a graph, and the decoder for its training.

    Parameters
    ----------
    inputs
        F, number of features of a gene.
    config
        Width of the codes, kind of the layers, rates of the objectives.
    """

    def __init__(self, inputs: int, config: GraphMAEConfig) -> None:
        super().__init__()
        self.config = config
        with quietly():
            self.mask = nn.Parameter(torch.zeros(inputs))
            self.describe = nn.Linear(inputs, config.hidden)
            nn.init.orthogonal_(self.describe.weight)
            nn.init.zeros_(self.describe.bias)
            self.norms = nn.ModuleList(nn.LayerNorm(config.hidden) for _ in range(config.layers))
            self.layers = nn.ModuleList(self._layer(config.hidden) for _ in range(config.layers))
            self.code = nn.Linear(config.hidden, config.dim, bias=False)
            nn.init.orthogonal_(self.code.weight)
            self.ask = nn.Linear(config.dim, config.hidden, bias=False)
            self.answer_norm = nn.LayerNorm(config.hidden)
            self.answer = self._layer(config.hidden)
            self.decode = nn.Linear(config.hidden, inputs)

    def _layer(self, width: int) -> nn.Module:
        return (
            SumLayer(width, width) if self.config.encoder == "gin" else AttentionLayer(width, width, self.config.heads)
        )

    def encode(self, features: Tensor, messages: Messages, generator: torch.Generator | None = None) -> Tensor:
        """Return the codes, [N, D].

        Parameters
        ----------
        features
            [N, F].
        messages
            Edges for message passing.
        generator
            Random numbers of dropout; None: no dropout.
        """
        nodes = self.describe(features)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            nodes = nodes + layer(_drop(norm(nodes), self.config.dropout, generator), messages)
        codes: Tensor = self.code(nodes)
        return codes

    def losses(self, features: Tensor, graph: Graph, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the scaled cosine error of masked features and the loss of left-out edges, for one random draw."""
        hidden, shown = self._hide(features, generator)
        heard = torch.rand(len(graph.first), generator=generator, device=features.device) >= self.config.edge_rate
        messages = graph.messages(heard)
        codes = self.encode(shown, messages, generator)
        error = self._reconstruction(codes, features, hidden, messages)
        return error, self._links(codes, graph, ~heard, generator)

    def _hide(self, features: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw masked genes (int64 [M]); return features with theirs replaced by the mask or those of another gene."""
        count = max(1, round(self.config.mask_rate * len(features)))
        order = torch.randperm(len(features), generator=generator, device=features.device)
        hidden, others = order[:count], round(self.config.replace_rate * count)
        strange = torch.randint(len(features), (others,), generator=generator, device=features.device)
        shown = features.index_put((hidden[others:],), self.mask)
        return hidden, shown.index_put((hidden[:others],), features[strange])

    def _reconstruction(self, codes: Tensor, features: Tensor, hidden: Tensor, messages: Messages) -> Tensor:
        """Scaled cosine error (eq. 2 of the paper) over masked genes, with their codes masked again."""
        asked = self.ask(codes).index_fill(0, hidden, 0.0)
        decoded = asked + self.answer(self.answer_norm(asked), messages)
        cosine = F.cosine_similarity(self.decode(decoded[hidden]), features[hidden], dim=1)
        return ((1 - cosine) ** self.config.gamma).mean()

    def _links(self, codes: Tensor, graph: Graph, unheard: Tensor, generator: torch.Generator) -> Tensor:
        """InfoNCE of left-out edges, drawn by score; negatives are the drawn partners, popular genes more often."""
        edges = torch.nonzero(unheard)[:, 0]
        if not self.config.links or len(edges) < 2:
            return codes.new_zeros(())
        edge = edges[torch.multinomial(graph.score[edges], self.config.pairs, replacement=True, generator=generator)]
        units = F.normalize(codes, dim=1)
        logits = units[graph.first[edge]] @ units[graph.second[edge]].T / self.config.temperature
        own = torch.arange(len(edge), device=codes.device)
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def _drop(nodes: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    if generator is None or not rate:
        return nodes
    kept = torch.rand(nodes.shape, generator=generator, device=nodes.device) >= rate
    return nodes * kept / (1 - rate)


@contextmanager
def quietly() -> Iterator[None]:
    """Suppress the warnings of torch while torch_geometric is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
