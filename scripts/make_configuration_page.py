"""Write docs/configuration.md from the configuration's own types and descriptions.

python scripts/make_configuration_page.py docs/configuration.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel

from cell_lm.config import (
    PRESETS,
    AdaptConfig,
    ContrastiveConfig,
    DataConfig,
    DiscriminationConfig,
    EncoderConfig,
    FineTuneConfig,
    GraphMAEConfig,
    MaskedConfig,
    ReconstructionConfig,
    TrainingConfig,
)

HEAD = """# Configuration

A run is configured by a preset, then a TOML file (`--config`), then single settings (`--set table.key=value`), the
later over the earlier. An unknown key or a value out of range is an error that names it. The resolved configuration is
saved as `config.json` in the run folder.

```toml
[encoder]
attention = "latent"

[objectives.contrastive]
temperature = 0.1

[training]
batch_size = 512
```

*This page is made from the code by `scripts/make_configuration_page.py`; a test fails when it is out of date.*
"""

SECTIONS: dict[str, type[BaseModel]] = {
    "encoder": EncoderConfig,
    "objectives.masked": MaskedConfig,
    "objectives.discrimination": DiscriminationConfig,
    "objectives.contrastive": ContrastiveConfig,
    "objectives.reconstruction": ReconstructionConfig,
    "training": TrainingConfig,
    "data": DataConfig,
}


def _text(described: str | None) -> str:
    """Return a docstring as a line of Markdown."""
    return " ".join((described or "").split()).replace("``", "`")


def table(kind: type[BaseModel]) -> str:
    rows = ["| key | default | what it is |", "|---|---|---|"]
    for name, field in kind.model_fields.items():
        rows.append(f"| `{name}` | `{field.default}` | {_text(field.description)} |")
    return "\n".join(rows)


def presets() -> str:
    keys = list(EncoderConfig.model_fields)
    rows = ["| encoder | " + " | ".join(PRESETS) + " |", "|---" * (len(PRESETS) + 1) + "|"]
    rows += [f"| `{key}` | " + " | ".join(f"`{getattr(p, key)}`" for p in PRESETS.values()) + " |" for key in keys]
    return "\n".join(rows)


ADAPT = """## Adaptation

Settings of `cell-lm adapt`, given by its options and `--set name=value`.
"""
FINE_TUNE = """## Fine-tuning

Settings of [fine-tuning](fine_tuning.md) (`cell_lm.config.FineTuneConfig`).
"""
GENES = """## Gene vectors

Settings of `cell-lm genes pretrain`, given by its options and `--set name=value`. The resolved ones are saved as
`config.json` in its folder.
"""


def page() -> str:
    parts = [HEAD, "## Presets\n", presets() + "\n"]
    for name, kind in SECTIONS.items():
        summary = _text(kind.__doc__)
        parts += [f"## `[{name}]`\n", summary + "\n", table(kind) + "\n"]
    parts += [ADAPT, table(AdaptConfig) + "\n"]
    parts += [FINE_TUNE, table(FineTuneConfig) + "\n"]
    parts += [GENES, table(GraphMAEConfig) + "\n"]
    return "\n".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
