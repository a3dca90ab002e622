"""Published networks as peers of the drug response benchmark, stated in torch from their papers.

``deepcdr``: DeepCDR (Liu et al. 2020, Bioinformatics 36, i911) in its expression form: graph convolutions of 256, 256
and 100 units over the molecule with a maximum over atoms; expression through 256 (tanh, batch norm, dropout .1) and
100 units; both joined by a layer of 300 units and three convolutions (30 of width 150, 10 and 5 of width 5, with
pooling). ``gin_mlp``: a GIN over the molecule (5 layers of 32 units, as GraphDRP; Nguyen et al. 2021) and a network
over the genes, joined by layers of 1,024 and 128 units (as TGSA; Zhu et al. 2022). In both every line and drug of a
batch is encoded once. Genes: the 1,000 that vary most over training lines (DeepCDR reads 697 genes of a cancer census).

Early stopping: 10 % of the training lines (of the training pairs, where all lines are in training) are left out; the
weights with their least squared error predict. Responses are standardised as a whole. ``CELL_LM_PEER_EPOCHS`` and
``CELL_LM_PEER_SECONDS`` bound a training.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.parts.response_methods import Result
from benchmarks.parts.response_sets import Floats, Task
from cell_lm.data.response.molecules import ATOM_WIDTH
from cell_lm.genes.graphmae import quietly
from cell_lm.tasks.response.graphs import Batch

GENES, BATCH, PATIENCE = 1000, 1024, 10
EPOCHS = int(os.environ.get("CELL_LM_PEER_EPOCHS", "60"))
SECONDS = float(os.environ.get("CELL_LM_PEER_SECONDS", "inf"))
"""Limits of a training; the line that is printed says where they were met."""


class DeepCDR(nn.Module):
    def __init__(self, genes: int) -> None:
        super().__init__()
        widths = [ATOM_WIDTH, 256, 256, 100]
        self.graph = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.first, self.norm, self.second = nn.Linear(genes, 256), nn.BatchNorm1d(256), nn.Linear(256, 100)
        self.joined = nn.Linear(200, 300)
        self.convolutions = nn.Sequential(
            *(nn.Conv1d(1, 30, 150), nn.ReLU(), nn.MaxPool1d(2)),
            *(nn.Conv1d(30, 10, 5), nn.ReLU(), nn.MaxPool1d(3)),
            *(nn.Conv1d(10, 5, 5), nn.ReLU(), nn.MaxPool1d(3)),
        )
        self.last = nn.Sequential(nn.Dropout(0.1), nn.Flatten(), nn.Linear(30, 1))

    def drugs(self, batch: Batch) -> Tensor:
        """Mean over neighbours and the atom itself, a layer, ReLU; then the maximum over atoms."""
        hidden, (source, target) = batch.atoms, batch.edges
        degree = torch.bincount(target, minlength=len(hidden)).float()[:, None] + 1
        for layer in self.graph:
            around = hidden.new_zeros(hidden.shape).index_add(0, target, hidden[source]) + hidden
            hidden = torch.relu(layer(around / degree))
        least = hidden.new_zeros(batch.count, hidden.shape[1])
        return least.scatter_reduce(0, batch.molecule[:, None].expand_as(hidden), hidden, "amax")

    def cells(self, genes: Tensor) -> Tensor:
        hidden = self.norm(torch.tanh(self.first(genes)))
        return torch.relu(self.second(nn.functional.dropout(hidden, 0.1, self.training)))

    def forward(self, cells: Tensor, drugs: Tensor) -> Tensor:
        joined = nn.functional.dropout(torch.tanh(self.joined(torch.cat([cells, drugs], dim=1))), 0.1, self.training)
        return self.last(self.convolutions(joined[:, None])).squeeze(1)


class GinMLP(nn.Module):
    def __init__(self, genes: int) -> None:
        super().__init__()
        with quietly():
            from torch_geometric.nn import GINConv

        self.layers = nn.ModuleList(
            GINConv(nn.Sequential(nn.Linear(ATOM_WIDTH if not k else 32, 32), nn.ReLU(), nn.Linear(32, 32)))
            for k in range(5)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(32) for _ in range(5))
        self.drug = nn.Linear(32, 128)
        self.cell = nn.Sequential(nn.Linear(genes, 512), nn.ReLU(), nn.Dropout(0.2), nn.Linear(512, 128), nn.ReLU())
        self.last = nn.Sequential(
            *(nn.Linear(256, 1024), nn.ReLU(), nn.Dropout(0.2)),
            *(nn.Linear(1024, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 1)),
        )

    def drugs(self, batch: Batch) -> Tensor:
        hidden = batch.atoms
        for layer, norm in zip(self.layers, self.norms, strict=True):
            hidden = norm(torch.relu(layer(hidden, batch.edges)))
        total = hidden.new_zeros(batch.count, 32).index_add(0, batch.molecule, hidden)
        return torch.relu(self.drug(total))

    def cells(self, genes: Tensor) -> Tensor:
        return self.cell(genes)

    def forward(self, cells: Tensor, drugs: Tensor) -> Tensor:
        return self.last(torch.cat([cells, drugs], dim=1)).squeeze(1)


def peer(make: Callable[[int], nn.Module], rate: float) -> Callable[[Task], Result]:
    def predict(task: Task, seed: int = 0) -> Result:
        torch.manual_seed(seed)
        X, graphs = _genes(task), [*task.data.structures.graphs]
        module = make(X.shape[1])
        line, drug, held_out = _pairs(task, seed)
        y = task.train[line, drug]
        centre, unit = y.mean(), y.std()
        target = torch.from_numpy(((y - centre) / unit).astype(np.float32))
        network = _Network(module, X, graphs)
        _train(network, line, drug, target, held_out, rate, seed)
        found = np.full(task.train.shape, np.nan)
        rows, columns = np.nonzero(task.test)
        found[rows, columns] = network.predict(rows, columns) * unit + centre
        return Result(found)

    return predict


class _Network(nn.Module):
    """Encodes every line and drug of a batch once."""

    def __init__(self, module: nn.Module, X: Tensor, graphs: list) -> None:
        super().__init__()
        self.module, self.X, self.graphs = module, X, graphs

    def forward(self, line: NDArray[np.int64], drug: NDArray[np.int64]) -> Tensor:
        lines, of_line = np.unique(line, return_inverse=True)
        drugs, of_drug = np.unique(drug, return_inverse=True)
        cells = self.module.cells(self.X[torch.from_numpy(lines)])
        molecules = self.module.drugs(Batch.of([self.graphs[each] for each in drugs]))
        return self.module(cells[torch.from_numpy(of_line)], molecules[torch.from_numpy(of_drug)])

    @torch.no_grad()
    def predict(self, line: NDArray[np.int64], drug: NDArray[np.int64]) -> Floats:
        self.eval()
        cells = torch.cat([self.module.cells(part) for part in self.X.split(256)])
        molecules = torch.cat(
            [self.module.drugs(Batch.of(self.graphs[at : at + 64])) for at in range(0, len(self.graphs), 64)]
        )
        parts = []
        for at in range(0, len(line), 8192):
            some = torch.from_numpy(line[at : at + 8192]), torch.from_numpy(drug[at : at + 8192])
            parts.append(self.module(cells[some[0]], molecules[some[1]]).double().numpy())
        self.train()
        return np.concatenate(parts)


def _train(network: _Network, line, drug, target: Tensor, held_out, rate: float, seed: int) -> None:
    rng, rest, judged = np.random.default_rng(seed), np.flatnonzero(~held_out), np.flatnonzero(held_out)
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    least, best, since, began = math.inf, network.state_dict(), 0, time.perf_counter()
    for epoch in range(EPOCHS):
        order = rng.permutation(rest)
        for at in range(0, len(order), BATCH):
            rows = order[at : at + BATCH]
            if len(rows) < 8:
                continue
            loss = nn.functional.mse_loss(network(line[rows], drug[rows]), target[torch.from_numpy(rows)])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        error = float(((network.predict(line[judged], drug[judged]) - target[judged].double().numpy()) ** 2).mean())
        since += 1
        if error < least:
            least, since = error, 0
            best = {name: value.clone() for name, value in network.state_dict().items()}
        spent = time.perf_counter() - began
        print(f"  epoch {epoch + 1}: validation error {error:.4f}, {spent:.0f} s", flush=True)
        if since >= PATIENCE or spent > SECONDS:
            break
    network.load_state_dict(best)


def _genes(task: Task) -> Tensor:
    rows = ~task.new_lines
    chosen = np.argsort(-task.data.X[rows].var(axis=0), kind="stable")[:GENES]
    own = task.data.X[:, chosen]
    return torch.from_numpy(((own - own[rows].mean(axis=0)) / own[rows].std(axis=0)).astype(np.float32))


def _pairs(task: Task, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return the training pairs, and which of them decide when to stop."""
    line, drug = np.nonzero(np.isfinite(task.train))
    rng = np.random.default_rng((seed, 1))
    units = line if task.new_lines.any() else np.arange(len(line))
    chosen = rng.permutation(np.unique(units))
    return line, drug, np.isin(units, chosen[: len(chosen) // 10])


PEERS: dict[str, Callable[[Task], Result]] = {"deepcdr": peer(DeepCDR, 1e-3), "gin_mlp": peer(GinMLP, 1e-3)}
