"""The run folder: what a run was made of, and whether another one may begin or go on in it.

``config.json`` (the resolved configuration), ``data.json`` (the datasets), ``log.jsonl``, ``tensorboard/``,
``checkpoints/`` and ``model/`` (a model folder of the last checkpoint).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from cell_lm.config import DataConfig, PretrainConfig, parse
from cell_lm.engine.disk import remove_partial, writing
from cell_lm.errors import ConfigError, InputError, ModelError
from cell_lm.files import JSON, write_json

CONFIG, DATA, CHECKPOINTS, MODEL = "config.json", "data.json", "checkpoints", "model"
MAY_CHANGE = (
    "training.memory",
    "training.token_budget",
    "training.retain_graphs",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.sharding",
    "training.timeout",
    "data.prefetch",
)
"""Settings that a resumed run may change: they bound memory and disk, and change results by no more than rounding."""
VECTORS = "training.gene_vectors"
"""Where that is a file, it may have another path: its content is compared."""


def _flat(values: Mapping[str, JSON], prefix: str = "") -> dict[str, JSON]:
    flat: dict[str, JSON] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _config_values(config: PretrainConfig) -> dict[str, JSON]:
    return _flat(config.model_dump(mode="json", exclude={"preset"}))


def config_hash(config: PretrainConfig) -> str:
    """Return the SHA-256 of all settings that decide the result; newer ones count where they are not default.

    Runs of cell-lm 0.1, which had no ``[data]`` and froze nothing, so go on. Where a file of gene vectors lies decides
    nothing: its hash is in ``data.json``.
    """
    default: dict[str, JSON] = {f"data.{key}": value for key, value in DataConfig().model_dump(mode="json").items()}
    default["training.freeze_gene_vectors"] = False
    values = _config_values(config)
    if config.training.gene_vectors_file is not None:
        values[VECTORS] = "file"
    values = {key: value for key, value in values.items() if key not in MAY_CHANGE and default.get(key) != value}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def changed_settings(before: PretrainConfig, now: PretrainConfig) -> dict[str, str]:
    """Return ``{"training.steps": "100, now 200"}`` for every setting that differs."""
    old, new = _config_values(before), _config_values(now)
    return {key: f"{old[key]}, now {new[key]}" for key in old if old[key] != new[key]}


class RunFolder:
    """A run folder that is to be begun or gone on with.

    Parameters
    ----------
    path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []

    def refuse_to_begin(self) -> None:
        """Raise :class:`~cell_lm.errors.InputError` where the folder holds something already, or cannot be a folder."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError("it is a file, not a folder", where=str(self.path), fix="Choose another --out")
        if self.path.exists() and any(self.path.iterdir()):
            held = "a run" if (self.path / CONFIG).is_file() else "other files"
            fix = (
                "Choose another --out, or go on with the run by --resume" if held == "a run" else "Choose another --out"
            )
            raise InputError(f"the folder holds {held} already", where=str(self.path), fix=fix)

    def begin(self, config: PretrainConfig, data: dict[str, JSON]) -> None:
        """Write what the run is made of into the folder."""
        with writing(self.path):
            (self.path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
            write_json(self.path / DATA, data)
            write_json(self.path / CONFIG, config.model_dump(mode="json"))

    def read_config(self) -> PretrainConfig:
        """Return the configuration of the run in this folder.

        Raises
        ------
        ModelError
            There is no run, or it is damaged.
        """
        return parse(PretrainConfig, self._read(CONFIG), where=str(self.path / CONFIG))

    def _read(self, name: str) -> dict[str, JSON]:
        path = self.path / name
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(
                f"there is no run here that could go on (no {name})", where=str(self.path), fix="Leave out --resume"
            ) from None
        except (OSError, ValueError) as error:
            raise ModelError(f"it cannot be read ({error})", where=str(path), fix="Restore it from a copy") from None
        if not isinstance(values, dict):
            raise ModelError("it is not a JSON object", where=str(path), fix="Restore it from a copy")
        return values

    def refuse_to_resume(self, config: PretrainConfig, data: Mapping[str, JSON]) -> None:
        """Raise where configuration or data are not those of the run.

        Raises
        ------
        ModelError
            There is no run, or it is damaged.
        ConfigError
            Settings differ that decide the result; all are named.
        InputError
            The data differ; the dataset is named.
        """
        begun = self.read_config()
        changed = changed_settings(begun, config)
        files = [one.training.gene_vectors_file is not None for one in (begun, config)]
        may_change = (*MAY_CHANGE, VECTORS) if all(files) else MAY_CHANGE
        fixed = [f"{key}: {change}" for key, change in changed.items() if key not in may_change]
        if fixed:
            raise ConfigError(
                f"{len(fixed)} settings are not those of the run ({'; '.join(fixed)})",
                where=str(self.path),
                fix=f"Resume with the same settings, or begin a new run. Only {', '.join(MAY_CHANGE)} may change",
            )
        self._refuse_other_data(data)
        self.notes += [f"{key} was {change}" for key, change in changed.items()]

    def _refuse_other_data(self, data: Mapping[str, JSON]) -> None:
        before, key = self._read(DATA), "gene_vectors"
        found: str | None = None
        if before.get("vocabulary") != data["vocabulary"]:
            found = "the cells are aligned to another vocabulary than the run's"
        elif (was := _essence(before.get(key)))[1:] != (now := _essence(data.get(key)))[1:]:
            found = f"the gene vectors of '{now[0]}' are not those that the run was begun with, of '{was[0]}'"
        else:
            found = _difference(before, data, "stores", "stores") or _difference(before, data, "datasets", "datasets")
        if found is not None:
            raise InputError(
                found, where=str(self.path), fix="Resume with the same files in the same order, or begin a new run"
            )

    def resume(self, config: PretrainConfig) -> None:
        """Clean up after a killed process, and write down settings that changed."""
        with writing(self.path):
            left = remove_partial(self.path) + remove_partial(self.path / CHECKPOINTS)
            if left:
                self.notes.append(f"removed {left} half-written folders that a killed run left")
            if changed_settings(self.read_config(), config):
                write_json(self.path / CONFIG, config.model_dump(mode="json"))


def _difference(before: Mapping[str, JSON], now: Mapping[str, JSON], key: str, what: str) -> str | None:
    """Say how the described data of one kind differ, if they do."""
    old, new = ([_essence(one) for one in _list(values, key)] for values in (before, now))
    if len(old) != len(new):
        return f"the run was begun on {len(old)} {what}, and {len(new)} are given"
    for was, is_ in zip(old, new, strict=True):
        if was[1:] != is_[1:]:
            return f"'{is_[0]}' ({is_[1]} cells) is not what the run was begun on: '{was[0]}' ({was[1]} cells)"
    return None


def _list(values: Mapping[str, JSON], key: str) -> list[JSON]:
    described = values.get(key)
    return described if isinstance(described, list) else []


def _essence(dataset: JSON) -> tuple[JSON, JSON, JSON]:
    """Return name, cells and hash of a described dataset."""
    values = dataset if isinstance(dataset, dict) else {}
    return values.get("name"), values.get("cells"), values.get("hash")
