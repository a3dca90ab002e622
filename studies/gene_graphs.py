"""The networks, gene sets and interactions that gene vectors are trained and evaluated on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.genes import Vocabulary
from cell_lm.genes.interactions import Network, join_networks

WHOLE, NO_COMMON_SET, HELD_OUT = "whole", "no common set", "held out"
GRAPHS = (WHOLE, NO_COMMON_SET, HELD_OUT)
COLLECTIONS = ("reactome", "hallmark")
SMALL = 200
"""Genes of a set that counts as small: Reactome's largest hold 2,600, and a fifth of all pairs have one in common."""
HELD_OUT_SHARE = 0.1
BIOGRID = "pathfindR_biogrid"
ANAT = "anat_scnet"

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Pairs of genes: int64 [P] positions in the vocabulary, -1 where a gene is not in it."""

    first: Positions
    second: Positions

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, which: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Pairs:
        return Pairs(self.first[which], self.second[which])

    def codes(self, genes: int) -> Positions:
        """One number for each pair, either way round."""
        return np.minimum(self.first, self.second) * genes + np.maximum(self.first, self.second)


@dataclass(frozen=True, eq=False)
class GeneSets:
    """Sets of genes: bool [genes, sets] as a sparse matrix."""

    name: str
    member: sparse.csr_matrix[np.float32]

    @cached_property
    def genes(self) -> Positions:
        """Genes that are in any set."""
        return np.flatnonzero(np.diff(self.member.indptr)).astype(np.int64)

    @cached_property
    def together(self) -> NDArray[np.bool_]:
        """Whether two of ``genes`` are in a common set, bool [n, n]; no gene with itself."""
        some = self.member[self.genes]
        common = np.vstack([(some[i : i + 1024] @ some.T).toarray() > 0 for i in range(0, len(self.genes), 1024)])
        np.fill_diagonal(common, False)
        return common

    def small(self) -> GeneSets:
        """Return its sets of at most :data:`SMALL` genes."""
        size = np.asarray(self.member.sum(axis=0)).ravel()
        return GeneSets(f"{self.name}_small", sparse.csr_matrix(self.member[:, size <= SMALL]))

    def share(self, pairs: Pairs) -> NDArray[np.bool_]:
        """Whether the genes of each pair have a set in common."""
        place = np.full(self.member.shape[0], -1)
        place[self.genes] = np.arange(len(self.genes))
        first, second = place[pairs.first], place[pairs.second]
        both = (first >= 0) & (second >= 0)
        common = np.zeros(len(pairs), bool)
        common[both] = self.together[first[both], second[both]]
        return common


@dataclass(frozen=True, eq=False)
class Knowledge:
    """All that the methods learn on and are judged by.

    Attributes
    ----------
    string, anat : Network
        STRING v12 (the union file), and ANAT.
    sets : dict
        Reactome and Hallmark.
    held_out : Pairs
        A tenth of STRING's edges.
    biogrid : Pairs
        Edges of BioGRID that neither STRING nor any other source has.
    interactions : ndarray
        Codes of all pairs that interact after any source, sorted: chance pairs are none of them.
    """

    vocabulary: Vocabulary
    string: Network
    anat: Network
    sets: dict[str, GeneSets]
    held_out: Pairs
    biogrid: Pairs
    interactions: Positions

    @cached_property
    def judged_sets(self) -> list[GeneSets]:
        """The collections that neighbours are judged by: all of both, and the small sets of Reactome."""
        return [*self.sets.values(), self.sets["reactome"].small()]

    @property
    def fingerprint(self) -> str:
        """What the results depend on."""
        return f"{self.string.hash[:16]}-{self.anat.hash[:16]}"

    def network(self, source: str, graph: str) -> Network:
        """Return ``"string"``, ``"anat"`` or ``"joined"`` as one of :data:`GRAPHS`."""
        joined = source == "joined"
        network = (
            join_networks([self.string, self.anat]) if joined else {"string": self.string, "anat": self.anat}[source]
        )
        if graph == NO_COMMON_SET:
            edges = Pairs(network.first.astype(np.int64), network.second.astype(np.int64))
            common = np.any([sets.share(edges) for sets in self.sets.values()], axis=0)
            return network.without(network.first[common], network.second[common])
        if graph == HELD_OUT:
            return network.without(self.held_out.first, self.held_out.second)
        return network

    def negatives(self, positives: Pairs, seed: int, *, matched: bool) -> Pairs:
        """Draw as many chance pairs, none of which interacts after any source.

        Both ends are drawn evenly from the genes of the positives; or, ``matched``, as often as each is an end of a
        positive, so that popular genes are as frequent as there.
        """
        rng = np.random.default_rng([seed, int(matched)])
        ends = np.concatenate([positives.first, positives.second])
        ends = ends if matched else np.unique(ends)
        genes, found = len(self.vocabulary), [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        while sum(map(len, found)) < len(positives):
            drawn = Pairs(rng.choice(ends, len(positives)), rng.choice(ends, len(positives)))
            codes = drawn.codes(genes)
            place = np.minimum(np.searchsorted(self.interactions, codes), len(self.interactions) - 1)
            free = (drawn.first != drawn.second) & (self.interactions[place] != codes)
            found.append(drawn[free])
        everything = Pairs(
            np.concatenate([each.first for each in found]), np.concatenate([each.second for each in found])
        )
        return everything[: len(positives)]


def read_knowledge(folder: Path, vocabulary: Vocabulary | None = None) -> Knowledge:
    """Read ``ppi_string12_union.parquet``, ``ppi_all_sources.parquet`` and the gmt files of a folder."""
    vocabulary = Vocabulary.human() if vocabulary is None else vocabulary
    edges = pd.read_parquet(folder / "ppi_string12_union.parquet", columns=["gene_a", "gene_b", "score"])
    string = to_network(edges, vocabulary, "string", "STRING v12")
    table = pd.read_parquet(folder / "ppi_all_sources.parquet")
    anat = to_network(table[table["source"] == ANAT], vocabulary, "anat", "ANAT")
    every = positions(table, vocabulary)
    every, source = every[inside(every)], table["source"].to_numpy()[inside(every)]
    codes, genes = every.codes(len(vocabulary)), len(vocabulary)
    string_codes = Pairs(string.first.astype(np.int64), string.second.astype(np.int64)).codes(genes)
    elsewhere = np.union1d(codes[source != BIOGRID], string_codes)
    alone = np.setdiff1d(codes[source == BIOGRID], elsewhere)
    return Knowledge(
        vocabulary,
        string,
        anat,
        {name: read_sets(folder / f"{name}.gmt", vocabulary) for name in COLLECTIONS},
        hold_out(string),
        decode(alone, genes),
        np.union1d(elsewhere, alone),
    )


def to_network(edges: pd.DataFrame, vocabulary: Vocabulary, name: str, source: str) -> Network:
    pairs = positions(edges, vocabulary)
    kept, score = inside(pairs), edges["score"].to_numpy(np.float32)
    kept &= score > 0
    return Network.from_pairs(
        pairs.first[kept], pairs.second[kept], score[kept], vocabulary=vocabulary, name=name, source=source
    )


def positions(table: pd.DataFrame, vocabulary: Vocabulary) -> Pairs:
    """Find ``gene_a`` and ``gene_b``, approved symbols, in the vocabulary."""
    place = {symbol: i for i, symbol in enumerate(vocabulary.symbols)}
    first, second = (table[key].astype(object).map(place).fillna(-1).to_numpy(np.int64) for key in ("gene_a", "gene_b"))
    return Pairs(first, second)


def inside(pairs: Pairs) -> NDArray[np.bool_]:
    """Which pairs are of two different genes of the vocabulary."""
    return np.asarray((pairs.first >= 0) & (pairs.second >= 0) & (pairs.first != pairs.second))


def decode(codes: Positions, genes: int) -> Pairs:
    """Undo :meth:`Pairs.codes` of sorted codes."""
    unique = codes[codes // genes != codes % genes]
    return Pairs(unique // genes, unique % genes)


def hold_out(network: Network, seed: int = 0) -> Pairs:
    chosen = np.random.default_rng(seed).permutation(len(network))[: round(HELD_OUT_SHARE * len(network))]
    return Pairs(network.first[chosen].astype(np.int64), network.second[chosen].astype(np.int64))


def read_sets(path: Path, vocabulary: Vocabulary) -> GeneSets:
    lines = [line.split("\t")[2:] for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [(vocabulary.find(gene), column) for column, genes in enumerate(lines) for gene in genes]
    gene, column = np.array([row for row in rows if row[0] >= 0], np.int64).reshape(-1, 2).T
    ones = np.ones(len(gene), np.float32)
    member = sparse.csr_matrix((ones, (gene, column)), shape=(len(vocabulary), len(lines)))
    return GeneSets(path.stem, member)
