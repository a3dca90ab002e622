"""The card of a model, ``README.md`` of its folder: a header that the Hugging Face hub reads, and a text for people."""

from __future__ import annotations

import json
from dataclasses import dataclass

from cell_lm._version import __version__
from cell_lm.config import EncoderConfig

LIMITS = (
    "Human protein-coding genes only; immunoglobulin and T-cell receptor segments are not among them.",
    "Input is raw counts, or values on a stated scale from which they come back.",
    "On a tissue unlike its training cells, adapt it first (`cell-lm adapt`).",
    "For research: nothing here has been validated for clinical decisions.",
)
"""Limits of every model."""

_TEXT = """# A cell language model

{layers} layers of width {width}, attention `{attention}`, {parameters:,} parameters, {genes:,} human protein-coding
genes. Made by cell-lm {version}.

```python
import cell_lm
model = cell_lm.CellLM.from_pretrained("{name}")
cell_lm.tl.embed(adata, model)          # adata.obsm["X_cell_lm"]
```

Input: raw counts, human genes. The embedding of a cell does not depend on the cells it is embedded with."""


@dataclass(frozen=True)
class ModelCard:
    """What only the person who trained a model knows of it.

    Attributes
    ----------
    licence : str
        Of the weights, as the hub names it (``"bsd-3-clause"``); empty: not stated.
    datasets : tuple of str
        Data sets of the hub that it was trained on (``"owner/name"``).
    metrics : tuple of str
        Metrics that :attr:`notes` give, as the hub names them (``"f1"``).
    base_model : str
        Repository of the model that it was continued or adapted from; empty: none.
    limits : tuple of str
        Limits of this model, in Markdown; those of every model follow.
    notes : str
        Markdown: what it was trained on, and its scores.
    """

    licence: str = ""
    datasets: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    base_model: str = ""
    limits: tuple[str, ...] = ()
    notes: str = ""

    def header(self) -> str:
        """Return the header in YAML; values are written as JSON, which is YAML, too."""
        values: dict[str, object] = {
            "license": self.licence,
            "base_model": self.base_model,
            "datasets": list(self.datasets),
            "metrics": list(self.metrics),
        }
        lines = ["library_name: cell-lm", "pipeline_tag: feature-extraction"]
        lines += [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if value]
        return "\n".join(["---", *lines, 'tags: ["single-cell", "biology", "CellLM"]', "---"])

    def render(self, config: EncoderConfig, *, name: str, genes: int, parameters: int) -> str:
        """Return the card of a model of this configuration, found under ``name``."""
        text = _TEXT.format(
            **config.model_dump(include={"layers", "width", "attention"}),
            parameters=parameters,
            genes=genes,
            version=__version__,
            name=name,
        )
        limits = "\n".join(f"- {limit}" for limit in (*self.limits, *LIMITS))
        parts = (text, self.notes.strip(), f"## Limits\n\n{limits}")
        return "\n".join([self.header(), "\n\n".join(part for part in parts if part), ""])
