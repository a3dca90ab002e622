"""Fine-tuning as a parameter of an estimator: nothing, the name of a part, or settings as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from cell_lm.config import FineTuneConfig, parse
from cell_lm.errors import ConfigError

FineTuning: TypeAlias = "str | Mapping[str, Any] | None"
"""None: the encoder is frozen; ``"refinement"``, ``"last"``, ``"lora"`` or ``"all"``: what is trained; or any of the
settings of :class:`~cell_lm.config.FineTuneConfig` by name."""


def fine_tuning(value: object, *, seed: int, where: str) -> FineTuneConfig | None:
    """Return the settings that a parameter asks for; None: no fine-tuning.

    Parameters
    ----------
    value
        The parameter, as :data:`FineTuning`: plain values, so that an estimator can be saved with it.
    seed
        Seed of the estimator, unless the settings name their own.
    where
        The estimator, for messages.

    Raises
    ------
    ConfigError
        There is no such part or setting, or its value is out of range.
    """
    if value is None:
        return None
    if not isinstance(value, str | Mapping):
        fix = "Give None, the name of what is trained, or settings by name"
        raise ConfigError(f"fine_tune is a {type(value).__name__}", where=where, fix=fix)
    given = {"part": value} if isinstance(value, str) else dict(value)
    return parse(FineTuneConfig, {"seed": seed, **given}, where=f"{where}, fine_tune")
