"""Checkpoints: written atomically, verified when read, safetensors and JSON only.

``checkpoints/step-00000200/`` holds ``model.safetensors``, ``optimizer.safetensors`` (AdamW's moments by name of the
parameter), ``state.json`` and ``manifest.json`` (SHA-256 and size of the three others, and a checksum of itself).
Nothing else is needed to resume: order of the cells, masks, dropout and learning rate are functions of the step.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cell_lm.engine.disk import remove_partial, writing
from cell_lm.errors import ModelError
from cell_lm.files import JSON, atomic_directory, checksum_holds, sha256, with_checksum, write_json
from cell_lm.reading import MOST_LISTED, read_json_object, reason, refuse_other_format

MODEL, OPTIMISER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
FILES = (MODEL, OPTIMISER, STATE)
FORMAT = 1
"""Version of the checkpoint's layout."""
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds: tensors by name, and the state of the run."""

    model: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]
    state: dict[str, JSON]


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    safetensors.torch.save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def _manifest(folder: Path) -> dict[str, JSON]:
    return {name: {"sha256": sha256(folder / name), "size": (folder / name).stat().st_size} for name in FILES}


def _read_json(path: Path) -> dict[str, JSON]:
    try:
        return read_json_object(path, most=MOST_LISTED)
    except FileNotFoundError:
        raise ModelError("is missing", where=str(path)) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"is damaged ({reason(error)})", where=str(path)) from None


def verify(folder: Path) -> None:
    """Check every file of a checkpoint against its manifest.

    Raises
    ------
    ModelError
        Names the first file that is missing or damaged.
    """
    manifest = _read_json(folder / MANIFEST)
    files = manifest.get("files")
    where, again = str(folder / MANIFEST), "Restore the checkpoint from a copy, or go on from an earlier one"
    refuse_other_format(manifest.get("format"), FORMAT, where=where, error=ModelError, damaged=again)
    if not checksum_holds(manifest) or not isinstance(files, dict) or set(files) != set(FILES):
        raise ModelError("is damaged (its values are not those that its checksum names)", where=where)
    for name in FILES:
        path = folder / name
        if not path.is_file():
            raise ModelError("is missing", where=str(path))
        try:
            size, found = path.stat().st_size, sha256(path)
        except OSError as error:
            raise ModelError(f"cannot be read ({reason(error)})", where=str(path)) from None
        if files[name] != {"sha256": found, "size": size}:
            raise ModelError(f"is damaged ({size:,} bytes, not those that {MANIFEST} names)", where=str(path))


def refuse_misfit(folder: Path, shapes: Shapes) -> None:
    """Refuse a checkpoint of another model; only the headers of its files are read.

    Parameters
    ----------
    folder
        The checkpoint.
    shapes
        Shape of every tensor of the model, by name.

    Raises
    ------
    ModelError
        Names the first file with a tensor that the model lacks, of another shape or missing.
    """
    held = _read_shapes(folder / MODEL)
    moments = {name: shape for name, shape in _read_shapes(folder / OPTIMISER).items() if shape}
    strange = [name for name in held.keys() | shapes.keys() if held.get(name) != shapes.get(name)]
    if strange:
        raise _misfit(folder / MODEL, min(strange), held, shapes)
    wanted = {name: shapes[name.rpartition("/")[0]] for name in moments if name.rpartition("/")[0] in shapes}
    strange = [name for name, shape in moments.items() if wanted.get(name) != shape]
    if strange:
        raise _misfit(folder / OPTIMISER, min(strange), moments, wanted)


def _misfit(path: Path, name: str, held: Shapes, shapes: Shapes) -> ModelError:
    found, wanted = (str(list(one[name])) if name in one else "missing" for one in (held, shapes))
    told = f"does not fit the model of the run ('{name}' is {found}, in the model {wanted})"
    return ModelError(told, where=str(path))


def _read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a file that is not a single number."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot be read ({error})", where=str(path)) from None


class Checkpoints:
    """The checkpoints of a run.

    Parameters
    ----------
    folder
        ``checkpoints/`` of the run folder.
    keep
        How many to keep; the oldest are removed first, and only after a newer one is written.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def path(self, step: int) -> Path:
        """Return the folder of the checkpoint after ``step`` steps."""
        return self.folder / f"step-{step:08d}"

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, intact or not, in order."""
        names = [re.fullmatch(r"step-(\d{8,})", path.name) for path in self.folder.glob("step-*")]
        return sorted(int(name[1]) for name in names if name)

    def save(self, step: int, checkpoint: Checkpoint, *, best: int | None = None) -> Path:
        """Write the checkpoint after ``step`` steps, then remove those that are no longer needed.

        Parameters
        ----------
        step, checkpoint
            What to write.
        best
            Step of a checkpoint to keep, whatever its age.

        Raises
        ------
        TrainingError
            It could not be written; nothing of it is left, and the earlier checkpoints are intact.
        """
        path = self.path(step)
        with writing(path):
            with atomic_directory(path) as fresh:
                _save_tensors(checkpoint.model, fresh / MODEL)
                _save_tensors(checkpoint.optimiser, fresh / OPTIMISER)
                write_json(fresh / STATE, checkpoint.state)
                write_json(fresh / MANIFEST, with_checksum({"format": FORMAT, "files": _manifest(fresh)}))
            self._prune(step, best)
        return path

    def _prune(self, newest: int, best: int | None) -> None:
        """Keep the last ``keep`` up to ``newest``, and ``best``; any later one was found damaged."""
        steps = self.steps()
        kept = [step for step in steps if step <= newest][-self.keep :]
        for step in set(steps) - {*kept, best}:
            doomed = self.folder / f".{self.path(step).name}.old.partial"
            self.path(step).replace(doomed)
            shutil.rmtree(doomed)

    def newest_whole(self, shapes: Shapes | None = None) -> tuple[int | None, list[ModelError]]:
        """Return the step of the newest intact checkpoint, and the errors of the newer ones.

        None if there is no checkpoint at all.

        Parameters
        ----------
        shapes
            Shape of every tensor of the model, by name; a checkpoint of other shapes is passed over, too.

        Raises
        ------
        ModelError
            There are checkpoints, and none is intact.
        """
        damaged: list[ModelError] = []
        for step in reversed(self.steps()):
            try:
                verify(self.path(step))
                if shapes is not None:
                    refuse_misfit(self.path(step), shapes)
            except ModelError as error:
                damaged.append(error)
            else:
                return step, damaged
        if damaged:
            raise ModelError(
                f"none of its {len(damaged)} checkpoints is whole ({damaged[0]})",
                where=str(self.folder),
                fix="Restore the folder from a copy, or train again into another one",
            )
        return None, []

    def load(self, step: int) -> Checkpoint:
        """Read the checkpoint after ``step`` steps.

        Raises
        ------
        ModelError
            It is missing or damaged; the message names the file.
        """
        path = self.path(step)
        verify(path)
        try:
            model, optimiser = (safetensors.torch.load_file(path / name) for name in (MODEL, OPTIMISER))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"cannot be read ({error})", where=str(path)) from None
        return Checkpoint(model, optimiser, _read_json(path / STATE))

    def clean(self) -> int:
        """Remove partial files that a killed process left; return how many there were."""
        return remove_partial(self.folder)
