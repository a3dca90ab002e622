"""Tumour or normal by the discrimination head that a model was pretrained with."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cell_lm.config import Precision
from cell_lm.data.view import CellView
from cell_lm.errors import ModelError
from cell_lm.model import CellLM
from cell_lm.model_folder import Discriminated
from cell_lm.tasks.estimator import Progress
from cell_lm.tasks.features import CACHE, Device, embed_cells
from cell_lm.tasks.malignancy.calls import call_table, check_fraction


def trained_head(model: CellLM, where: str) -> Discriminated:
    """Return the cells that the discrimination head of a model was trained on.

    Raises
    ------
    ModelError
        It was never trained on both tumour and normal cells, or that was not recorded.
    """
    if model.discriminated is None:
        found = "its discrimination head was not trained on tumour and normal cells"
        fix = "Fit a classifier on your labels (cell-lm malignancy fit), or pretrain with --malignancy-column"
        raise ModelError(found, where=where, fix=fix)
    return model.discriminated


def pretrained_table(
    model: CellLM,
    cells: CellView,
    *,
    certainty: float = 0.9,
    device: Device = None,
    precision: Precision = "float32",
    progress: Progress = None,
) -> pd.DataFrame:
    """Call cells tumour or normal by the discrimination head.

    Its probabilities are not calibrated, and no cells of its training are kept to compare with.

    Parameters
    ----------
    model
        A model whose head was trained (:attr:`CellLM.discriminated`).
    cells
        The cells, aligned to its vocabulary.
    certainty
        Least probability of a call that is not uncertain.
    device, precision, progress
        As for :func:`~cell_lm.tasks.features.embed_cells`.

    Returns
    -------
    DataFrame
        With the index of ``obs``: ``probability`` (float64, of being a tumour cell), ``call``, ``uncertain``.

    Raises
    ------
    ModelError
        The head was not trained.
    """
    trained_head(model, "the model")
    check_fraction("certainty", certainty, 0.5, "malignancy")
    embedding = embed_cells(model, cells, device=device, precision=precision, cache=CACHE, progress=progress)
    return call_table(_probabilities(model, embedding), None, None, certainty=certainty, index=cells.index)


@torch.inference_mode()
def _probabilities(model: CellLM, embedding: NDArray[np.float32]) -> NDArray[np.float64]:
    logits = model.malignancy_head(torch.from_numpy(embedding).to(model.device))
    return np.asarray(torch.sigmoid(logits.double()).cpu().numpy())
