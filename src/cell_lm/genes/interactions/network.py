"""A network of genes: which pairs interact, and how surely."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from cell_lm.errors import GeneError, InputError
from cell_lm.genes.vocabulary import Vocabulary

Integers: TypeAlias = NDArray[np.int32] | NDArray[np.int64] | Sequence[int]


@dataclass(frozen=True, eq=False)
class Network:
    """Undirected interactions of genes: each pair once, none of a gene with itself. Immutable, its arrays too.

    Arrays that can be written are copied; the caller's own stay as they are.

    Attributes
    ----------
    vocabulary : Vocabulary
        What ``first`` and ``second`` are positions in, G genes.
    first, second : ndarray
        int32 [E]: the two genes of each edge, ``first < second``, sorted by (first, second).
    score : ndarray
        float32 [E], in (0, 1]: how sure the source is of the edge; 1 throughout where it does not say.
    name : str
        Short: ``"anat"``, or the stem of the file.
    source : str
        Where it comes from, in words.
    notes : tuple of str
        What was dropped on the way here, with counts.
    """

    vocabulary: Vocabulary
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    score: NDArray[np.float32]
    name: str
    source: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key, kind in (("first", np.int32), ("second", np.int32), ("score", np.float32)):
            array = getattr(self, key)
            if array.dtype != kind or array.shape != (len(self.first),):
                raise InputError(f"{array.dtype} {list(array.shape)} is no array of its edges", where=self.name)
            object.__setattr__(self, key, _frozen(array))
        _refuse_strange_positions(self.first, self.second, self.vocabulary, self.name)
        _refuse_strange_scores(self.score, self.name)
        if np.any(self.first >= self.second) or np.any(np.diff(self._keys) <= 0):
            fix = "Network.from_pairs takes pairs in any order"
            raise InputError("its pairs are not sorted, or not each there once", where=self.name, fix=fix)

    def __len__(self) -> int:
        """Return the number of edges E."""
        return len(self.first)

    def __repr__(self) -> str:
        return f"Network({self.name!r}, {len(self):,} edges of {int(self.known.sum()):,} genes)"

    @classmethod
    def from_pairs(
        cls,
        first: Integers,
        second: Integers,
        score: ArrayLike | None = None,
        *,
        vocabulary: Vocabulary,
        name: str,
        source: str = "",
        notes: tuple[str, ...] = (),
    ) -> Network:
        """Make a network of pairs in any order.

        Of a pair that is there several times, either way round, the highest score is kept; pairs of a gene with itself
        are dropped. The notes state how many.

        Parameters
        ----------
        first, second
            [pairs] positions in the vocabulary.
        score
            [pairs], in (0, 1]; default: 1 throughout.
        vocabulary, name, source, notes
            As of the network.

        Raises
        ------
        InputError
            The lengths differ, a position is not in the vocabulary, or a score is not in (0, 1].
        """
        a, b = np.asarray(first, np.int64), np.asarray(second, np.int64)
        scores = np.ones(len(a), np.float32) if score is None else np.asarray(score, np.float32)
        if a.ndim != 1 or not a.shape == b.shape == scores.shape:
            shapes = f"{list(a.shape)}, {list(b.shape)} and {list(scores.shape)}"
            raise InputError(f"first genes, second genes and scores do not belong together: {shapes}", where=name)
        _refuse_strange_positions(a, b, vocabulary, name)
        _refuse_strange_scores(scores, name)
        low, high, best = each_once(a, b, scores, len(vocabulary))
        selves = int(np.count_nonzero(a == b))
        again = len(a) - selves - len(low)
        notes += _counted(selves, "pairs of a gene with itself were dropped")
        notes += _counted(again, "pairs were there more than once: the highest score was kept")
        return cls(vocabulary, low, high, best, name, source, notes)

    @cached_property
    def _keys(self) -> NDArray[np.int64]:
        """One number per edge, ascending."""
        return _keys(self.first, self.second, len(self.vocabulary))

    @cached_property
    def degree(self) -> NDArray[np.int64]:
        """Edges of each gene, int64 [G]."""
        return np.bincount(np.concatenate([self.first, self.second]), minlength=len(self.vocabulary)).astype(np.int64)

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Which genes have an edge, bool [G]."""
        return self.degree > 0

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the vocabulary's hash, all pairs and their scores, in hexadecimal."""
        digest = hashlib.sha256(self.vocabulary.hash.encode())
        for array, kind in ((self.first, "<i4"), (self.second, "<i4"), (self.score, "<f4")):
            digest.update(np.ascontiguousarray(array, kind).tobytes())
        return digest.hexdigest()

    def summary(self) -> str:
        """Return a few lines: edges and genes, edges of a gene, scores, where it comes from, and what was dropped."""
        lines = [f"{self.name}: {len(self):,} edges of {int(self.known.sum()):,} genes of {len(self.vocabulary):,}"]
        if len(self):
            degree = self.degree[self.known]
            lines += [f"edges of a gene: median {np.median(degree):.0f}, most {degree.max():,}", self._spread()]
        return "\n".join([*lines, *([f"source: {self.source}"] if self.source else []), *self.notes])

    def _spread(self) -> str:
        low, middle, high = np.quantile(self.score, (0, 0.5, 1))
        sure = ", ".join(f"{int(np.count_nonzero(self.score >= s)):,} of at least {s}" for s in (0.3, 0.5, 0.7))
        return f"scores: {low:.3f} to {high:.3f}, median {middle:.3f}; {sure}"

    def adjacency(self, power: float = 1.0) -> sparse.csr_matrix[np.float32]:
        """Return the symmetric matrix of ``score ** power``, float32 [G, G]; ``power=0`` weighs all edges alike."""
        rows, columns = np.concatenate([self.first, self.second]), np.concatenate([self.second, self.first])
        weights = np.tile((self.score**power).astype(np.float32), 2)
        genes = len(self.vocabulary)
        matrix = sparse.coo_matrix((weights, (rows, columns)), shape=(genes, genes)).tocsr()
        matrix.sort_indices()
        return matrix

    def without(self, first: Integers, second: Integers) -> Network:
        """Return the network without these pairs, given either way round; those that it has not do not matter.

        Raises
        ------
        InputError
            The lengths differ, or a position is not in the vocabulary.
        """
        a, b = np.asarray(first, np.int64), np.asarray(second, np.int64)
        if a.ndim != 1 or a.shape != b.shape:
            raise InputError(f"{list(a.shape)} first genes, but {list(b.shape)} second ones", where=self.name)
        _refuse_strange_positions(a, b, self.vocabulary, self.name)
        keys = _keys(np.minimum(a, b), np.maximum(a, b), len(self.vocabulary))
        return self._only(~np.isin(self._keys, keys), "edges were left out by name")

    def above(self, score: float) -> Network:
        """Return the edges whose score is ``score`` or more."""
        # as float32, or an edge of score 0.7 would be below 0.7
        return self._only(self.score >= np.float32(score), f"edges of a score under {score:g} were left out")

    def _only(self, kept: NDArray[np.bool_], note: str) -> Network:
        first, second, score = self.first[kept], self.second[kept], self.score[kept]
        notes = self.notes + _counted(int(np.count_nonzero(~kept)), note)
        return replace(self, first=first, second=second, score=score, notes=notes)


