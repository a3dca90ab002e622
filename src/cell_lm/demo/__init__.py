"""The main job, once, on the packaged cells: pretrain, embed, annotate, report, as a user would.

Every donor is left out once, by the encoder and by all classifiers: :mod:`cell_lm.demo.folds`. All scores are those of
donors that were left out.
"""

from cell_lm.demo.folds import MARK
from cell_lm.demo.run import LEFT, DemoResult, run_demo

__all__ = ["LEFT", "MARK", "DemoResult", "run_demo"]
