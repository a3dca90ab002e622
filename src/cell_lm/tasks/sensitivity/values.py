"""What the sensitivity classifier computes with: one number per cell and gene, from counts or from z-scores.

*Counts* (and all scales they come back from): log1p of counts per 10,000. *z-scores*: as they are, within ±10, so that
one gene does not dominate a cell.

The encoder reads expression, which cannot be recovered from z-scores. It gets a stand-in: the genes of a cell that are
above their mean are its tokens, with ``expm1`` of the z-score (at most 5) as expression. The order of these genes
within the cell is kept, but a token no longer means "expressed", which the encoder was pretrained on.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from cell_lm.data.cells import CellData
from cell_lm.data.loading.expression import HasCounts, log_expression
from cell_lm.data.store import Store
from cell_lm.data.view import CellView

CLIPPED, TOKENS_CLIPPED = 10.0, 5.0


def gene_values(cells: HasCounts, *, z_scored: bool) -> sparse.csr_matrix[np.float32]:
    """Return log1p of counts per 10,000, or z-scores within ±10, float32 [cells, vocabulary]."""
    if not z_scored:
        return log_expression(cells)
    X = cells.X
    return sparse.csr_matrix((np.clip(X.data, -CLIPPED, CLIPPED), X.indices, X.indptr), shape=X.shape)


def for_encoder(cells: CellView) -> CellView:
    """Return cells that the encoder can read; z-scores are read into memory and replaced by a stand-in."""
    if not cells.z_scored:
        return cells
    dataset, X = cells.dataset, cells.X
    shown = sparse.csr_matrix(
        (np.expm1(np.clip(X.data, 0.0, TOKENS_CLIPPED)).astype(np.float32), X.indices.copy(), X.indptr.copy()),
        shape=X.shape,
    )
    shown.eliminate_zeros()
    assert not isinstance(dataset, Store)  # a store holds no z-scores
    unknown = np.full(len(cells), -1, np.int8)
    data = CellData(cells.name, shown, "linear", cells.obs(), dataset.audit, cells.vocabulary, unknown)
    return CellView.of(data)
