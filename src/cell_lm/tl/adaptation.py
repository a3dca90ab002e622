"""Adaptation of a model to unlabelled cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from cell_lm.config import AdaptConfig
from cell_lm.data.opening import Data, open_data
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.model import CellLM
from cell_lm.pretraining import adapt as adaptation
from cell_lm.tasks.features import Device
from cell_lm.terminal import refuse_uncallable
from cell_lm.tl.shared import Shown, shown


def adapt(
    adata: Data | Sequence[Data],
    model: CellLM | str | Path = "small",
    *,
    config: AdaptConfig | None = None,
    device: Device = None,
    progress: Shown = False,
    **how: Unpack[ReadKeywords],
) -> CellLM:
    """Return a model adapted to unlabelled cells; neither the cells nor the given model change.

    The components of its linear path are extended by those of the cells; with ``AdaptConfig(steps=300)`` its refinement
    also learns to predict one half of their counts from the other (:mod:`cell_lm.pretraining.adapt`). Labels are not
    used. Adapt to the cells to annotate, to the reference, or to both.

    Parameters
    ----------
    adata
        The cells, 200 at least: an AnnData, the path of a file, a store, or several of them in a list.
    model
        The model to adapt, or the path of its folder; ``"small"`` is in the package.
    config
        Settings; see :class:`cell_lm.config.AdaptConfig`.
    device
        Device of the training; None: CUDA where there is a device, else the CPU.
    progress
        Show a progress bar; or a function that is called with the number of steps completed since the last call.
    **how
        How the cells are read, as in :func:`cell_lm.tl.embed`.

    Returns
    -------
    CellLM
        The adapted model; ``model.save_pretrained(folder)`` keeps it.

    Raises
    ------
    InputError, CountsError, GeneError
        The cells cannot be read as they are, or there are fewer than 200.
    ConfigError
        A keyword is unknown, or there is no such device.
    ModelError
        The model is missing or damaged, or has no linear path.
    """
    refuse_uncallable(progress, flag=True)
    read, config = read_options(**how), config or AdaptConfig()
    given = model if isinstance(model, CellLM) else CellLM.from_pretrained(model)
    sources = adata if isinstance(adata, list | tuple) else [adata]
    datasets = [open_data(one, given.vocabulary, read).dataset for one in sources]
    with shown(progress, config.steps, "adapting") as done:
        return adaptation.adapt(
            given,
            datasets,
            config,
            device=None if device is None else str(device),
            progress=None if done is None else lambda _, __: done(1),
        )
