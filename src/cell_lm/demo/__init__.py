"""Pretrain, embed, annotate and report on the packaged cells, with the functions that users call.

Each donor is held out once from the encoder and all classifiers: see :mod:`cell_lm.demo.folds`. All scores are of
held-out donors.
"""

from cell_lm.demo.run import DemoResult, run_demo

__all__ = ["DemoResult", "run_demo"]
