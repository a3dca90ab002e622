"""The methods: each computes gene vectors from a graph, and declares what it was tuned on.

Tuning uses only the validation split of the gene pairs and the whole graph; the chosen settings are also used on the
graphs without some of the edges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.config import GraphMAEConfig
from cell_lm.data import read_cells
from cell_lm.engine.loop import Trainer
from cell_lm.files import JSON
from cell_lm.genes.coexpression import coexpression_vectors
from cell_lm.genes.features import Features, node_features, unit
from cell_lm.genes.interactions import Network
from cell_lm.genes.netmf import netmf_vectors
from cell_lm.genes.vectors import GeneVectors
from cell_lm.pretraining.gene_step import GeneStep, gene_loop_settings
from cell_lm.pretraining.gene_vectors import describe_learning
from studies.gene_graphs import GRAPHS, WHOLE, Knowledge
from studies.gene_pairs import Labelled
from studies.gene_store import ResultStore, Vectors
from studies.gene_tests import cosine
from studies.gene_walks import Node2VecSettings, node2vec_vectors

CELLS = (
    "baron_human", "copykat_tnbc", "kang_pbmc", "malt_lymphoma", "numbat_atc2", "pbmc3k", "pbmc_frozen_donorA",
    "pbmc_scminer638", "pc9_erlotinib", "qian2020_ovarian", "sc_mixology_celseq2", "zheng_facs10",
)  # fmt: skip
"""The files that hold counts."""
WEIGHTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)
"""Of co-expression in a mixture."""
_STORED = np.float32(32)
"""Rows of length 1 are kept so much longer, for the sake of float16."""


@dataclass(frozen=True)
class Scale:
    """How large a run is."""

    width: int = 512
    seeds: int = 5
    trainings: int = 5
    """Most times that a method is learned on the whole graph; its figures have the spread over so many."""
    cells: int = 10_000
    windows: tuple[int, ...] = (5, 10)
    powers: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    spectral_powers: tuple[float, ...] = (0.0, 1.0, 4.0, 16.0)
    node2vec: Node2VecSettings = field(default_factory=Node2VecSettings)
    graphmae: Mapping[str, JSON] = field(default_factory=dict)


QUICK = Scale(
    seeds=2,
    cells=1_000,
    windows=(5,),
    powers=(1.0,),
    spectral_powers=(0.0,),
    node2vec=Node2VecSettings(epochs=1, walk_length=10, context=4),
    graphmae={"steps": 3},
)


@dataclass(frozen=True, eq=False)
class Bench:
    """What a method can use."""

    knowledge: Knowledge
    pairs: dict[str, Labelled]
    cells: Path
    store: ResultStore
    scale: Scale = Scale()

    def valid(self, vectors: Vectors) -> float:
        """AUC by cosine on the validation split."""
        return self.pairs["valid"].judge(cosine(vectors))

    @cached_property
    def expression(self) -> list[sparse.csr_matrix[np.float32]]:
        """log1p of counts per 10,000 of every file."""
        return [_logged(read_cells(self.cells / f"{name}.h5ad", min_genes=200).X) for name in CELLS]

    def some_cells(self, seed: int) -> sparse.csr_matrix[np.float32]:
        """Draw cells of all files."""
        everything = sparse.csr_matrix(sparse.vstack(self.expression))
        chosen = np.random.default_rng(seed).permutation(everything.shape[0])[: self.scale.cells]
        return everything[np.sort(chosen)]


def _logged(counts: sparse.csr_matrix[np.float32]) -> sparse.csr_matrix[np.float32]:
    totals = np.repeat(np.asarray(counts.sum(axis=1)).ravel(), np.diff(counts.indptr))
    logged = counts.copy()
    logged.data = np.log1p(1e4 * counts.data / totals).astype(np.float32)
    return logged


Option = TypeVar("Option")


def choose(
    bench: Bench,
    name: str,
    key: Mapping[str, JSON],
    options: Sequence[Option],
    make: Callable[[Option], Vectors],
) -> Option:
    """Return the option whose vectors are best on the validation split by cosine; all figures are kept."""

    def judge() -> dict[str, JSON]:
        return {str(option): bench.valid(make(option)) for option in options}

    settings: dict[str, JSON] = {**key, "options": [str(option) for option in options]}
    figures = bench.store.result(f"choice {name}", settings, judge)
    return max(options, key=lambda option: float(str(figures[str(option)])))


def fingerprint(vectors: Vectors) -> str:
    return hashlib.sha256(vectors.values.tobytes()).hexdigest()[:16]


Make = Callable[[Bench, str, int], Vectors]


@dataclass(frozen=True)
class Method:
    """One way to vectors.

    Attributes
    ----------
    make
        From the bench, the graph and the seed to the vectors.
    seeds
        How many times it is learned on the whole graph; 1 for what has nothing random in it.
    graphs
        The graphs it is learned on. One that reads no network gives the same vectors for all: ``("whole",)`` and
        ``reads_network`` false.
    """

    make: Make
    seeds: int = 1
    graphs: tuple[str, ...] = GRAPHS
    reads_network: bool = True

    def graph(self, wanted: str) -> str | None:
        """Name the graph whose vectors stand for ``wanted``; None where there are none."""
        return wanted if wanted in self.graphs else (None if self.reads_network else WHOLE)


def random(bench: Bench, _graph: str, seed: int) -> Vectors:
    genes = len(bench.knowledge.vocabulary)
    return Vectors.of(np.random.default_rng(seed).standard_normal((genes, bench.scale.width)).astype(np.float32))


def coexpression(bench: Bench, _graph: str, seed: int) -> Vectors:
    settings: dict[str, JSON] = {
        "cells": list(CELLS),
        "most": bench.scale.cells,
        "width": bench.scale.width,
        "seed": seed,
    }

    def make() -> Vectors:
        return Vectors.of(*coexpression_vectors(bench.some_cells(seed), bench.scale.width, seed=seed))

    return bench.store.vectors("coexpression", settings, make)


def spectral(bench: Bench, graph: str, _seed: int) -> Vectors:
    """Laplacian eigenmaps, each axis times a power of its eigenvalue (0: the plain ones)."""
    key: dict[str, JSON] = {"network": bench.knowledge.string.hash, "width": bench.scale.width}
    powers = bench.scale.spectral_powers
    return eigenmaps(bench, graph, choose(bench, "spectral", key, powers, partial(eigenmaps, bench, WHOLE)))


def eigenmaps(bench: Bench, graph: str, power: float) -> Vectors:
    network, width = bench.knowledge.network("string", graph), bench.scale.width
    key: dict[str, JSON] = {"network": network.hash, "width": width}
    plain = bench.store.vectors("spectral", key, lambda: Vectors.of(plain_eigenmaps(network, width), network.known))
    adjacency, maps = network.adjacency(), plain.values.astype(np.float64)
    degrees = np.asarray(adjacency.sum(axis=1)).ravel()
    size = (maps**2 * degrees[:, None]).sum(axis=0)
    eigenvalues = (maps * (adjacency @ maps)).sum(axis=0) / np.where(size > 0, size, 1)
    return Vectors.of((maps * np.clip(eigenvalues, 0, 1) ** power).astype(np.float32), plain.known)


def plain_eigenmaps(network: Network, width: int) -> NDArray[np.float32]:
    """Belkin & Niyogi 2003: the smoothest axes on the graph but the constant one, float32 [genes, width]."""
    from scipy.sparse.linalg import eigsh

    genes = np.flatnonzero(network.known)
    adjacency = network.adjacency()[genes][:, genes].astype(np.float64)
    shrink = sparse.diags(1 / np.sqrt(np.asarray(adjacency.sum(axis=1)).ravel()))
    begin = np.random.default_rng(0).standard_normal(len(genes))
    values, axes = eigsh(shrink @ adjacency @ shrink, min(width + 1, len(genes) - 1), which="LA", v0=begin, tol=1e-4)
    maps = np.zeros((len(network.vocabulary), width), np.float32)
    maps[genes, : len(values) - 1] = (shrink @ axes)[:, np.argsort(-values)[1:]]
    return maps


def netmf(source: str, bench: Bench, graph: str, _seed: int) -> Vectors:
    key: dict[str, JSON] = {"network": bench.knowledge.network(source, WHOLE).hash, "width": bench.scale.width}
    settings = [(window, power) for window in bench.scale.windows for power in bench.scale.powers]
    chosen = choose(bench, f"netmf {source}", key, settings, lambda each: exact_netmf(bench, source, WHOLE, *each))
    return exact_netmf(bench, source, graph, *chosen)


def exact_netmf(bench: Bench, source: str, graph: str, window: int, power: float = 1.0) -> Vectors:
    """Return NetMF vectors; the decomposition is done once for all powers of its eigenvalues."""
    network, width = bench.knowledge.network(source, graph), bench.scale.width

    def make() -> Vectors:
        return Vectors.of(netmf_vectors(network, width, window=window))

    plain = bench.store.vectors("netmf", {"network": network.hash, "width": width, "window": window}, make)
    length = np.linalg.norm(plain.values, axis=0)  # of axis i: the root of its eigenvalue
    scale = np.divide(length, length.max(), out=np.ones_like(length), where=length > 0) ** (power - 1)
    return Vectors.of(plain.values * np.where(length > 0, scale, 0), plain.known)


def node2vec(bench: Bench, graph: str, seed: int) -> Vectors:
    settings = bench.scale.node2vec
    network = bench.knowledge.network("string", graph)
    key: dict[str, JSON] = {"network": network.hash, "seed": seed, **asdict(settings)}
    return bench.store.vectors(
        "node2vec", key, lambda: Vectors.of(node2vec_vectors(network, settings, seed=seed), network.known)
    )


def graphmae(
    bench: Bench, graph: str, seed: int, *, cells: bool = False, codes: bool = False, **changes: JSON
) -> Vectors:
    """Return what ``cell-lm genes pretrain`` learns on STRING and ANAT; or the codes alone, with no NetMF beside them.

    The node features are made once: the seeds vary the training, not what the decomposition of NetMF begins with.
    """
    config, networks = graphmae_config(bench, seed, **changes), both(bench, graph)
    key: dict[str, JSON] = {"networks": [each.hash for each in networks], "config": config.model_dump(mode="json")}
    key["cells"] = bench.scale.cells if cells else 0

    def make() -> Vectors:
        about = describe_learning(networks, config)
        learner = GeneStep(networks, features(bench, graph, config, cells=cells), config, about=about)
        Trainer(learner, gene_loop_settings(config)).run()
        learned = learner.vectors()
        values = [Vectors.of(each, learned.known).values for each in (learned.values, unit(learner.codes()))]
        return Vectors(np.hstack(values), learned.known)

    kept, width = bench.store.vectors("graphmae", key, make), bench.scale.width
    return Vectors.of(kept.values[:, width:] if codes else kept.values[:, :width], kept.known)


def graphmae_input(bench: Bench, graph: str, _seed: int) -> Vectors:
    """Return what GraphMAE starts from: its node features, without training."""
    return Vectors.of(leading(features(bench, graph, graphmae_config(bench, 0)).values, bench.scale.width))


def features(bench: Bench, graph: str, config: GraphMAEConfig, *, cells: bool = False) -> Features:
    """Return the node features that gene vectors are learned from, made once for all seeds and kept."""
    networks, same = both(bench, graph), config.model_copy(update={"seed": 0})
    key: dict[str, JSON] = {
        "networks": [each.hash for each in networks], "cells": bench.scale.cells if cells else 0,
        "config": same.model_dump(mode="json", include={"dim", "features", "window", "negative", "structure_power"}),
    }  # fmt: skip

    def make() -> Vectors:
        made = node_features(networks, same, expression=bench.some_cells(0) if cells else None)
        everything = np.hstack([made.structure, made.values])
        return Vectors(_STORED * everything, np.any(everything != 0, axis=1))

    kept = bench.store.vectors("node_features", key, make).values / _STORED
    structure = len(networks) * bench.scale.width  # the first network and the union
    return Features(kept[:, structure:], kept[:, :structure])


def both(bench: Bench, graph: str) -> list[Network]:
    return [bench.knowledge.network(source, graph) for source in ("string", "anat")]


def graphmae_config(bench: Bench, seed: int, **changes: JSON) -> GraphMAEConfig:
    return GraphMAEConfig.model_validate({"dim": bench.scale.width, "seed": seed, **bench.scale.graphmae, **changes})


def packaged(bench: Bench, _graph: str, _seed: int) -> Vectors:
    vectors = GeneVectors.packaged().align(bench.knowledge.vocabulary)
    return Vectors.of(vectors.values, vectors.known)


def beside_coexpression(base: Make, name: str, bench: Bench, graph: str, seed: int) -> Vectors:
    """Mix with co-expression: the cosine of the mixture is the weighted mean of both (where both know the genes)."""
    cells, width = coexpression(bench, WHOLE, 0), bench.scale.width
    whole = base(bench, WHOLE, 0)
    key: dict[str, JSON] = {"of": [fingerprint(whole), fingerprint(cells)], "width": width}
    weight = choose(bench, name, key, WEIGHTS, lambda each: beside(whole, cells, each, width))
    return beside(base(bench, graph, seed), coexpression(bench, WHOLE, seed), weight, width)


def beside(first: Vectors, second: Vectors, weight: float, width: int) -> Vectors:
    blocks = [unit(first.values) * (1 - weight) ** 0.5, unit(second.values) * weight**0.5]
    return Vectors.of(leading(np.hstack(blocks), width), first.known | second.known)


def leading(values: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Keep the ``width`` directions that hold most of the inner products, float32 [genes, width]."""
    if values.shape[1] <= width:
        return values
    _, axes = np.linalg.eigh(values.T.astype(np.float64) @ values)
    return np.asarray(values @ axes[:, ::-1][:, :width], np.float32)


