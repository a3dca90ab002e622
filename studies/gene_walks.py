"""node2vec of torch_geometric, with our own random walks.

``torch_geometric.nn.Node2Vec`` takes its walks from ``pyg-lib``, a compiled extra that pip alone does not install. Here
numba computes the walks; windows, negative samples, loss and embedding table are those of torch_geometric.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from cell_lm.genes.interactions import Network


@dataclass(frozen=True)
class Node2VecSettings:
    """As in Grover & Leskovec 2016; ``return_weight`` is 1/p, ``outward_weight`` 1/q."""

    width: int = 512
    walk_length: int = 20
    context: int = 10
    return_weight: float = 1.0
    outward_weight: float = 1.0
    epochs: int = 10
    """Walks from every gene."""
    batch: int = 256
    learning_rate: float = 0.01
    spread: float = 0.05
    """Standard deviation that the vectors start with; torch_geometric's 1 leaves them noise after few epochs."""


@njit(nogil=True)
def _uniform(state: NDArray[np.uint64]) -> float:
    """Draw from [0, 1): splitmix64 (numba takes minutes to compile a NumPy generator)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.float64(z >> np.uint64(11)) / 9007199254740992.0


@njit(nogil=True)
def _has(columns: NDArray[np.int64], start: int, stop: int, node: int) -> bool:
    place = start + np.searchsorted(columns[start:stop], node)
    return place < stop and columns[place] == node


@njit(nogil=True)
def _step(
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    heaps: NDArray[np.float64],
    here: int,
    before: int,
    weights: tuple[float, float],
    state: NDArray[np.uint64],
) -> int:
    """Take one step: by score, then kept with the odds that node2vec gives to going back, staying near, going out."""
    first, last = starts[here], starts[here + 1]
    if first == last:
        return here
    back, out = weights
    most = max(1.0, max(back, out))
    while True:
        target = _uniform(state) * heaps[last - 1]
        place = min(first + np.searchsorted(heaps[first:last], target, side="right"), last - 1)
        node = columns[place]
        if before < 0 or (back == 1.0 and out == 1.0):
            return node
        odds = back if node == before else (1.0 if _has(columns, starts[before], starts[before + 1], node) else out)
        if _uniform(state) * most < odds:
            return node


@njit(nogil=True)
def random_walks(
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    heaps: NDArray[np.float64],
    begin: NDArray[np.int64],
    steps: int,
    weights: tuple[float, float],
    state: NDArray[np.uint64],
) -> NDArray[np.int64]:
    """Walk from each node of ``begin``: int64 [walks, steps + 1].

    ``starts`` and ``columns`` are a sorted CSR matrix's, ``heaps`` [edges] the running sum of the scores within a row;
    ``state``, uint64 [1], is where the random numbers go on.
    """
    walks = np.empty((len(begin), steps + 1), np.int64)
    for i in range(len(begin)):
        here, before = begin[i], -1
        walks[i, 0] = here
        for j in range(steps):
            here, before = _step(starts, columns, heaps, here, before, weights, state), here
            walks[i, j + 1] = here
    return walks


def running_sums(starts: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum the scores within each row of a CSR matrix, up to and including each edge."""
    sums = np.cumsum(scores, dtype=np.float64)
    before = np.concatenate([[0.0], sums])[starts[:-1]]
    return sums - np.repeat(before, np.diff(starts))


def node2vec_vectors(network: Network, settings: Node2VecSettings, *, seed: int = 0) -> NDArray[np.float32]:
    """Learn float32 [genes, width], 0 outside the network."""
    genes = np.flatnonzero(network.known)
    with torch.random.fork_rng(devices=[]):  # its chance pairs come from the global generator
        torch.manual_seed(seed)
        learned = _train(network, genes, settings, seed)
    vectors = np.zeros((len(network.vocabulary), settings.width), np.float32)
    vectors[genes] = learned
    return vectors


def _train(network: Network, genes: NDArray[np.int64], settings: Node2VecSettings, seed: int) -> NDArray[np.float32]:
    model = _model(network, genes, settings, seed)
    order = torch.Generator().manual_seed(seed)
    batches = model.loader(batch_size=settings.batch, shuffle=True, generator=order)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    steps = settings.epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, total_iters=steps)
    for _ in range(settings.epochs):
        for positive, negative in batches:
            optimiser.zero_grad(set_to_none=True)
            model.loss(positive, negative).backward()
            optimiser.step()
            schedule.step()
    learned: NDArray[np.float32] = model().detach().numpy()
    return learned


def _model(network: Network, genes: NDArray[np.int64], settings: Node2VecSettings, seed: int) -> Any:
    with warnings.catch_warnings():  # it makes torch warn while it is loaded
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch_geometric.nn import Node2Vec

    adjacency = network.adjacency()[genes][:, genes].tocsr()
    adjacency.sort_indices()
    starts, columns = adjacency.indptr.astype(np.int64), adjacency.indices.astype(np.int64)
    heaps, weights = running_sums(starts, adjacency.data), (settings.return_weight, settings.outward_weight)
    state = np.random.default_rng(seed).integers(2**63, size=1, dtype=np.uint64)

    class Walker(Node2Vec):
        """Node2Vec whose constructor does not ask for the compiled extra."""

        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.EPS = 1e-15
            self.num_nodes, self.embedding_dim = len(genes), settings.width
            self.walk_length, self.context_size = settings.walk_length - 1, settings.context
            self.walks_per_node, self.num_negative_samples = 1, 1
            self.p, self.q = 1 / settings.return_weight, 1 / settings.outward_weight
            self.rowptr, self.col = torch.from_numpy(starts), torch.from_numpy(columns)
            self.random_walk_fn = walk
            self.embedding = torch.nn.Embedding(self.num_nodes, self.embedding_dim)
            torch.nn.init.normal_(self.embedding.weight, std=settings.spread)

    def walk(_starts: object, _columns: object, begin: torch.Tensor, length: int, *_odds: float) -> torch.Tensor:
        return torch.from_numpy(random_walks(starts, columns, heaps, begin.numpy(), length, weights, state))

    return Walker()
