"""Supervised fine-tuning of the encoder on labelled cells."""

from cell_lm.config import FineTuneConfig
from cell_lm.tasks.finetuning.parameter import FineTuning, fine_tuning
from cell_lm.tasks.finetuning.tuning import FineTuned, fine_tune

__all__ = ["FineTuneConfig", "FineTuned", "FineTuning", "fine_tune", "fine_tuning"]
