"""When the signature of a drug in bulk lines can be believed for single cells: tests that need no label of a cell.

1. *Unseen lines.* The signature is learned without a fifth of the lines, and scores them: its correlation with their
   response, over all left-out lines.
2. *Within tissues.* The same, after score and response are centred in each tissue: a signature may do no more than tell
   blood from carcinoma, and then says nothing about cells of one tumour.
3. *In the tissue of the cells*, where it is stated: the sign among the lines of that tissue.
4. *Co-variation.* Genes that rise with the score in bulk should rise with it among the cells. Their agreement is
   compared with that after the genes of the cells are shuffled.

The two limits were set where, on GDSC's lines alone, a signature learned without a tissue begins to fail more often in
it: ``benchmarks.drug_sensitivity`` prints the table. The tests lower the risk of a wrong sign; they do not
exclude it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

LEAST_UNSEEN, LEAST_WITHIN = 0.25, 0.10
FEWEST_OF_TISSUE = 10
"""Lines of a tissue from which its sign is looked at."""
FOLDS, REPEATS, SHUFFLES = 5, 5, 50
_CHANCE = 0.95


class TransferWarning(UserWarning):
    """The signature of the bulk lines cannot be trusted for these cells."""


@dataclass(frozen=True)
class Trust:
    """Result of the tests; correlations are of the score with sensitivity (minus ln IC50).

    Attributes
    ----------
    unseen, within : float
        Correlation over left-out lines, plain and within tissues (NaN where tissues are not known).
    tissue : float
        Correlation over left-out lines of the tissue of the cells; NaN where it is not stated.
    tissue_lines : int
        Number of those lines.
    agreement, agreement_by_chance : float
        Correlation over genes of their correlation with the score in bulk and among the cells; and the 95th percentile
        with shuffled genes.
    reasons : tuple of str
        The tests that failed, in words; empty if the signature is trusted.
    """

    unseen: float
    within: float
    tissue: float
    tissue_lines: int
    agreement: float
    agreement_by_chance: float
    reasons: tuple[str, ...] = ()

    @property
    def trusted(self) -> bool:
        """Whether no test failed."""
        return not self.reasons

    def figures(self) -> dict[str, float]:
        """Return the figures of the tests by name."""
        return {name: float(value) for name, value in asdict(self).items() if name != "reasons"}


def signature(z: Floats, response: Floats) -> Floats:
    """Return minus the correlation of each gene with the response [genes]; ``z`` are z-scores [lines, genes]."""
    spread = float(response.std())
    return np.asarray(-z.T @ (response - response.mean()) / (len(response) * spread if spread > 0 else 1.0))


def z_scores(values: Floats, like: Floats | None = None) -> Floats:
    """Return values z-scored by gene, by mean and deviation of ``like`` (default: their own); 0 for a constant gene."""
    reference = values if like is None else like
    spread = reference.std(axis=0)
    return np.asarray((values - reference.mean(axis=0)) / np.where(spread > 1e-6, spread, np.inf))


def examine(
    lines: Floats,
    response: Floats,
    tissues: NDArray[np.object_] | None,
    tissue: str | None,
    cells: Floats,
    *,
    seed: int = 0,
) -> Trust:
    """Run the tests.

    Parameters
    ----------
    lines
        Values of the shared genes [lines, genes].
    response
        ln IC50 or AUC of each line: high for resistant lines.
    tissues
        Tissue of each line; None: not known.
    tissue
        Tissue of the cells; None: not known.
    cells
        z-scores of the same genes [cells, genes].
    seed
        Seed of folds and shuffles.
    """
    rng = np.random.default_rng(seed)
    score = _left_out(lines, response, rng)
    unseen, within, of_tissue, number = _correlation(score, -response), float("nan"), float("nan"), 0
    if tissues is not None:
        within = _correlation(_centred(score, tissues), _centred(-response, tissues))
    if tissues is not None and tissue is not None:
        own = tissues == tissue
        number = int(own.sum())
        of_tissue = _correlation(score[own], -response[own])
    z = z_scores(lines)
    agreement, chance = _agreement(z, signature(z, response), cells, rng)
    found = Trust(unseen, within, of_tissue, number, agreement, chance)
    return Trust(unseen, within, of_tissue, number, agreement, chance, tuple(_reasons(found, tissue)))


def _reasons(found: Trust, tissue: str | None) -> list[str]:
    reasons = []
    if not found.unseen >= LEAST_UNSEEN:
        reasons.append(f"it hardly predicts lines it has not seen (r {found.unseen:.2f}, at least {LEAST_UNSEEN})")
    if found.within < LEAST_WITHIN:
        reasons.append(f"within tissues it hardly predicts anything (r {found.within:.2f}, at least {LEAST_WITHIN})")
    if found.tissue_lines >= FEWEST_OF_TISSUE and found.tissue < 0:
        reasons.append(
            f"among the {found.tissue_lines} lines of {tissue} it points the wrong way round (r {found.tissue:.2f})"
        )
    if not found.agreement > found.agreement_by_chance:
        reasons.append(
            f"its genes do not vary together among the cells as among the lines (r {found.agreement:.2f}, "
            f"{found.agreement_by_chance:.2f} by chance)"
        )
    return reasons


def _left_out(lines: Floats, response: Floats, rng: np.random.Generator) -> Floats:
    """Return the score of each line by the signature of the lines of other folds, the mean of five divisions."""
    score = np.zeros(len(lines))
    for _ in range(REPEATS):
        fold = rng.permutation(len(lines)) % FOLDS
        for number in range(FOLDS):
            out = fold == number
            weights = signature(z_scores(lines[~out]), response[~out])
            score[out] += z_scores(lines[out], lines[~out]) @ weights / REPEATS
    return score


def _centred(values: Floats, groups: NDArray[np.object_]) -> Floats:
    _, codes = np.unique(groups.astype(str), return_inverse=True)
    means = np.bincount(codes, values) / np.bincount(codes)
    return np.asarray(values - means[codes])


def _agreement(z: Floats, weights: Floats, cells: Floats, rng: np.random.Generator) -> tuple[float, float]:
    in_bulk = with_score(z, z @ weights)

    def agree(values: Floats) -> float:
        return _correlation(in_bulk, with_score(values, values @ weights))

    shuffled = [agree(cells[:, rng.permutation(cells.shape[1])]) for _ in range(SHUFFLES)]
    return agree(cells), float(np.quantile(shuffled, _CHANCE))


def with_score(z: Floats, score: Floats) -> Floats:
    """Return the correlation of each gene with the score; 0 for constant genes."""
    return -signature(z, score) if score.std() > 0 else np.zeros(z.shape[1])


def _correlation(a: Floats, b: Floats) -> float:
    if len(a) < 3 or not (a.std() > 0 and b.std() > 0):
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
