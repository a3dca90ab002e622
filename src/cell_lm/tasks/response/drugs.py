"""Drugs that were never measured, from their structure.

The mean of a new drug is predicted apart from its profile over lines, because drugs differ in potency far more than
lines differ in their response. *Mean*: a kernel ridge and a forest on fingerprints and descriptors, half each, and on
request a graph network as a correction that begins at zero (:mod:`~cell_lm.tasks.response.graphs`); the kernel is half
Tanimoto's of the fingerprints, half a Gaussian of the descriptors. *Profile*: each of a Tanimoto kernel ridge and a
forest expresses the new drug as weights over the measured drugs; the profile is that
combination of their profiles, half each. To it comes the line's own mean over all drugs of the screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.spatial.distance import cdist
from sklearn.ensemble import ExtraTreesRegressor

from cell_lm.data.response.molecules import Graph, descriptors, fingerprints, graph, tanimoto
from cell_lm.tasks.response.graphs import GraphCorrection, fit_graph_correction

Floats = NDArray[np.float64]

STRENGTHS = np.geomspace(0.02, 20.0, 13)
TREES, MEAN_LEAF, LEAF, PROFILE_RANK = 300, 2, 3, 20
CLIP = 3.0
"""Standard deviations at which descriptors are cut in the Gaussian kernel."""
LEAST_DRUGS = 10
"""Fewest drugs with a structure from which others are predicted."""


@dataclass(frozen=True, eq=False)
class Structures:
    """What is known of molecules.

    Attributes
    ----------
    fingerprints : ndarray
        Counts, uint8 [drugs, bits].
    descriptors : ndarray
        float64 [drugs, descriptors].
    graphs : tuple of Graph
        Atoms and bonds; empty: not known.
    """

    fingerprints: NDArray[np.uint8]
    descriptors: Floats
    graphs: tuple[Graph, ...] = ()

    @classmethod
    def of(cls, molecules: Sequence[Any]) -> Structures:
        """Return the structures of RDKit's molecules."""
        return cls(fingerprints(molecules), descriptors(molecules), tuple(graph(each) for each in molecules))

    def __len__(self) -> int:
        return len(self.fingerprints)

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Structures:
        numbers = np.arange(len(self))[rows]
        graphs = tuple(self.graphs[number] for number in numbers) if self.graphs else ()
        return Structures(self.fingerprints[rows], self.descriptors[rows], graphs)

    def table(self) -> Floats:
        """Return fingerprints and descriptors side by side, for trees."""
        return np.hstack([self.fingerprints.astype(np.float64), self.descriptors])


class DescriptorKernel:
    """A Gaussian of the distance between descriptors, standardised over the measured drugs.

    Its width is the median distance between measured drugs. Descriptors that are the same in all of them are left out.
    """

    def __init__(self, descriptors: Floats) -> None:
        spread = descriptors.std(axis=0)
        self.used = np.flatnonzero(spread > 0)
        self.centre, self.spread = descriptors.mean(axis=0)[self.used], spread[self.used]
        self.points = self._standardised(descriptors)
        apart = cdist(self.points, self.points, "sqeuclidean")
        self.width = float(np.median(apart[~np.eye(len(apart), dtype=bool)])) or 1.0

    def __call__(self, descriptors: Floats) -> Floats:
        """Return similarities, float64 [given, measured]."""
        return np.asarray(np.exp(-cdist(self._standardised(descriptors), self.points, "sqeuclidean") / self.width))

    def _standardised(self, descriptors: Floats) -> Floats:
        return np.asarray(np.clip((descriptors[:, self.used] - self.centre) / self.spread, -CLIP, CLIP))


