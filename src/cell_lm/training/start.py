"""Where the weights start: gene vectors from the co-expression of the training cells."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse

from cell_lm.data.batch import CellBatch
from cell_lm.genes.coexpression import coexpression_vectors
from cell_lm.model import CellLM

MOST_CELLS = 20_000
"""Cells that the co-expression is computed from; more of them change little and cost time."""
SPREAD = 0.02
"""Standard deviation of the vectors, that of the random ones they replace."""


def start_from_coexpression(model: CellLM, cells: CellBatch, *, seed: int) -> int:
    """Replace the random gene vectors of a model by co-expression vectors; return for how many genes.

    Genes that no cell expresses keep their random vectors.

    Parameters
    ----------
    model
        Fresh.
    cells
        Training cells; the held-out ones must not be among them.
    seed
        Of the randomised decomposition.
    """
    shape = (len(cells), len(model.vocabulary))
    expression = sparse.csr_matrix((cells.values.numpy(), cells.genes.numpy(), cells.offsets), shape=shape)
    vectors, known = coexpression_vectors(expression, model.config.gene_width, seed=seed)
    table = model.encoder.embedding.genes.weight
    rows = torch.from_numpy(np.flatnonzero(known))
    with torch.no_grad():
        table[rows.to(table.device)] = torch.from_numpy(SPREAD * vectors[known]).to(table)
    return len(rows)
