from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from cell_lm.config import EncoderConfig
from cell_lm.data.batch import CellBatch
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.model import CellLM
from cell_lm.training.start import SPREAD, start_from_coexpression


def test_expressed_genes_get_coexpression_vectors_and_the_others_keep_theirs(
    make_batch: Callable[..., CellBatch], make_config: Callable[..., EncoderConfig], vocabulary: Vocabulary
) -> None:
    model, batch = CellLM(make_config(), vocabulary), make_batch(cells=60)
    table = model.encoder.embedding.genes.weight
    before = table.detach().clone()
    changed = start_from_coexpression(model, batch, seed=0)
    expressed = torch.unique(batch.genes)
    assert changed == len(expressed)
    assert torch.equal(torch.nonzero((table != before).any(1)).squeeze(1), expressed)
    assert np.isclose(float(table[expressed].detach().std()), SPREAD, rtol=0.05)
    again = CellLM(make_config(), vocabulary)
    start_from_coexpression(again, batch, seed=0)
    assert torch.equal(again.encoder.embedding.genes.weight, table)