METHODS: dict[str, Method] = {
    "random": Method(random, seeds=5, graphs=(WHOLE,), reads_network=False),
    "coexpression": Method(coexpression, seeds=5, graphs=(WHOLE,), reads_network=False),
    "spectral": Method(spectral),
    "netmf": Method(partial(netmf, "string")),
    "netmf_joined": Method(partial(netmf, "joined")),
    "node2vec": Method(node2vec, seeds=5),
    "netmf_coexpression": Method(partial(beside_coexpression, partial(netmf, "string"), "netmf_coexpression")),
    "graphmae": Method(graphmae, seeds=5),
    "graphmae_coexpression": Method(partial(beside_coexpression, graphmae, "graphmae_coexpression"), seeds=5),
    "graphmae_cells": Method(partial(graphmae, cells=True), graphs=(WHOLE,)),
    "graphmae_codes": Method(partial(graphmae, codes=True), seeds=5),
    "graphmae_random": Method(partial(graphmae, codes=True, features="random")),
    "graphmae_input": Method(graphmae_input),
    "packaged": Method(packaged, graphs=(WHOLE,)),
}
"""All methods. ``graphmae_coexpression`` is a mixture of the vectors; ``graphmae_cells`` sees co-expression as a node
feature instead; ``graphmae_codes`` are GraphMAE's codes without the NetMF beside them, and ``graphmae_random`` the
same from noise as node features."""
