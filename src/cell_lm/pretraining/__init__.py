"""Pretraining: one visible loop, checkpoints that are whole or not there, logs."""

from cell_lm.pretraining.run import RunResult, pretrain

__all__ = ["RunResult", "pretrain"]
