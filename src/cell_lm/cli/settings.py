"""Settings of a run on the command line: ``--set training.steps=100``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cell_lm.config import PRESETS, EncoderConfig, GraphMAEConfig, PretrainConfig, parse, resolve_config
from cell_lm.errors import ConfigError
from cell_lm.reading import UnreadableError, parse_toml

_EXAMPLES: dict[type[BaseModel], str] = {PretrainConfig: "training.steps", GraphMAEConfig: "steps"}


def known_settings(section: type[BaseModel] = PretrainConfig, prefix: str = "") -> Iterator[str]:
    """Yield the name of every setting, as ``training.steps``."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from known_settings(kind, f"{prefix}{name}.")
        elif prefix or section is not PretrainConfig:
            yield f"{prefix}{name}"


def read_settings(pairs: Iterable[str], section: type[BaseModel] = PretrainConfig) -> dict[str, Any]:
    """Read ``name=value`` pairs into a flat dictionary; values are TOML, or text where they are not valid TOML.

    Raises
    ------
    ConfigError
        There is no ``=``, no such setting (the error suggests close names), or one is set twice.
    """
    known, found = list(known_settings(section)), dict[str, Any]()
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not name:
            raise ConfigError(
                f"'{pair}' sets nothing", where="--set", fix=f"Write it as --set {_EXAMPLES.get(section, known[0])}=100"
            )
        if name not in known:
            raise ConfigError(f"there is no setting '{name}'", where="--set", fix=_advice(name, known))
        if name in found:
            raise ConfigError(f"'{name}' is set twice", where="--set", fix="Set it once")
        found[name] = _value(value)
    return found


def _advice(name: str, known: list[str]) -> str:
    last = name.rpartition(".")[2]
    close = [setting for setting in known if setting.rpartition(".")[2] == last]
    close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    if close:
        return f"Did you mean {' or '.join(close)}"
    if not any("." in setting for setting in known):
        return f"The settings are {', '.join(known)}"
    return f"A setting begins with {', '.join(sorted({setting.partition('.')[0] + '.' for setting in known}))}"


def _value(text: str) -> Any:
    try:
        return parse_toml(f"value = {text}")["value"]
    except UnreadableError:
        return text


def nested(flat: Mapping[str, Any], into: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return ``{"training.steps": 100}`` as ``{"training": {"steps": 100}}``, merged into ``into``."""
    tree: dict[str, Any] = {} if into is None else into
    for name, value in flat.items():
        *sections, leaf = name.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = value
    return tree


def run_config(
    preset: str | None,
    file: Path | None,
    settings: Mapping[str, Any],
    *,
    begun: PretrainConfig | None = None,
    encoder: EncoderConfig | None = None,
) -> PretrainConfig:
    """Return the configuration of a run: preset, file and settings; later ones override earlier ones.

    A resumed run (``begun``) keeps its configuration if neither preset nor file is given, so that ``--resume`` does not
    need the earlier options again. A run from a model has the ``encoder`` of the model.

    Raises
    ------
    ConfigError
        As :func:`cell_lm.config.resolve_config`; or preset, file or settings contradict the model's encoder.
    """
    if encoder is not None and begun is None:
        return _with_encoder(preset, file, settings, encoder)
    if begun is not None and preset is None and file is None:
        return parse(PretrainConfig, nested(settings, begun.model_dump()), where="settings of the command line")
    return resolve_config(preset or "small", file, nested(settings))


def _with_encoder(
    preset: str | None, file: Path | None, settings: Mapping[str, Any], encoder: EncoderConfig
) -> PretrainConfig:
    """Return the configuration of a run whose encoder is given; settings given for it must agree."""
    same = next((name for name, known in PRESETS.items() if known == encoder), None)
    base = resolve_config(preset or same or "small", file, nested(settings))
    named = nested(settings).get("encoder", {})
    if file is not None:
        named = parse_toml(file.read_text(encoding="utf-8")).get("encoder", {}) | named
    if preset is not None:
        named = PRESETS[preset].model_dump() | named
    for name, value in named.items():
        theirs = getattr(encoder, name)
        if getattr(base.encoder, name) != theirs:
            found = f"encoder.{name} is {value} here, and {theirs} in the model of --from"
            raise ConfigError(
                found, fix="Leave it out (--preset, [encoder], --set encoder.…): the encoder is the model's"
            )
    return base.model_copy(update={"encoder": encoder, "preset": same or "custom"})
