"""Pretraining of models of cells, and of gene vectors: two kinds of training for the loop of :mod:`cell_lm.engine`."""

from cell_lm.engine.run import RunResult
from cell_lm.pretraining.run import pretrain

__all__ = ["RunResult", "pretrain"]
