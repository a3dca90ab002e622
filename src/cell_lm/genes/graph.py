"""A network as a graph for message passing, with all edges or only those used in a step.

Shapes: N genes of the network, E edges, each counted once.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cell_lm.genes.interactions.network import Network


@dataclass(frozen=True, eq=False)
class Graph:
    """An undirected graph with scores.

    Attributes
    ----------
    genes : ndarray
        int64 [N]: index of each node in the vocabulary.
    first, second : Tensor
        int64 [E]: the nodes of each edge.
    score : Tensor
        float32 [E].
    """

    genes: NDArray[np.int64]
    first: Tensor
    second: Tensor
    score: Tensor

    @classmethod
    def of(cls, network: Network) -> Graph:
        """Return the graph of the genes that have an edge."""
        genes = np.flatnonzero(network.known)
        node = np.full(len(network.vocabulary), -1, np.int64)
        node[genes] = np.arange(len(genes))
        first, second = (torch.from_numpy(node[end]) for end in (network.first, network.second))
        return cls(genes, first, second, torch.from_numpy(network.score.astype(np.float32)))

    def __len__(self) -> int:
        return len(self.genes)

    def to(self, device: torch.device) -> Graph:
        """Move the edges to a device."""
        return Graph(self.genes, self.first.to(device), self.second.to(device), self.score.to(device))

    @cached_property
    def _order(self) -> Tensor:
        """Order of the 2E directed edges by target, then source, int64 [2E]."""
        target, source = torch.cat([self.first, self.second]), torch.cat([self.second, self.first])
        return torch.argsort(target * len(self) + source)

    @cached_property
    def _target(self) -> Tensor:
        return torch.cat([self.first, self.second])[self._order]

    @cached_property
    def _source(self) -> Tensor:
        return torch.cat([self.second, self.first])[self._order]

    @cached_property
    def _edge(self) -> Tensor:
        """Index of the undirected edge of each directed edge, int64 [2E]."""
        return self._order % len(self.first)

    def messages(self, heard: Tensor | None = None) -> Messages:
        """Return the directed edges for message passing: those of ``heard`` (bool [E]), or all."""
        kept = slice(None) if heard is None else heard[self._edge]
        return Messages(len(self), self._source[kept], self._target[kept], self.score[self._edge][kept])


@dataclass(frozen=True, eq=False)
class Messages:
    """Directed edges that messages pass over, in the order of their targets.

    Attributes
    ----------
    nodes : int
        N.
    source, target : Tensor
        int64 [M].
    score : Tensor
        float32 [M].
    """

    nodes: int
    source: Tensor
    target: Tensor
    score: Tensor

    @cached_property
    def matrix(self) -> Tensor:
        r"""Sparse CSR [N, N] with weights :math:`s_{ij} / \sqrt{d_i d_j}`, d the sums of scores."""
        degree = torch.zeros(self.nodes, device=self.score.device).index_add_(0, self.target, self.score)
        scale = degree.clamp_(min=1e-6).rsqrt()
        ends = torch.cumsum(torch.bincount(self.target, minlength=self.nodes), 0)
        starts = torch.cat([ends.new_zeros(1), ends])
        return csr_tensor(starts, self.source, self.score * (scale[self.target] * scale[self.source]))

    @cached_property
    def edges(self) -> Tensor:
        """Sources and targets, int64 [2, M]."""
        return torch.stack([self.source, self.target])


def csr_tensor(starts: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """Return a square sparse tensor, without torch's warning that CSR support is in beta."""
    nodes = len(starts) - 1
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(starts, columns, values, (nodes, nodes), check_invariants=False)
