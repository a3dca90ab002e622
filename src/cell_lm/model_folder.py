"""The files of a model folder: configuration, weights, vocabulary and card. Nothing that is read can execute."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from cell_lm._version import __version__
from cell_lm.config import EncoderConfig, ObjectivesConfig, parse
from cell_lm.errors import ModelError
from cell_lm.files import JSON, atomic_directory, refuse_to_replace, sha256, write_json
from cell_lm.genes.vocabulary import Vocabulary

CONFIG, WEIGHTS, VOCABULARY, CARD = "config.json", "model.safetensors", "vocabulary.json", "README.md"
FORMAT = 1
"""Version of the folder's layout; a newer one is refused."""

_CARD = """---
library_name: cell-lm
tags: [single-cell, biology, CellLM]
---
# A cell language model

{layers} layers of width {width}, attention `{attention}`, {parameters:,} parameters, {genes:,} human protein-coding
genes. Made by cell-lm {version}.

```python
import cell_lm
model = cell_lm.CellLM.from_pretrained("{name}")
cell_lm.tl.embed(adata, model)          # adata.obsm["X_cell_lm"]
```

Input: raw counts, human genes. The embedding of a cell does not depend on the cells it is embedded with.

{notes}
"""


def write(
    path: Path,
    *,
    encoder: EncoderConfig,
    objectives: ObjectivesConfig,
    vocabulary: Vocabulary,
    tensors: Mapping[str, Tensor],
    notes: str,
) -> None:
    """Write a model folder, whole or not at all; only another model folder is replaced.

    Raises
    ------
    InputError, ModelError
        There is something else at ``path``.
    """
    refuse_to_replace(path, kind="a model", mark=CONFIG, names={CONFIG, WEIGHTS, VOCABULARY, CARD})
    if (path / CONFIG).exists():
        read_config(path)  # another program's model is not ours to replace
    with atomic_directory(path) as folder:
        weights = folder / WEIGHTS
        safetensors.torch.save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, weights)
        vocabulary.save(folder / VOCABULARY)
        config: dict[str, JSON] = {
            "model_type": "cell-lm",
            "format": FORMAT,
            "cell_lm_version": __version__,
            "encoder": encoder.model_dump(),
            "objectives": objectives.model_dump(),
            "vocabulary_hash": vocabulary.hash,
            "weights_sha256": sha256(weights),
        }
        write_json(folder / CONFIG, config)
        shape = encoder.model_dump(include={"layers", "width", "attention"})
        parameters = sum(tensor.numel() for tensor in tensors.values())
        card = _CARD.format(
            **shape,
            parameters=parameters,
            genes=len(vocabulary),
            version=__version__,
            name=path.name,
            notes=notes.strip(),
        )
        (folder / CARD).write_text(card.rstrip() + "\n", encoding="utf-8")


def find(path: object) -> Path:
    """Return the model folder that a path (model folder or run folder) or a hub repository's name means."""
    if not isinstance(path, str | Path):
        found = f"a model was asked for by a {type(path).__name__}"
        raise ModelError(found, fix="Pass a CellLM, or the path of a model or run folder")
    folder = Path(path)
    for candidate in (folder, folder / "model"):
        if (candidate / CONFIG).is_file() and (candidate / WEIGHTS).is_file():
            return candidate
    if folder.exists() or str(path).count("/") != 1 or str(path).startswith((".", "/", "~")):
        found = f"holds no model (neither {WEIGHTS} nor model/{WEIGHTS})" if folder.exists() else "does not exist"
        raise ModelError(found, where=str(path), fix="Name a model folder, or the run folder of cell-lm pretrain")
    return _download(str(path))


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=[CONFIG, WEIGHTS, VOCABULARY, CARD]))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"is neither a folder here nor a repository of the Hugging Face hub that can be reached ({reason})",
            where=repository,
            fix="Check the name; without a network, name a model folder",
        ) from None


def read_config(folder: Path) -> tuple[EncoderConfig, ObjectivesConfig]:
    """Read ``config.json`` strictly."""
    where = str(folder / CONFIG)
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot be read ({error})", where=where, fix="Copy the model folder again") from None
    if not isinstance(values, dict) or values.get("model_type") != "cell-lm":
        raise ModelError("is not the configuration of a cell-lm model", where=where)
    if not isinstance(values.get("format"), int) or values["format"] > FORMAT:
        raise ModelError(
            f"has format {values.get('format')}, this is cell-lm {__version__} which reads up to {FORMAT}",
            where=where,
            fix="Upgrade cell-lm",
        )
    encoder = parse(EncoderConfig, values.get("encoder"), where=where)
    return encoder, parse(ObjectivesConfig, values.get("objectives"), where=where)


def _check_integrity(folder: Path) -> None:
    values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if sha256(folder / WEIGHTS) != values.get("weights_sha256"):
        raise ModelError(
            f"its SHA-256 is not the one that {CONFIG} names: truncated, damaged or exchanged",
            where=str(folder / WEIGHTS),
            fix="Copy the model folder again",
        )
    if Vocabulary.load(folder / VOCABULARY).hash != values.get("vocabulary_hash"):
        raise ModelError(
            f"is not the vocabulary that {CONFIG} names",
            where=str(folder / VOCABULARY),
            fix="Copy the model folder again",
        )


def read_weights(folder: Path, model: nn.Module) -> None:
    """Load the weights into a model of the folder's configuration, after checking the hashes."""
    _check_integrity(folder)
    try:
        tensors = safetensors.torch.load_file(folder / WEIGHTS)
        model.load_state_dict(tensors)
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"does not fit its configuration ({reason})", where=str(folder / WEIGHTS)) from None