class DrugModel:
    """Predicts mean, spread and profile of new drugs.

    Parameters
    ----------
    structures
        Of the measured drugs.
    means, spreads
        Mean and standard deviation of the responses to each, float64 [drugs].
    profiles
        Standardised responses without gaps and without the mean of each line, float64 [drugs, lines].
    trees, seed
        Trees in each forest, and their seed.

    Notes
    -----
    Forests are grown when the model is made, from arrays that are saved: the same seed gives the same forest.
    """

    def __init__(
        self,
        structures: Structures,
        means: Floats,
        spreads: Floats,
        profiles: Floats,
        *,
        trees: int = TREES,
        seed: int = 0,
    ) -> None:
        self.structures, self.means, self.spreads, self.profiles = structures, means, spreads, profiles
        self.seed = seed
        self.correction: GraphCorrection | None = None
        self._descriptors = DescriptorKernel(structures.descriptors)
        kernel = tanimoto(structures.fingerprints, structures.fingerprints)
        both = (kernel + self._descriptors(structures.descriptors)) / 2
        self._mean_inverse = _inverse(both, (means - means.mean())[:, None])
        self._profile_inverse = _inverse(kernel, profiles)
        table, left_out = structures.table(), max(2, min(LEAF, len(means) // 4))
        forest = ExtraTreesRegressor(trees, min_samples_leaf=MEAN_LEAF, max_features=0.3, random_state=seed)
        self._mean_forest = forest.fit(table, means)
        centred = profiles - profiles.mean(axis=0)
        left, singular, _ = np.linalg.svd(centred, full_matrices=False)
        rank = min(PROFILE_RANK, len(singular))
        shapes = ExtraTreesRegressor(trees, min_samples_leaf=left_out, max_features=0.3, random_state=seed + 1)
        self._profile_forest = shapes.fit(table, left[:, :rank] * singular[:rank])
        self._leaves = self._profile_forest.apply(table)

    def mean(self, new: Structures) -> Floats:
        """Return the predicted mean response to each new drug, float64 [new]."""
        kernel = (tanimoto(new.fingerprints, self.structures.fingerprints) + self._descriptors(new.descriptors)) / 2
        ridge = self.means.mean() + kernel @ self._mean_inverse @ (self.means - self.means.mean())
        found = 0.5 * ridge + 0.5 * self._mean_forest.predict(new.table())
        if self.correction is not None and new.graphs:
            found = found + self.correction.predict(new.graphs)
        return np.asarray(found)

    def graph_correction(self) -> GraphCorrection:
        """Train the graph encoder on what the ridge misses of each drug's mean when the drug is left out.

        The result is to be set as :attr:`correction`.
        """
        centred = self.means - self.means.mean()
        left_out = self._mean_inverse @ centred / np.diag(self._mean_inverse)
        return fit_graph_correction(self.structures.graphs, left_out, seed=self.seed)

    def spread(self, new: Structures) -> Floats:
        """Return the predicted standard deviation over lines, float64 [new]: a mean weighted by similarity."""
        similarity = tanimoto(new.fingerprints, self.structures.fingerprints) ** 3 + 1e-3
        return np.asarray(similarity @ self.spreads / similarity.sum(axis=1))

    def weights(self, new: Structures) -> Floats:
        """Return the weights over measured drugs whose profiles make up that of each new drug, float64 [new, drugs]."""
        ridge = tanimoto(new.fingerprints, self.structures.fingerprints) @ self._profile_inverse
        leaves = self._profile_forest.apply(new.table())
        forest = np.zeros_like(ridge)
        for tree in range(leaves.shape[1]):
            together = leaves[:, tree][:, None] == self._leaves[:, tree][None]
            forest += together / together.sum(axis=1, keepdims=True)
        return np.asarray(0.5 * ridge + 0.5 * forest / leaves.shape[1])


def _inverse(kernel: Floats, targets: Floats) -> Floats:
    """Return (K + a I)^-1, with the strength a of the least leave-one-out error of the targets."""
    values, vectors = linalg.eigh(kernel)
    values, rotated = np.maximum(values, 0.0), vectors.T @ targets
    least, best = np.inf, STRENGTHS[-1]
    for strength in STRENGTHS:
        shrunk = values / (values + strength)
        free = np.maximum(1.0 - (vectors**2) @ shrunk, 1e-6)
        error = float((((targets - vectors @ (shrunk[:, None] * rotated)) / free[:, None]) ** 2).mean())
        if error < least:
            least, best = error, strength
    return np.asarray((vectors / (values + best)) @ vectors.T)
