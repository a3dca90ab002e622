"""Tests of gene vectors without training: cosine of pairs, neighbours in gene sets, links.

One rule for all methods: a gene without a vector has cosine 0 to every gene.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from studies.gene_graphs import GeneSets, Knowledge, Pairs
from studies.gene_store import Vectors

NEIGHBOURS = 10
BLOCK = 16_384
FORM_POWERS = (0.0, 0.5, 1.0, 2.0)
MOST_LINKS = 100_000
"""Of the BioGRID-only edges so many are drawn, the same ones for all methods."""

Score = Callable[[Pairs], NDArray[np.float32]]
Purities = dict[str, tuple[float, float]]


def units(vectors: Vectors) -> NDArray[np.float32]:
    length = np.linalg.norm(vectors.values, axis=1, keepdims=True)
    return vectors.values / np.where(length > 0, length, 1)


def cosine(vectors: Vectors) -> Score:
    """Return a function from pairs to the cosine of their genes, 0 where one is not known."""
    rows = units(vectors)

    def score(pairs: Pairs) -> NDArray[np.float32]:
        return np.concatenate(
            [np.einsum("ij,ij->i", rows[part.first], rows[part.second]) * inside(part) for part in blocks(pairs)]
        )

    return score


def degree_sum(degree: NDArray[np.int64]) -> Score:
    """Return a function from pairs to how popular their genes are together."""

    def score(pairs: Pairs) -> NDArray[np.float32]:
        first, second = (np.where(ends >= 0, degree[ends], 0) for ends in (pairs.first, pairs.second))
        return (first + second).astype(np.float32)

    return score


def inside(pairs: Pairs) -> NDArray[np.bool_]:
    return np.asarray((pairs.first >= 0) & (pairs.second >= 0))


def blocks(pairs: Pairs) -> list[Pairs]:
    return [pairs[i : i + BLOCK] for i in range(0, len(pairs), BLOCK)] or [pairs]


def auc(labels: NDArray[np.int64], scores: NDArray[np.float32]) -> float:
    return float(roc_auc_score(labels, scores))


def link_aucs(score: Score, positives: Pairs, knowledge: Knowledge, seeds: int) -> dict[str, list[float]]:
    """AUC of links against chance pairs, drawn evenly and as popular as the links, for each seed of that draw."""
    if len(positives) > MOST_LINKS:
        positives = positives[np.random.default_rng(0).permutation(len(positives))[:MOST_LINKS]]
    there = score(positives)
    labels = np.repeat([1, 0], len(positives))
    found: dict[str, list[float]] = {"random": [], "matched": []}
    for kind, values in found.items():
        for seed in range(seeds):
            chance = knowledge.negatives(positives, seed, matched=kind == "matched")
            values.append(auc(labels, np.concatenate([there, score(chance)])))
    return found


def nearest_genes(
    vectors: Vectors, asked: NDArray[np.int64], candidates: NDArray[np.int64], k: int = NEIGHBOURS
) -> NDArray[np.int64]:
    """Return the k candidates of highest cosine with each gene, int64 [asked, k], in no order; none is the gene."""
    rows, k = units(vectors), min(k, len(candidates) - 1)
    found = [np.zeros((0, max(k, 0)), np.int64)]
    for part in np.array_split(asked, max(1, len(asked) // 1024)) if k > 0 else []:
        similar = rows[part] @ rows[candidates].T
        similar[part[:, None] == candidates] = -np.inf
        found.append(candidates[np.argpartition(-similar, k - 1, axis=1)[:, :k]])
    return np.concatenate(found)


def purities(vectors: Vectors, collections: Sequence[GeneSets], among: NDArray[np.bool_] | None = None) -> Purities:
    """Share of the nearest genes that have a set in common with a gene, mean over the genes of each collection.

    Parameters
    ----------
    vectors
        Of all genes. A gene that is not known counts as if its neighbours were drawn by chance.
    collections
        A gene of no set is never asked, but may be a neighbour, and then has no set in common.
    among
        Only these genes can be neighbours; default: all known ones.

    Returns
    -------
    dict
        For the name of each collection the purity, and that of neighbours drawn evenly.
    """
    candidates = np.flatnonzero(vectors.known if among is None else vectors.known & among)
    asked = np.unique(np.concatenate([sets.genes for sets in collections]))
    asked = asked[vectors.known[asked]]
    nearest = nearest_genes(vectors, asked, candidates)
    return {sets.name: _purity(sets, asked, nearest, candidates) for sets in collections}


def _purity(
    sets: GeneSets, asked: NDArray[np.int64], nearest: NDArray[np.int64], candidates: NDArray[np.int64]
) -> tuple[float, float]:
    place = np.full(sets.member.shape[0], -1)
    place[sets.genes] = np.arange(len(sets.genes))
    other = place[candidates]
    partners = sets.together[:, other[other >= 0]].sum(axis=1)
    chance = partners / np.maximum(1, len(candidates) - np.isin(sets.genes, candidates))
    found, ours = chance.copy(), place[asked] >= 0
    gene, neighbours = place[asked[ours]], place[nearest[ours]]
    if nearest.shape[1]:
        found[gene] = (sets.together[gene[:, None], neighbours] & (neighbours >= 0)).mean(axis=1)
    return float(found.mean()), float(chance.mean())


def forms(vectors: Vectors) -> dict[str, Vectors]:
    """Ways to read the same vectors by cosine: the mean taken off or not, principal axes times a power of their spread.

    NetMF has such a power of its own to tune, so all methods are given one, besides the vectors as they are.
    """
    made = {"as they are": vectors}
    for centred in (False, True):
        mean = vectors.values[vectors.known].mean(axis=0) if centred and vectors.known.any() else 0.0
        values = np.where(vectors.known[:, None], vectors.values - mean, 0).astype(np.float64)
        squares, axes = np.linalg.eigh(values.T @ values)
        spread = np.sqrt(np.clip(squares, 0, None) / max(squares.max(), 1e-12))
        for power in FORM_POWERS:
            name = f"{'mean off, ' if centred else ''}axes ** {power:g}"
            made[name] = Vectors.of(((values @ axes) * spread**power).astype(np.float32), vectors.known)
    return made
