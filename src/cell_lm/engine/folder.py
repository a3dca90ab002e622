"""The run folder: settings and data of a run, and whether a run may start or resume in it.

``config.json`` (the resolved configuration), ``data.json`` (what it is trained on), ``log.jsonl``, ``tensorboard/`` and
``checkpoints/``; a kind of training adds its own files. ``config.json`` is written last when a run starts, so that it
marks a run that can be resumed. A :class:`RunKind` holds what differs between kinds of training.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel

from cell_lm.config import parse
from cell_lm.engine.disk import remove_partial, writing
from cell_lm.errors import ConfigError, InputError, ModelError
from cell_lm.files import CHECKSUM, JSON, checksum_holds, refuse_unwritable, with_checksum, write_json
from cell_lm.reading import MOST_LISTED, read_json_object, reason

CONFIG, DATA, CHECKPOINTS = "config.json", "data.json", "checkpoints"

Config = TypeVar("Config", bound=BaseModel)


@dataclass(frozen=True)
class RunKind(Generic[Config]):
    """The differences between the run folders of different kinds of training.

    Attributes
    ----------
    config
        Class of the configuration.
    steps
        Name of the setting of the number of steps; it may change on resume.
    may_change
        Names of the other settings that may change on resume: they change a result by no more than rounding.
    data_difference
        Compares ``data.json`` of the run with the given data; returns how they differ, or None.
    files
        Settings that may be the path of a file, and their values that are not: the path may change (``data.json``
        compares the content).
    labels
        Settings that are names only.
    """

    config: type[Config]
    steps: str
    may_change: frozenset[str]
    data_difference: Callable[[Mapping[str, JSON], Mapping[str, JSON]], str | None]
    files: Mapping[str, Collection[JSON]] = field(default_factory=dict)
    labels: frozenset[str] = frozenset()

    def values(self, config: Config) -> dict[str, JSON]:
        """Return all settings other than labels, as ``{"training.steps": 100}``."""
        values = _flat(config.model_dump(mode="json"))
        return {name: value for name, value in values.items() if name not in self.labels}

    def hash(self, config: Config) -> str:
        """Return the SHA-256 of the settings that decide the result and are not at their default.

        So a new setting does not change the hash of earlier runs.
        """
        default, values = self.values(self.config()), self.values(config)
        values |= {name: "file" for name, words in self.files.items() if values[name] not in words}
        fixed = {
            name: value
            for name, value in values.items()
            if name != self.steps and name not in self.may_change and default[name] != value
        }
        return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()

    def changes(self, before: Config, now: Config) -> dict[str, str]:
        """Return ``{"training.steps": "100, now 200"}`` for every setting that differs."""
        old, new = self.values(before), self.values(now)
        return {name: f"{old[name]}, now {new[name]}" for name in old if old[name] != new[name]}

    def refused_changes(self, before: Config, now: Config) -> dict[str, str]:
        """Return the changes that prevent a run from resuming."""
        old, new = self.values(before), self.values(now)
        moved = {name for name, words in self.files.items() if old[name] not in words and new[name] not in words}
        allowed = {self.steps, *self.may_change, *moved}
        return {name: change for name, change in self.changes(before, now).items() if name not in allowed}

    def steps_of(self, config: Config) -> int:
        """Return how many steps a run has."""
        steps = self.values(config)[self.steps]
        assert isinstance(steps, int)
        return steps

    def with_steps(self, config: Config, steps: int) -> Config:
        """Return the configuration with this number of steps."""
        return _with(config, self.steps.split("."), steps)


def _flat(values: Mapping[str, JSON], prefix: str = "") -> dict[str, JSON]:
    flat: dict[str, JSON] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _with(config: Config, names: list[str], value: int) -> Config:
    first, *rest = names
    return config.model_copy(update={first: _with(getattr(config, first), rest, value) if rest else value})


class RunFolder(Generic[Config]):
    """A folder in which a run starts or resumes.

    Parameters
    ----------
    path
        The folder.
    kind
        Kind of training.
    """

    def __init__(self, path: Path, kind: RunKind[Config]) -> None:
        self.path, self.kind = path, kind
        self.notes: list[str] = []

    def refuse_to_begin(self) -> None:
        """Raise :class:`~cell_lm.errors.InputError` if the folder is not empty, or cannot be a folder.

        The leftovers of a run that was killed before it started do not count.
        """
        refuse_unwritable(self.path)
        if os.path.lexists(self.path) and not self.path.is_dir():
            raise InputError("it is a file, not a folder", where=str(self.path), fix="Choose another --out")
        if not self.path.exists() or self._is_left_over():
            return
        if (self.path / CONFIG).is_file():
            fix = "Choose another --out, or go on with the run by --resume"
            raise InputError("the folder holds a run already", where=str(self.path), fix=fix)
        raise InputError("the folder holds other files already", where=str(self.path), fix="Choose another --out")

    def _is_left_over(self) -> bool:
        names = {path.name for path in self.path.iterdir() if not path.name.endswith(".partial")}
        begun = {CONFIG, DATA} <= names or any((self.path / CHECKPOINTS).glob("*"))
        return names <= {CONFIG, DATA, CHECKPOINTS} and not begun

    def begin(self, config: Config, data: dict[str, JSON]) -> None:
        """Write configuration and data description into the folder."""
        with writing(self.path):
            (self.path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
            remove_partial(self.path)
            write_json(self.path / DATA, with_checksum(data))
            write_json(self.path / CONFIG, with_checksum(config.model_dump(mode="json")))

    def read_config(self) -> Config:
        """Return the configuration of the run in this folder.

        Raises
        ------
        ModelError
            There is no run, or it is damaged.
        """
        return parse(self.kind.config, self._read(CONFIG), where=str(self.path / CONFIG))

    def read_data(self) -> dict[str, JSON]:
        """Return the data description of the run in this folder.

        Raises
        ------
        ModelError
            There is no run, or it is damaged.
        """
        return self._read(DATA)

    def _read(self, name: str) -> dict[str, JSON]:
        path = self.path / name
        try:
            values = read_json_object(path, most=MOST_LISTED)
        except FileNotFoundError:
            found = f"there is no run here that could go on (no {name})"
            raise ModelError(found, where=str(self.path), fix="Leave out --resume") from None
        except (OSError, ValueError) as error:
            found = f"it cannot be read ({reason(error)})"
            raise ModelError(found, where=str(path), fix="Restore it from a copy") from None
        if not checksum_holds(values):
            found = "its values are not those that its checksum names: damaged or changed"
            raise ModelError(found, where=str(path), fix="Restore it from a copy; give settings by options on --resume")
        return {name: value for name, value in values.items() if name != CHECKSUM}

    def refuse_settings(self, config: Config) -> None:
        """Raise if the run cannot resume with these settings.

        Raises
        ------
        ModelError
            There is no run, or it is damaged.
        ConfigError
            Settings that change the result differ; the error lists them all.
        """
        refused = self.kind.refused_changes(self.read_config(), config)
        if refused:
            named = "; ".join(f"{name}: {change}" for name, change in refused.items())
            may_change = ", ".join(sorted({self.kind.steps, *self.kind.may_change}))
            raise ConfigError(
                f"{len(refused)} settings are not those of the run ({named})",
                where=str(self.path),
                fix=f"Resume with the same settings, or begin a new run. Only {may_change} may change",
            )

    def refuse_data(self, data: Mapping[str, JSON]) -> None:
        """Raise :class:`~cell_lm.errors.InputError` if the run was started on other data."""
        found = self.kind.data_difference(self.read_data(), data)
        if found is not None:
            fix = "Resume with the same files in the same order, or begin a new run"
            raise InputError(found, where=str(self.path), fix=fix)

    def settle(self, config: Config, done: int) -> Config:
        """Return the configuration with at least ``done`` steps, those that the run has finished."""
        return self.kind.with_steps(config, max(done, self.kind.steps_of(config)))

    def resume(self, config: Config, done: int) -> None:
        """Clean up after a killed process, and save the settings that changed."""
        with writing(self.path):
            left = remove_partial(self.path) + remove_partial(self.path / CHECKPOINTS)
            if left:
                self.notes.append(f"removed {left} half-written folders that a killed run left")
            changes = self.kind.changes(self.read_config(), self.settle(config, done))
            if changes:
                write_json(self.path / CONFIG, with_checksum(self.settle(config, done).model_dump(mode="json")))
        self.notes += [f"{name} was {change}" for name, change in changes.items()]
        asked = self.kind.steps_of(config)
        if asked < done:
            self.notes.append(
                f"{asked:,} steps were asked for, and {done:,} are done: the run is finished as it stands"
            )
        elif self.kind.steps in changes:
            self.notes.append(f"after step {done:,} the learning rate is that of a run of {asked:,} steps")
