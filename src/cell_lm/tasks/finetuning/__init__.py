"""Supervised fine-tuning of the encoder on labelled cells."""

from cell_lm.config import FineTuneConfig
from cell_lm.tasks.finetuning.tuning import FineTuned, fine_tune

__all__ = ["FineTuneConfig", "FineTuned", "fine_tune"]