def join_networks(networks: Sequence[Network]) -> Network:
    """Return all edges of several networks; one that several have gets the highest of its scores.

    The highest, and not the probability that any of them is right (noisy-or), because networks of interactions mostly
    draw on the same experiments.

    Raises
    ------
    GeneError
        Their vocabularies differ.
    InputError
        There are none.
    """
    if not networks:
        raise InputError("there are no networks to join", fix="Give one or more")
    vocabulary, name = networks[0].vocabulary, "+".join(network.name for network in networks)
    if len(networks) == 1:
        return networks[0]
    if any(network.vocabulary.hash != vocabulary.hash for network in networks):
        raise GeneError("the networks are of different vocabularies", where=name, fix="Read all with the same one")
    columns = ([getattr(network, key) for network in networks] for key in ("first", "second", "score"))
    first, second, score = (np.concatenate(column) for column in columns)
    low, high, best = each_once(first.astype(np.int64), second.astype(np.int64), score, len(vocabulary))
    source = "; ".join(dict.fromkeys(network.source for network in networks if network.source))
    notes = tuple(f"{network.name}: {note}" for network in networks for note in network.notes)
    return Network(vocabulary, low, high, best, name, source, notes)


def _frozen(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return an array that cannot be written: itself, or a copy where it can."""
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array


def _keys(low: NDArray[np.signedinteger], high: NDArray[np.signedinteger], genes: int) -> NDArray[np.int64]:
    return low.astype(np.int64) * genes + high


def each_once(
    a: NDArray[np.int64], b: NDArray[np.int64], score: NDArray[np.float32], genes: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Return the different pairs of different genes in order, each with its highest score."""
    real = a != b
    keys = _keys(np.minimum(a, b), np.maximum(a, b), genes)[real]
    order = np.lexsort((-score[real], keys))
    pairs, where = np.unique(keys[order], return_index=True)  # the first of each, which has the highest score
    best = score[real][order][where].astype(np.float32)
    return (pairs // genes).astype(np.int32), (pairs % genes).astype(np.int32), best


def _refuse_strange_positions(
    a: NDArray[np.signedinteger], b: NDArray[np.signedinteger], vocabulary: Vocabulary, name: str
) -> None:
    both = np.concatenate([a, b])
    wrong = int(np.count_nonzero((both < 0) | (both >= len(vocabulary))))
    if wrong:
        found = f"{wrong:,} of {len(both):,} positions are not in the vocabulary of {len(vocabulary):,} genes"
        raise InputError(found, where=name, fix="Give positions in the vocabulary, from 0")


def _refuse_strange_scores(score: NDArray[np.float32], name: str) -> None:
    wrong = int(np.count_nonzero(~((score > 0) & (score <= 1))))  # NaN is neither
    if wrong:
        found = f"{wrong:,} of {len(score):,} scores are not above 0 and at most 1"
        raise InputError(found, where=name, fix="Scale them to (0, 1], and leave out pairs that do not interact")


def _counted(count: int, what: str) -> tuple[str, ...]:
    return (f"{count:,} {what}",) if count else ()
