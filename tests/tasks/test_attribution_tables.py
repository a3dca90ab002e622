from __future__ import annotations

import numpy as np
from scipy import sparse

from cell_lm.tasks.attribution import gene_table


def test_a_gene_that_is_expressed_and_was_not_read_counts_as_0():
    """Both cells express gene A; of the second the encoder has read B alone, of neither C."""
    X = sparse.csr_matrix(np.array([[2.0, 1, 1], [1, 2, 0]], np.float32))
    values = sparse.csr_matrix(np.array([[0.5, 0.25, 0], [0, 0.75, 0]], np.float32))
    table = gene_table(values, X, np.array(["t", "t"], object), ["A", "B", "C"]).set_index("gene")
    assert table["attribution"].to_dict() == {"A": 0.25, "B": 0.5, "C": 0.0}
    assert table["expressed"].to_dict() == {"A": 1.0, "B": 1.0, "C": 0.5}
