"""Scores of novelty: how unlike the cells of every known type a cell is, in five ways that fail in different places.

=============  ========================================================================================================
``excess``     counts of the five genes that exceed most what the type with the most of that gene would give, in
               standard deviations of a negative binomial: a type of its own has genes that no known type has
``profile``    -log of the Bhattacharyya affinity between the relative expression of the cell and of the nearest type
``direction``  squared Mahalanobis distance of CLS, at unit length, to the nearest type; the covariance within types is
               shared, shrunk (Ledoit & Wolf 2004) and taken to the power of 1/2
``distance``   the same of CLS as it is, with the whole covariance (Lee et al. 2018, arXiv 1807.03888)
``confidence`` log(1 - the largest probability) of the classifier (Hendrycks & Gimpel 2017, arXiv 1610.02136)
=============  ========================================================================================================

Far types are seen by ``direction`` and ``distance``, which are blind to a subtype between two known ones;
``confidence`` sees that one, and is blind to the far type (pancreas cells against blood). The length of CLS follows the
depth of the cell: it separates some types, and misleads elsewhere, so both are there.
``benchmarks/unknown.py`` compares the scores.

What is saved is one profile a type and one mean a type: no training cells.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.covariance import ledoit_wolf

from cell_lm.tasks.estimator import Arrays

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Counts = sparse.csr_matrix

SCORES = ("excess", "profile", "direction", "distance", "confidence")
"""In the order of the columns of :meth:`NoveltyScores.score`."""
GENES = 5
"""Number of genes whose excess is added up."""
_DISPERSION = 0.3
"""Squared coefficient of variation of a gene within a type, of the negative binomial."""
_AMBIENT = 2e-6
"""Share of all counts that any gene may have, from background and other platforms."""
_LEAST_VARIANCE = 0.1
_MOST = 30.0
"""An excess counts as at most so many standard deviations, so that one gene decides nothing alone."""
_PROFILE_GENES = 1e-5
"""Genes below this share in every type are left out of the profiles: they hardly change the affinity."""
_CERTAIN = 1e-9
_LOG_OF_ZERO = -40.0


@dataclass(frozen=True, eq=False)
class NoveltyScores:
    """What the scores need to know of the reference.

    Attributes
    ----------
    unit_means, unit_whitener : ndarray
        float32 [classes, width] and [width, width]: mean of CLS at unit length, and its within-type covariance to the
        power of -1/4.
    means, whitener : ndarray
        The same of CLS as it is, and to the power of -1/2.
    genes : ndarray
        int32: genes of the vocabulary that were measured, ascending; none if there are no counts.
    largest : ndarray
        float16 [genes]: log of the largest share that a type has of the gene.
    profile_genes : ndarray
        int32: those of :attr:`genes` (as indices into it) that the profiles hold.
    profiles : ndarray
        float16 [classes, profile genes]: square root of the share.
    """

    unit_means: NDArray[np.float32]
    unit_whitener: NDArray[np.float32]
    means: NDArray[np.float32]
    whitener: NDArray[np.float32]
    genes: NDArray[np.int32]
    largest: NDArray[np.float16]
    profile_genes: NDArray[np.int32]
    profiles: NDArray[np.float16]

    @classmethod
    def fit(
        cls,
        features: NDArray[np.floating[Any]],
        codes: Codes,
        counts: Counts | None = None,
        measured: NDArray[np.integer[Any]] | None = None,
    ) -> Self:
        """Learn from training cells.

        Parameters
        ----------
        features
            CLS [cells, width].
        codes
            The class of each cell, int64; every class from 0 to the highest has a cell.
        counts
            CSR [cells, vocabulary]; None leaves out ``excess`` and ``profile``.
        measured
            Genes of the vocabulary that were measured, expressed or not (``CellView.genes``); None: the expressed ones.
            A gene that was measured and that no type expresses counts most.
        """
        unit = _space(_unit(features), codes, 0.25)
        return cls(*unit, *_space(features.astype(np.float64), codes, 0.5), *_gene_parts(counts, codes, measured))

    @property
    def names(self) -> tuple[str, ...]:
        """The scores there are."""
        return SCORES if len(self.genes) else SCORES[2:]

    def score(
        self,
        features: NDArray[np.floating[Any]],
        probabilities: NDArray[np.floating[Any]],
        counts: Counts | None = None,
    ) -> Floats:
        """Return the scores, float64 [cells, scores], higher for more novel; the columns are :attr:`names`.

        Parameters
        ----------
        features, counts
            As in :meth:`fit`, of any cells.
        probabilities
            [cells, classes] of the classifier.
        """
        largest = probabilities.astype(np.float64).max(axis=1)
        columns = [
            _log_distance(_unit(features), self.unit_means, self.unit_whitener),
            _log_distance(features.astype(np.float64), self.means, self.whitener),
            np.log(np.maximum(1 - largest, _CERTAIN)),
        ]
        if len(self.genes):
            assert counts is not None
            columns = [*self._of_genes(counts), *columns]
        return np.stack(columns, axis=1)

    def excess_genes(self, counts: Counts) -> tuple[Codes, Codes, Floats]:
        """Return the entries of the counts that exceed what any type has: cell, gene of the vocabulary, excess.

        The excess is in standard deviations, above 0.
        """
        counts = sparse.csr_matrix(counts)
        depth, place = self._depth(counts), _places(self.genes, counts.shape[1])
        cell = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        known = place[counts.indices] >= 0
        cell, gene, value = cell[known], counts.indices[known].astype(np.int64), counts.data[known].astype(np.float64)
        expected = depth[cell] * (np.exp(self.largest.astype(np.float64)) + _AMBIENT)[place[gene]]
        excess = (value - expected) / np.sqrt(expected + _DISPERSION * expected**2 + _LEAST_VARIANCE)
        over = excess > 0
        return cell[over], gene[over], np.minimum(excess[over], _MOST)

    def _of_genes(self, counts: Counts) -> list[Floats]:
        cell, _, excess = self.excess_genes(counts)
        order = np.lexsort((-excess, cell))
        cell, excess = cell[order], excess[order]
        first = np.searchsorted(cell, np.arange(counts.shape[0]))
        rank = np.arange(len(cell)) - first[cell]
        total = np.bincount(cell[rank < GENES], excess[rank < GENES], minlength=counts.shape[0])
        roots = sparse.csr_matrix(counts[:, self.genes[self.profile_genes]], dtype=np.float64).sqrt()
        affinity = np.asarray(roots @ self.profiles.astype(np.float64).T).max(axis=1) / np.sqrt(self._depth(counts))
        return [np.log1p(total), -np.log(np.maximum(affinity, 1e-6))]

    def _depth(self, counts: Counts) -> Floats:
        """Return the counts of each cell over the genes of the reference, float64 [cells]; at least 1."""
        chosen = np.zeros(counts.shape[1])
        chosen[self.genes] = 1.0
        return np.maximum(np.asarray(counts @ chosen, np.float64), 1.0)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays to save."""
        return {f"unknown.{field.name}": getattr(self, field.name) for field in fields(self)}

    @classmethod
    def restore(cls, arrays: Arrays, classes: int, width: int, vocabulary: int) -> Self:
        """Restore what :meth:`arrays` returned; ValueError or KeyError if it is inconsistent."""
        found = {field.name: arrays[f"unknown.{field.name}"] for field in fields(cls)}
        genes, profile_genes = found["genes"], found["profile_genes"]
        shapes = {
            "unit_means": ((classes, width), np.float32),
            "unit_whitener": ((width, width), np.float32),
            "means": ((classes, width), np.float32),
            "whitener": ((width, width), np.float32),
            "genes": ((len(genes),), np.int32),
            "largest": ((len(genes),), np.float16),
            "profile_genes": ((len(profile_genes),), np.int32),
            "profiles": ((classes, len(profile_genes)), np.float16),
        }
        for name, (shape, dtype) in shapes.items():
            array = found[name]
            if array.shape != shape or array.dtype != dtype or not np.isfinite(array).all():
                raise ValueError(
                    f"'unknown.{name}' is {array.dtype} {array.shape}, not finite {dtype.__name__} {shape}"
                )
        _refuse_indices(genes, vocabulary)
        _refuse_indices(profile_genes, len(genes))
        return cls(**found)


