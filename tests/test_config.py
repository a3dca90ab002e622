from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from cell_lm.config import PRESETS, resolve_config
from cell_lm.errors import ConfigError

ROOT = Path(__file__).parents[1]


def test_the_later_source_wins_and_what_is_not_said_stays(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[training]\nbatch_size = 32\nsteps = 7\n[encoder]\nattention = "full"\n')
    config = resolve_config("tiny", file, {"training": {"steps": 9}})
    assert (config.training.steps, config.training.batch_size) == (9, 32)
    assert config.encoder.attention == "full"
    assert config.encoder.width == PRESETS["tiny"].width
    assert config.preset == "tiny"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[training]\nbatchsize = 3\n", "training.batchsize"),
        ("[training]\nbatch_size = 1\n", "training.batch_size"),
        ("[encoder]\nreads = 9\n", "encoder"),
        ("[objectives.masked]\nrate = 1.5\n", "objectives.masked.rate"),
        ("[training\n", "TOML"),
        ("[training]\nlearning_rate = inf\n", "training.learning_rate"),
        ("[training]\nseed = 4294967296\n", "training.seed"),
        ('preset = "base"\n', "--preset"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_in_one_line(text: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        resolve_config("small", file)
    assert named in str(caught.value)
    assert "run.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="tiny, small, base"):
        resolve_config("huge")


def test_objectives_cannot_all_be_off() -> None:
    off = {name: {"weight": 0.0} for name in ("masked", "discrimination", "contrastive")}
    assert resolve_config("tiny", overrides={"objectives": off}).objectives.reconstruction.weight == 1.0
    with pytest.raises(ConfigError, match="nothing to learn"):
        resolve_config("tiny", overrides={"objectives": off, "encoder": {"linear_path": False}})
    off["reconstruction"] = {"weight": 0.0}
    with pytest.raises(ConfigError, match="nothing to learn"):
        resolve_config("tiny", overrides={"objectives": off})


def test_the_page_of_all_settings_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "make_configuration_page.py"))["page"]()
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == page
