"""Start a run from the weights of a model: a run folder, a model folder, or a :class:`~cell_lm.model.CellLM`.

The encoder and the vocabulary are the model's, gene vectors included; the optimiser is fresh and the objectives are the
run's. If the run's projection head differs in shape from the model's, it starts at random.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from cell_lm.config import EncoderConfig, PretrainConfig, TrainingConfig
from cell_lm.data.protocol import Dataset
from cell_lm.errors import ConfigError, GeneError, InputError, ModelError
from cell_lm.files import JSON
from cell_lm.model import CellLM
from cell_lm.model_folder import packaged_models

_HEAD = "projection_head."


@dataclass(frozen=True)
class InitialModel:
    """The model that a run starts from.

    Attributes
    ----------
    model : CellLM
        The model, on the CPU or on the caller's device.
    path : str | None
        Path it was read from; None if the caller passed the model itself.
    """

    model: CellLM
    path: str | None

    @classmethod
    def read(cls, initial: str | Path | CellLM) -> InitialModel:
        """Read a model, unless ``initial`` is one.

        Raises
        ------
        ModelError
            There is none, or it is damaged.
        """
        if isinstance(initial, CellLM):
            return cls(initial, None)
        return cls(CellLM.from_pretrained(initial), absolute(initial))

    @property
    def hash(self) -> str:
        """SHA-256 of the weights as ``model.safetensors`` of a model folder holds them."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        return hashlib.sha256(safetensors.torch.save(tensors)).hexdigest()

    def describe(self) -> dict[str, JSON]:
        """Return path and SHA-256, for ``data.json``."""
        return {"name": self.path or "a model in memory", "path": self.path, "hash": self.hash}


def absolute(path: str | Path) -> str:
    """Return the absolute path of a local folder; a name in the package or on the Hugging Face hub as it is."""
    if str(path) in packaged_models() and not Path(path).exists():
        return str(path)
    return os.path.realpath(path) if Path(path).exists() or str(path).count("/") != 1 else str(path)


def recorded_initial(data: dict[str, JSON], initial: str | Path | CellLM | None) -> JSON:
    """Return the entry in ``data.json`` for the initial model of a run, after comparing it with the given one.

    The weights are in the run's checkpoints: the model may be missing, if its path is the recorded one.

    Raises
    ------
    InputError
        Another model is given.
    ModelError
        It cannot be read, and its path is not the recorded one.
    """
    recorded = data.get("initial")
    if initial is None:
        return recorded
    gone = None if isinstance(initial, CellLM) or Path(initial).exists() else Path(initial)
    if gone and isinstance(recorded, dict) and recorded.get("path") in (str(gone), os.path.realpath(gone)):
        return recorded
    return {**InitialModel.read(initial).describe()}


def load_recorded(described: JSON) -> InitialModel:
    """Return the initial model of a run that has no checkpoint with its weights yet.

    Raises
    ------
    ModelError
        It is no longer there.
    InputError
        Its weights have changed.
    """
    values = described if isinstance(described, dict) else {}
    path, fix = values.get("path"), "Begin a new run with --from and another --out"
    if not isinstance(path, str):
        raise ModelError("the run has no checkpoint, and was begun from a model in memory", fix=fix)
    initial = InitialModel.read(path)
    if initial.hash != values.get("hash"):
        raise InputError("its weights are not those that the run was begun from", where=path, fix=fix)
    return initial


def refuse_initial(initial: InitialModel, config: PretrainConfig, datasets: Sequence[Dataset]) -> None:
    """Raise if a run of these settings and cells cannot start from the model.

    Raises
    ------
    ConfigError
        A setting of the encoder is not the model's, or other initial gene vectors are set.
    GeneError
        The cells are aligned to another vocabulary.
    """
    where = initial.path or "the model to begin from"
    different = encoder_conflict(config.encoder, initial.model.config)
    if different is not None:
        raise ConfigError(
            f"encoder.{different}", where=where, fix="Give the run the encoder of the model (model.config)"
        )
    if config.training.gene_vectors != TrainingConfig().gene_vectors:
        found = f"training.gene_vectors is '{config.training.gene_vectors}', and the model has gene vectors"
        raise ConfigError(found, where=where, fix="Leave it out")
    vocabulary = initial.model.vocabulary
    for cells in datasets:
        if cells.vocabulary.hash != vocabulary.hash:
            found = f"it is aligned to {len(cells.vocabulary):,} genes, and the model has {len(vocabulary):,} others"
            fix = "Read it, or prepare the store, with vocabulary=model.vocabulary"
            raise GeneError(found, where=cells.name, fix=fix)


def encoder_conflict(encoder: EncoderConfig, models: EncoderConfig) -> str | None:
    """Return the first setting in which two encoders differ, as ``width is 64, and the model's is 32``."""
    ours, theirs = encoder.model_dump(), models.model_dump()
    return next(
        (f"{key} is {ours[key]}, and the model's is {theirs[key]}" for key in ours if ours[key] != theirs[key]), None
    )


def copy_weights(model: CellLM, initial: InitialModel) -> str:
    """Copy the weights of the initial model into a fresh one of the same encoder; return what was done, for the log.

    The random features of ``performer`` are not weights: they follow the run's seed.
    """
    given, own = dict(initial.model.named_parameters()), dict(model.named_parameters())
    shapes = [{name: x.shape for name, x in part.items() if name.startswith(_HEAD)} for part in (given, own)]
    kept = [name for name in own if shapes[0] == shapes[1] or not name.startswith(_HEAD)]
    if initial.model.reference is not None:
        model.set_reference(initial.model.reference)  # and the residual head of a fresh model: first of all
    with torch.no_grad():
        for name in kept:
            own[name].copy_(given[name])
    before, now = (part.objectives.contrastive.projection for part in (initial.model, model))
    fate = "starts at random" if now else "is left out"
    head = "" if shapes[0] == shapes[1] else f"; its projection head {fate} (width {now}, was {before})"
    return f"continued from {initial.path or 'a model in memory'}: all weights, gene vectors too{head}"
