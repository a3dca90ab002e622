"""Part of an estimator that can fine-tune its encoder before it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_lm.config import FineTuneConfig
from cell_lm.data.view import CellView
from cell_lm.model import CellLM
from cell_lm.tasks.features import CACHE, Device
from cell_lm.tasks.finetuning.parameter import FineTuning, fine_tuning
from cell_lm.tasks.finetuning.tuning import FineTuned, fine_tune
from cell_lm.tasks.given_model import WithOptionalModel


class WithFineTuning(WithOptionalModel):
    """Part of an estimator with a parameter ``fine_tune``; a folder that it is saved to holds the encoder in use.

    Attributes
    ----------
    encoder_ : CellLM or None
        The encoder of ``model``, fine-tuned where that helped; None without a model.
    fine_tuned_ : str
        What fine-tuning did; empty if it was not asked for.
    """

    fine_tune: FineTuning
    seed: int
    device: Device
    cache: bool
    encoder_: CellLM | None
    fine_tuned_: str

    def _fine_tuning(self) -> FineTuneConfig | None:
        """Return the settings that are asked for; :class:`ConfigError` if they cannot be used."""
        return fine_tuning(self.fine_tune, seed=self.seed, where=type(self).__name__)

    def _fine_tuned(
        self, cells: CellView, labels: NDArray[np.object_], groups: NDArray[np.object_] | None, **how: Any
    ) -> FineTuned | None:
        """Fine-tune the encoder on labelled cells; None if it was not asked for."""
        config, model = self._fine_tuning(), self.resolved_model
        if config is None or model is None:
            return None
        cache = CACHE if self.cache else None
        return fine_tune(model, cells, labels, groups, config, device=self.device, cache=cache, **how)

    def _use(self, tuned: FineTuned | None) -> None:
        self.encoder_ = self.resolved_model if tuned is None else tuned.model
        self.fine_tuned_ = "" if tuned is None else str(tuned)

    def _saved_model(self) -> CellLM | None:
        return self.encoder_
