from __future__ import annotations

from pathlib import Path

import pytest

from cell_lm.cli.settings import known_settings, nested, read_settings, run_config
from cell_lm.config import PRESETS, resolve_config
from cell_lm.errors import ConfigError


def test_values_are_numbers_where_they_look_like_it_and_words_elsewhere() -> None:
    pairs = ["training.steps=100", "training.learning_rate = 1e-4", "encoder.attention=full", 'preset="x"']
    assert read_settings(pairs[:3]) == {
        "training.steps": 100,
        "training.learning_rate": 1e-4,
        "encoder.attention": "full",
    }


def test_settings_reach_every_section_to_any_depth() -> None:
    assert {"training.steps", "encoder.width", "objectives.contrastive.temperature"} <= set(known_settings())
    config = run_config(None, None, read_settings(["objectives.contrastive.temperature=0.2"]))
    assert config.objectives.contrastive.temperature == 0.2
    assert config.encoder == PRESETS["small"]


@pytest.mark.parametrize(
    ("pair", "advice"),
    [
        ("steps=3", "Did you mean training.steps"),
        ("training.step=3", "Did you mean training.steps"),
        ("nonsense=3", "A setting begins with data., encoder., objectives., training."),
        ("training.steps", "Write it as"),
        ("=3", "Write it as"),
    ],
)
def test_what_sets_nothing_is_refused_with_advice(pair: str, advice: str) -> None:
    with pytest.raises(ConfigError, match=advice):
        read_settings([pair])


def test_a_setting_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="set twice"):
        read_settings(["training.steps=3", "training.steps=4"])


def test_a_run_that_goes_on_keeps_its_settings_but_for_those_named() -> None:
    begun = resolve_config("tiny", overrides={"training": {"steps": 7, "token_budget": 999}})
    config = run_config(None, None, {"training.token_budget": 5}, begun=begun)
    assert config.training.token_budget == 5
    assert config.training.steps == 7
    assert config.encoder == PRESETS["tiny"]
    assert begun.training.token_budget == 999
    assert run_config("small", None, {}, begun=begun).encoder == PRESETS["small"]


def test_a_file_lies_between_preset_and_settings(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[training]\nsteps = 11\nbatch_size = 12\n")
    config = run_config("tiny", file, nested({"training.steps": 13}))
    assert (config.training.steps, config.training.batch_size) == (13, 12)
