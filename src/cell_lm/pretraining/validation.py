"""Losses averaged over several batches."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cell_lm.config import ObjectivesConfig
from cell_lm.objectives.divide_and_conquer import Losses


def _mean(values: Sequence[float], counts: Sequence[int]) -> float:
    """Return the mean over what was counted; NaN where nothing was."""
    judged = [(value, count) for value, count in zip(values, counts, strict=True) if count]
    total = sum(count for _, count in judged)
    return sum(value * count for value, count in judged) / total if judged else math.nan


def average(parts: Sequence[Losses], objectives: ObjectivesConfig) -> Losses:
    """Return the losses over all batches: each mean is weighted by what it is a mean of.

    A batch with few cells of known malignancy says little about discrimination, and weighs accordingly. The total is
    put together from the averaged terms; an objective with nothing to judge adds nothing.
    """
    genes = [part.masked_genes for part in parts]
    labelled = [part.labelled_cells for part in parts]
    cells = [part.cells for part in parts]
    masked = _mean([part.masked for part in parts], genes)
    discrimination = _mean([part.discrimination for part in parts], labelled)
    contrastive = _mean([part.contrastive for part in parts], cells)
    terms = [
        (objectives.masked.weight, masked, sum(genes)),
        (objectives.discrimination.weight, discrimination, sum(labelled)),
        (objectives.contrastive.weight, contrastive, sum(cells)),
    ]
    return Losses(
        total=sum(weight * term for weight, term, judged in terms if weight and judged),
        masked=masked,
        discrimination=discrimination,
        contrastive=contrastive,
        masked_accuracy=_mean([part.masked_accuracy for part in parts], genes),
        discrimination_accuracy=_mean([part.discrimination_accuracy for part in parts], labelled),
        masked_genes=sum(genes),
        labelled_cells=sum(labelled),
        cells=sum(cells),
    )
