"""From bulk lines to single cells without a label: the signature of a drug.

Every gene weighs minus its correlation with the response over the lines; the score of a cell is the weighted sum of its
z-scores over the genes that both have, the lines and the cells each z-scored among themselves. Ridge regression needs
so strong a penalty that it becomes this, and alignments of the two sets (CORAL, common components) did worse.

The score learns nothing from the cells. The *calls* do, where the signature is trusted: self-training turns the ranking
into two groups, and would amplify a wrong sign like a right one.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from threadpoolctl import threadpool_limits

from cell_lm.data.obs.columns import as_text
from cell_lm.data.opening import Data, open_data
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.data.response import ResponseTable
from cell_lm.data.view import CellView
from cell_lm.errors import GeneError, InputError
from cell_lm.genes import Vocabulary
from cell_lm.remedies import option
from cell_lm.tasks.sensitivity.calls import call_table
from cell_lm.tasks.sensitivity.checks import check_certainty, check_prior
from cell_lm.tasks.sensitivity.components import Components
from cell_lm.tasks.sensitivity.fitting import FEW
from cell_lm.tasks.sensitivity.mixture import Floats, fit_mixture
from cell_lm.tasks.sensitivity.self_training import best_of_starts, self_train
from cell_lm.tasks.sensitivity.trust import TransferWarning, Trust, examine, signature, with_score, z_scores
from cell_lm.tasks.sensitivity.values import gene_values

FEWEST_LINES, FEWEST_GENES, FEWEST_CELLS = 30, 100, 40
EXTREMES = 0.1
"""Fraction of the cells, at either end of the score, that self-training starts from."""
_NOBODY = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Transferred:
    """Cells scored by a signature.

    Attributes
    ----------
    cells : DataFrame
        As :meth:`DrugSensitivityClassifier.table`, but ``score`` is the weighted sum of z-scores, divided by the root
        of the number of genes.
    genes : DataFrame
        The shared genes, the heaviest first: ``gene``, ``bulk`` (minus the correlation with the response over lines)
        and ``cells`` (correlation with the score over cells).
    trust : Trust
        The tests.
    prevalence : float
        Fraction of sensitive cells, stated or estimated.
    """

    cells: pd.DataFrame
    genes: pd.DataFrame
    trust: Trust
    prevalence: float


@dataclass(frozen=True, eq=False)
class BulkSignature:
    """Bulk lines with their response to one drug.

    Attributes
    ----------
    drug : str
        Name of the drug.
    values : ndarray
        float64 [lines, genes]: log1p of expression per 10,000, or z-scores.
    response : ndarray
        float64 [lines]: high for resistant lines.
    genes : ndarray
        int64 [genes]: columns of the vocabulary.
    vocabulary : Vocabulary
        The genes.
    tissues : ndarray or None
        Tissue of each line; ``""`` where it is not known.
    tissue : str or None
        Tissue of the cells.
    """

    drug: str
    values: Floats
    response: Floats
    genes: NDArray[np.int64]
    vocabulary: Vocabulary
    tissues: NDArray[np.object_] | None = None
    tissue: str | None = None

    @property
    def lines(self) -> int:
        """Number of lines."""
        return len(self.response)

    def transfer(
        self, cells: CellView, *, prior: float | None = None, certainty: float = 0.9, refine: bool | None = None
    ) -> Transferred:
        """Score cells.

        Parameters
        ----------
        cells
            Aligned to the human vocabulary, of any scale.
        prior
            Fraction of sensitive cells; None: it is estimated by self-training, and taken as one half without it.
        certainty
            A cell is flagged as uncertain if the probability of its call is lower.
        refine
            Self-training from the tenth of the cells with the highest and that with the lowest score
            (:mod:`cell_lm.tasks.sensitivity.self_training`), which turns a ranking into two groups, right or wrong.
            None: only where the signature is trusted.

        Raises
        ------
        GeneError
            Fewer than 100 genes are shared.
        ConfigError
            ``prior`` or ``certainty`` is out of range.

        Warns
        -----
        TransferWarning
            A test of :mod:`cell_lm.tasks.sensitivity.trust` failed.
        """
        check_prior(prior, "transfer")
        check_certainty(certainty, "transfer")
        shared, in_lines, _ = np.intersect1d(self.genes, cells.genes, return_indices=True)
        if len(shared) < FEWEST_GENES:
            found = f"it shares {len(shared):,} genes with the {len(self.genes):,} of the lines"
            raise GeneError(found, where=cells.name, fix=f"At least {FEWEST_GENES} are needed: give all measured genes")
        z = z_scores(np.asarray(gene_values(cells, z_scored=cells.z_scored)[:, shared].toarray(), np.float64))
        lines = self.values[:, in_lines]
        weights = signature(z_scores(lines), self.response)
        score = z @ weights / np.sqrt(len(shared))
        trust = examine(lines, self.response, self.tissues, self.tissue, z)
        if not trust.trusted:
            told = "; ".join(trust.reasons)
            text = f"{cells.name}: the signature of {self.drug} cannot be trusted for these cells: {told}"
            warnings.warn(text, TransferWarning, stacklevel=2)
        logits, prevalence = self._calls(cells, score, prior, trust.trusted if refine is None else refine)
        genes = pd.DataFrame(
            {
                "gene": np.asarray(self.vocabulary.symbols, object)[shared],
                "bulk": weights,
                "cells": with_score(z, score),
            }
        )
        order = np.argsort(-np.abs(weights), kind="stable")
        p = np.asarray(expit(logits))
        call = pd.Categorical(np.where(p >= 0.5, "sensitive", "resistant"), categories=["resistant", "sensitive"])
        table = call_table(score, p, call, certainty=certainty, index=cells.index)
        return Transferred(table, genes.iloc[order].reset_index(drop=True), trust, prevalence)

    def _calls(self, cells: CellView, score: Floats, prior: float | None, refine: bool) -> tuple[Floats, float]:
        """Return the logit of being sensitive for each cell, and the prevalence."""
        order = np.argsort(score, kind="stable")
        number = max(2, round(EXTREMES * len(score)))
        final = score
        if refine and len(score) >= FEWEST_CELLS:
            values, genes = gene_values(cells, z_scored=cells.z_scored), cells.genes
            with threadpool_limits(1, user_api="blas"):
                points = Components.of(values, genes, FEW, 0)(values, genes)
                labelled = np.concatenate([order[:number], order[-number:]])
                codes = np.repeat([0, 1], number).astype(np.int64)
                line = best_of_starts(points, labelled, codes) if prior is None else None
                final = (line or self_train(points, labelled, codes, prior=prior))(points)
        elif prior is None:
            prior = 0.5  # one score without any label shows no threshold
        mixture = fit_mixture(final, _NOBODY, _NOBODY, prior)
        return mixture.slope * final + mixture.intercept, mixture.prevalence


def bulk_signature(
    lines: Data,
    response: ResponseTable,
    drug: str,
    *,
    tissue: str | None = None,
    tissue_column: str = "tissue",
    exclude: Sequence[str] = (),
    **how: Unpack[ReadKeywords],
) -> BulkSignature:
    """Return the signature of a drug in bulk lines.

    Parameters
    ----------
    lines
        Bulk expression, named as in the table of responses; ``scale="log2"`` for RMA or log2(TPM + 1).
    response
        Responses, from :func:`cell_lm.data.response.read_response`.
    drug
        Name of the drug in it.
    tissue
        Tissue of the cells, as ``tissue_column`` of the lines (or the table) calls it.
    tissue_column
        Column of ``obs`` of the lines with their tissue; if there is none, that of the table is used.
    exclude
        Lines to leave out, such as those that the cells are of.
    **how
        How the lines are read; see :meth:`Estimator.fit`.

    Raises
    ------
    InputError
        The table has no such drug (close names are suggested), fewer than 30 lines have a response, all respond alike,
        or no line is of the tissue; or the lines cannot be read.
    """
    by_line = response.of_drug(drug)
    cells = open_data(lines, None, read_options(**how))
    names = pd.Index([as_text(name) for name in cells.index])
    chosen = np.flatnonzero(names.isin(by_line.index) & ~names.isin(list(exclude)) & ~names.duplicated())
    if len(chosen) < FEWEST_LINES:
        found = f"{len(chosen):,} of its {len(names):,} lines have a response to {drug} in {response.name}"
        fix = f"At least {FEWEST_LINES} are needed: name the lines as the table does"
        raise InputError(found, where=cells.name, fix=fix)
    values = np.asarray(by_line.loc[names[chosen]].to_numpy(), np.float64)
    if not values.std() > 0:
        raise InputError(f"all {len(values):,} lines respond to {drug} alike", where=response.name)
    tissues = _tissues(cells, names, chosen, tissue_column, response)
    _check_tissue(tissue, tissues, cells.name)
    kept, genes = cells[chosen], cells.genes
    expression = gene_values(kept, z_scored=kept.z_scored)[:, genes].toarray()
    return BulkSignature(drug, np.asarray(expression, np.float64), values, genes, cells.vocabulary, tissues, tissue)


def _tissues(
    cells: CellView, names: pd.Index, chosen: NDArray[np.int64], column: str, response: ResponseTable
) -> NDArray[np.object_] | None:
    """Return the tissue of each chosen line, ``""`` where it is not known; None where there are none."""
    obs = cells.obs([column])
    if column in obs:
        tissues = obs[column].astype(object).where(obs[column].notna(), "").astype(str).to_numpy(object)[chosen]
    else:
        known = response.tissues()
        tissues = np.array([known.get(str(name), "") for name in names[chosen]], object)
    return tissues if len(set(tissues) - {""}) > 1 else None


def _check_tissue(tissue: str | None, tissues: NDArray[np.object_] | None, name: str) -> None:
    if tissue is None:
        return
    if tissues is None:
        found = "a tissue was stated, but those of the lines are not known"
        raise InputError(found, where=name, fix=f"Name the column of obs that holds them: {option('tissue_column')}")
    if tissue not in tissues:
        there = ", ".join(sorted(set(tissues) - {""}))
        raise InputError(f"no line is of the tissue '{tissue}'", where=name, fix=f"There are {there}")