def _gene_parts(
    counts: Counts | None, codes: Codes, measured: NDArray[np.integer[Any]] | None
) -> tuple[NDArray[Any], ...]:
    if counts is None:
        none = np.empty(0, np.int32)
        return none, np.empty(0, np.float16), none, np.empty((int(codes.max()) + 1, 0), np.float16)
    counts = sparse.csr_matrix(counts)
    expressed = np.unique(counts.indices[counts.data > 0])
    genes = (expressed if measured is None else np.union1d(measured, expressed)).astype(np.int32)
    depth = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1.0)
    relative = sparse.diags_array(1.0 / depth) @ counts[:, genes]
    types = sparse.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))))
    sizes = np.bincount(codes)[:, None]
    share = np.asarray((types @ relative).todense()) / sizes
    largest = share.max(axis=0)
    chosen = np.flatnonzero(largest >= _PROFILE_GENES).astype(np.int32)
    with np.errstate(divide="ignore"):
        logs = np.maximum(np.log(largest), _LOG_OF_ZERO).astype(np.float16)
    return genes, logs, chosen, np.sqrt(share[:, chosen]).astype(np.float16)


def _unit(features: NDArray[np.floating[Any]]) -> Floats:
    x = features.astype(np.float64)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def _space(x: Floats, codes: Codes, power: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean of each type, and the shrunk covariance within types to the power of -``power``."""
    means = np.stack([x[codes == code].mean(axis=0) for code in range(int(codes.max()) + 1)])
    covariance = ledoit_wolf(x - means[codes], assume_centered=True)[0]
    values, vectors = np.linalg.eigh(covariance)
    whitener = vectors / np.maximum(values, 1e-8 * max(values[-1], 1e-12)) ** power
    return means.astype(np.float32), whitener.astype(np.float32)


def _log_distance(x: Floats, means: NDArray[np.float32], whitener: NDArray[np.float32]) -> Floats:
    """Return the log of the squared distance to the nearest mean."""
    x, c = x @ whitener.astype(np.float64), means.astype(np.float64) @ whitener.astype(np.float64)
    squared = (x**2).sum(axis=1)[:, None] - 2 * x @ c.T + (c**2).sum(axis=1)
    return np.asarray(np.log(np.maximum(squared.min(axis=1), 1e-12)))


def _places(genes: NDArray[np.int32], vocabulary: int) -> Codes:
    """Return the index of each gene of the vocabulary in ``genes``; -1 for others."""
    place = np.full(vocabulary, -1)
    place[genes] = np.arange(len(genes))
    return place


def _refuse_indices(indices: NDArray[Any], number: int) -> None:
    if len(indices) and (indices[0] < 0 or indices[-1] >= number or (np.diff(indices) <= 0).any()):
        raise ValueError(f"indices that are not ascending and below {number}")
