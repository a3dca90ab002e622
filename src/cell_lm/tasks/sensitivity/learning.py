"""From cells to everything that a fit learns: components of genes and encoder, and the calibrated score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.view import CellView
from cell_lm.tasks.sensitivity.components import Components, spreads_of
from cell_lm.tasks.sensitivity.fitting import TRIED, Fit, Trial, fit
from cell_lm.tasks.sensitivity.values import gene_values

ENCODER_COMPONENTS = 10
Embed = Callable[[CellView], NDArray[np.float32]]
EmbedOfTrial = tuple[Embed, NDArray[np.bool_]]
"""The embedding by an encoder that was trained without some of the labelled cells; and which, bool [labelled]."""


class Learned(NamedTuple):
    """What a fit learned.

    Attributes
    ----------
    fit : Fit
        The calibrated score, from the components of the genes and then those of the encoder.
    genes, encoder : Components or None
        The components; None: not used.
    spreads : ndarray
        float64 [genes]: standard deviation of each gene over cells of length 1; empty without genes.
    """

    fit: Fit
    genes: Components | None
    encoder: Components | None
    spreads: NDArray[np.float64]

    def probabilities(
        self, cells: CellView, measured: NDArray[np.int64], embed: Embed, *, z_scored: bool
    ) -> NDArray[np.float64]:
        """Return the probability of being sensitive [cells].

        Parameters
        ----------
        cells
            The cells.
        measured
            Genes that were measured, ascending.
        embed
            Returns the embedding of cells; not called where the encoder is not used.
        z_scored
            Whether they are z-scores.
        """
        points = list[NDArray[np.float64]]()
        if self.genes is not None:
            points.append(self.genes(gene_values(cells, z_scored=z_scored), measured))
        if self.encoder is not None:
            points.append(self.encoder(*_as_values(embed(cells))))
        return self.fit.probabilities(np.concatenate(points, axis=1))


def learn(
    parts: Sequence[CellView],
    labelled: NDArray[np.int64],
    codes: NDArray[np.int64],
    *,
    genes: NDArray[np.int64] | None,
    embed: Embed | None,
    trial: EmbedOfTrial | None,
    groups: NDArray[np.object_] | None,
    prior: float | None,
    components: int | None,
    self_training: bool,
    seed: int,
) -> Learned:
    """Learn from labelled and unlabelled cells.

    Parameters
    ----------
    parts
        The cells, all on one kind of scale.
    labelled, codes, groups, prior, components, self_training, seed
        As for :func:`cell_lm.tasks.sensitivity.fitting.fit`; ``labelled`` counts the cells of all parts.
    genes
        Genes that all parts have; None: genes are not used.
    embed
        Returns the embedding of cells; None: there is no encoder to use.
    trial
        The same by the encoder that was trained without some of the labelled cells, and which; None: that of ``embed``
        has seen no label.
    """
    own, deep, spreads = None, None, np.empty(0)
    points = list[NDArray[np.float64]]()
    if genes is not None:
        values = sparse.csr_matrix(sparse.vstack([gene_values(part, z_scored=part.z_scored) for part in parts]))
        own = Components.of(values, genes, components or max(TRIED), seed)
        points.append(own(values, genes))
        spreads = spreads_of(values[:, genes])
    if embed is not None:
        deep, shown = _embedded(parts, embed, seed)
        points.append(shown)
    found = fit(
        np.concatenate(points, axis=1),
        points[-1].shape[1] if deep is not None and own is not None else 0,
        labelled,
        codes,
        groups=groups,
        prior=prior,
        components=components,
        self_training=self_training,
        trial=None if trial is None else _trial(points[:-1], parts, trial, seed),
        seed=seed,
    )
    if own is not None:  # those that are not used need not be saved
        used = own.directions[: len(found.columns) - (0 if deep is None else len(deep.directions))]
        own, found = replace(own, directions=used), replace(found, columns=np.arange(len(found.columns)))
    return Learned(found, own, deep, spreads)


def _embedded(parts: Sequence[CellView], embed: Embed, seed: int) -> tuple[Components, NDArray[np.float64]]:
    """Return the components of the embedding, and those of all cells [cells, components]."""
    embedding, everything = _as_values(np.concatenate([embed(part) for part in parts]))
    deep = Components.of(embedding, everything, ENCODER_COMPONENTS, seed)
    return deep, deep(embedding, everything)


def _trial(genes: list[NDArray[np.float64]], parts: Sequence[CellView], trial: EmbedOfTrial, seed: int) -> Trial:
    """Return all cells as the encoder shows them that was trained without some of the labels."""
    embed, left_out = trial
    return Trial(np.concatenate([*genes, _embedded(parts, embed, seed)[1]], axis=1), left_out)


def _as_values(embedding: NDArray[np.float32]) -> tuple[sparse.csr_matrix[np.float32], NDArray[np.int64]]:
    """Return an embedding as :class:`Components` takes values: with the columns that were measured, which are all."""
    return sparse.csr_matrix(embedding), np.arange(embedding.shape[1])
