"""A graph encoder of molecules: GIN over atoms and bonds, as a correction of the predicted mean that begins at zero.

GIN with bond features (Xu et al. 2019, arXiv 1810.00826; Hu et al. 2020, arXiv 1905.12265) reads the graphs of
:mod:`cell_lm.data.response.molecules`; mean and sum over atoms are its molecule vector. It learns what the ridge on
fingerprints misses of the mean response to each drug when that drug is left out. Its last layer begins at zero,
left-out drugs decide when to stop, and its output is rescaled by the slope that fits them: with little to learn the
correction stays zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cell_lm.data.response.molecules import ATOM_WIDTH, BOND_WIDTH, Graph
from cell_lm.engine.loop import LoopSettings, Metrics
from cell_lm.genes.graphmae import quietly
from cell_lm.tasks.response.training import held_out_rows, load, seed_of_step, seeded, train

Floats = NDArray[np.float64]

WIDTH, LAYERS, DROPOUT, HELD_OUT = 64, 3, 0.2, 0.15
MOST_SLOPE = 0.5
"""A slope that is fitted to few drugs is itself uncertain."""
SETTINGS = LoopSettings(
    steps=150,
    learning_rate=2e-3,
    warmup=0.1,
    final_rate=0.1,
    clip=5.0,
    checkpoint_every=10**9,
    validate_every=5,
    patience=8,
)


@dataclass(frozen=True, eq=False)
class Batch:
    """Several molecules as one graph."""

    atoms: Tensor
    edges: Tensor
    bonds: Tensor
    molecule: Tensor
    """The molecule of every atom."""
    count: int

    @classmethod
    def of(cls, graphs: Sequence[Graph]) -> Batch:
        """Put molecules side by side."""
        sizes = [len(graph.atoms) for graph in graphs]
        starts = np.cumsum([0, *sizes[:-1]])
        edges = np.hstack([graph.edges + start for graph, start in zip(graphs, starts, strict=True)])
        return cls(
            torch.from_numpy(np.vstack([graph.atoms for graph in graphs])),
            torch.from_numpy(edges),
            torch.from_numpy(np.vstack([graph.bonds for graph in graphs])),
            torch.from_numpy(np.repeat(np.arange(len(graphs)), sizes)),
            len(graphs),
        )


class MoleculeEncoder(nn.Module):
    """GIN over atoms and bonds; :meth:`encode` returns the vector of each molecule, :meth:`forward` one number."""

    def __init__(self, width: int = WIDTH, layers: int = LAYERS) -> None:
        super().__init__()
        with quietly():
            from torch_geometric.nn import GINEConv

        self.atoms, self.bonds = nn.Linear(ATOM_WIDTH, width), nn.Linear(BOND_WIDTH, width)
        self.layers = nn.ModuleList(
            GINEConv(nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))) for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.head = nn.Linear(2 * width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def encode(self, batch: Batch) -> Tensor:
        """Return the vectors of the molecules, [molecules, 2 width]: mean over atoms, and sum over 30."""
        hidden, bonds = self.atoms(batch.atoms), self.bonds(batch.bonds)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            hidden = hidden + torch.relu(norm(layer(hidden, batch.edges, bonds)))
        total = hidden.new_zeros(batch.count, hidden.shape[1]).index_add(0, batch.molecule, hidden)
        size = torch.bincount(batch.molecule, minlength=batch.count).clamp(min=1)[:, None]
        return torch.cat([total / size, total / 30], dim=1)

    def forward(self, batch: Batch, dropout: float = 0.0) -> Tensor:
        """Return one number per molecule."""
        vectors = nn.functional.dropout(self.encode(batch), dropout, training=dropout > 0)
        output: Tensor = self.head(vectors).squeeze(1)
        return output


class _Step:
    """Full-batch training of the correction; dropout is a function of seed and step."""

    examples = "drugs"
    if_not_finite = "Fit without the graph encoder (graphs=False)"

    def __init__(
        self, module: MoleculeEncoder, graphs: Sequence[Graph], targets: Floats, held_out: NDArray[np.bool_], seed: int
    ) -> None:
        self.module, self.seed = module, seed
        single = torch.from_numpy(targets.astype(np.float32))
        parts = [np.flatnonzero(~held_out), np.flatnonzero(held_out)]
        self.parts = [(Batch.of([graphs[int(row)] for row in rows]), single[torch.from_numpy(rows)]) for rows in parts]

    def optimiser(self) -> torch.optim.AdamW:
        """Return AdamW over all parameters."""
        return torch.optim.AdamW(self.module.parameters(), lr=SETTINGS.learning_rate, weight_decay=1e-2)

    def gradient(self, step: int) -> Metrics:
        """Add the gradient over all training drugs to ``.grad``."""
        batch, targets = self.parts[0]
        with seeded(seed_of_step(self.seed, step)):
            loss = nn.functional.mse_loss(self.module(batch, DROPOUT), targets)
        torch.autograd.backward(loss)
        return Metrics({"total": loss.item()}, batch.count)

    @torch.no_grad()
    def validate(self) -> Metrics:
        """Return the loss on the held-out drugs."""
        batch, targets = self.parts[1]
        return Metrics({"total": nn.functional.mse_loss(self.module(batch), targets).item()}, batch.count)

    def describe(self, metrics: Metrics, per_second: float) -> str:
        """Return loss and speed in a few words."""
        return f"squared error {metrics.total:.4f}, {per_second:,.0f} drugs/s"


@dataclass(frozen=True, eq=False)
class GraphCorrection:
    """A fitted correction.

    Attributes
    ----------
    tensors : dict of str to ndarray
        Weights of :class:`MoleculeEncoder`, float32.
    slope : float
        Outputs are multiplied by it; 0: there was nothing to learn.
    unit : float
        Spread of the residuals that it was trained on.
    """

    tensors: dict[str, NDArray[np.float32]]
    slope: float
    unit: float

    def predict(self, graphs: Sequence[Graph]) -> Floats:
        """Return the correction of the mean response, float64 [molecules]."""
        module = MoleculeEncoder()
        load(module, self.tensors)
        with torch.no_grad():
            return np.asarray(self.slope * self.unit * module(Batch.of(graphs)).double().numpy())


def fit_graph_correction(graphs: Sequence[Graph], residuals: Floats, *, seed: int = 0) -> GraphCorrection:
    """Train the correction.

    Parameters
    ----------
    graphs
        Of the drugs with a structure.
    residuals
        Mean response minus what the rest predicts of each drug when it is left out, float64 [drugs].
    seed
        Seed of weights, dropout and held-out drugs.
    """
    unit = float(residuals.std()) or 1.0
    held_out = held_out_rows(len(graphs), HELD_OUT, least=2, seed=seed)
    with seeded(seed):
        module = MoleculeEncoder()
    step = _Step(module, graphs, residuals / unit, held_out, seed)
    plain = GraphCorrection(train(step, SETTINGS), 1.0, unit)
    predicted = plain.predict([graphs[int(row)] for row in np.flatnonzero(held_out)])
    squares = float(predicted @ predicted)
    slope = float(predicted @ residuals[held_out]) / squares if squares > 0 else 0.0
    return replace(plain, slope=float(np.clip(slope, 0.0, MOST_SLOPE)))
