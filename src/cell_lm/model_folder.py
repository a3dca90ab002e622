"""The files of a model folder: configuration, weights, vocabulary and card. Nothing that is read can execute.

``config.json`` holds the SHA-256 of weights and vocabulary and, under ``checksum``, that of all its own values: a
folder with a changed setting or bit is refused. The card, ``README.md``, is for people and may be edited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from cell_lm._version import __version__
from cell_lm.config import EncoderConfig, ObjectivesConfig, parse
from cell_lm.errors import ModelError
from cell_lm.files import JSON, atomic_directory, checksum_holds, refuse_to_replace, sha256, with_checksum, write_json
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.hub import Download
from cell_lm.model_card import ModelCard
from cell_lm.reading import read_json_object, reason, refuse_other_format

CONFIG, WEIGHTS, VOCABULARY, CARD = "config.json", "model.safetensors", "vocabulary.json", "README.md"
FILES = frozenset({CONFIG, WEIGHTS, VOCABULARY, CARD})
FORMAT = 1
"""Version of the folder's layout; a newer one is refused."""
_AGAIN = "Copy the model folder again"
GIVE_MODEL = 'Pass a CellLM, the name of a model ("small"), or the path of a model or run folder'
_PACKAGED = Path(__file__).parent / "resources" / "models"
HALF = ("encoder.embedding.genes.weight", "encoder.readout.path.components", "residual_head.weight")
"""The large matrices, which the packaged models hold in half precision."""

_DISCRIMINATED = "discriminated"
"""Key of ``config.json`` with the cells that the discrimination head was trained on; absent if it was not."""


@dataclass(frozen=True)
class Discriminated:
    """Numbers of tumour and of normal cells that the discrimination head of a model was trained on."""

    tumour: int
    normal: int


def write(
    path: Path,
    *,
    encoder: EncoderConfig,
    objectives: ObjectivesConfig,
    vocabulary: Vocabulary,
    tensors: Mapping[str, Tensor],
    card: ModelCard,
    name: str | None = None,
    half: bool = False,
    discriminated: Discriminated | None = None,
) -> None:
    """Write a model folder, atomically; only another model folder is replaced. Its card calls it ``name``.

    Raises
    ------
    InputError, ModelError
        There is something else at ``path``.
    """
    refuse_to_replace(path, kind="a model", mark=CONFIG, names=FILES)
    if (path / CONFIG).exists():
        read_config(path)  # refuses to replace another program's model
    with atomic_directory(path) as folder:
        weights = folder / WEIGHTS
        saved = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        if half:
            saved |= {name: saved[name].half() for name in HALF if name in saved}
        safetensors.torch.save_file(saved, weights)
        vocabulary.save(folder / VOCABULARY)
        config: dict[str, JSON] = {
            "model_type": "cell-lm",
            "format": FORMAT,
            "cell_lm_version": __version__,
            "encoder": encoder.model_dump(),
            "objectives": objectives.model_dump(),
            "weights_sha256": sha256(weights),
            "vocabulary_sha256": sha256(folder / VOCABULARY),
        }
        if discriminated is not None:
            config[_DISCRIMINATED] = dict(asdict(discriminated))
        write_json(folder / CONFIG, with_checksum(config))
        parameters = sum(tensor.numel() for tensor in tensors.values())
        text = card.render(encoder, name=name or path.name, genes=len(vocabulary), parameters=parameters)
        (folder / CARD).write_text(text, encoding="utf-8")


def packaged_models() -> list[str]:
    """Return the names of the models in the package."""
    return sorted(path.parent.name for path in _PACKAGED.glob(f"*/{CONFIG}"))


def find_packaged(name: str) -> Path:
    """Return the folder of a model of the package, also where a folder of this name is in the working directory."""
    return _PACKAGED / name


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 of the weights of a model folder, as its configuration records it.

    Raises
    ------
    ModelError
        The configuration is missing or damaged.
    """
    return str(_read(folder).get("weights_sha256", ""))


def find(path: object, download: Download | None = None) -> Path:
    """Return the model folder for a path (model or run folder), a model of the package, or a hub repository."""
    if not isinstance(path, str | Path):
        found = f"a model was asked for by a {type(path).__name__}"
        raise ModelError(found, fix=GIVE_MODEL)
    folder = Path(path)
    if str(path) in packaged_models() and not folder.exists():
        folder = _PACKAGED / str(path)
    for candidate in (folder, folder / "model"):
        if (candidate / CONFIG).is_file() and (candidate / WEIGHTS).is_file():
            return candidate
    if not is_repository(path):
        found = f"holds no model (neither {WEIGHTS} nor model/{WEIGHTS})" if folder.exists() else "does not exist"
        packaged = ", ".join(packaged_models())
        fix = f"Name a model folder, the run folder of cell-lm pretrain, or a model of the package: {packaged}"
        raise ModelError(found, where=str(path), fix=fix)
    found_at = (download or Download()).fetch(str(path), sorted(FILES))
    if not ((found_at / CONFIG).is_file() and (found_at / WEIGHTS).is_file()):
        found = f"the repository holds no model of cell-lm (it has no {CONFIG} with {WEIGHTS})"
        raise ModelError(found, where=str(path), fix="Name a repository that CellLM.push_to_hub made")
    return found_at


def is_repository(path: str | Path) -> bool:
    """Return whether a path is the name of a repository (``owner/name``) rather than something that is here."""
    return str(path).count("/") == 1 and not str(path).startswith((".", "/", "~")) and not Path(path).exists()


def read_config(folder: Path) -> tuple[EncoderConfig, ObjectivesConfig]:
    """Read the settings in ``config.json``.

    Raises
    ------
    ModelError
        It is missing, from another program or a newer format, or was changed after it was written.
    """
    values, where = _read(folder), str(folder / CONFIG)
    encoder = parse(EncoderConfig, values.get("encoder"), where=where)
    return encoder, parse(ObjectivesConfig, values.get("objectives"), where=where)


def read_discriminated(folder: Path) -> Discriminated | None:
    """Return the cells that the discrimination head was trained on; None if it was not, or nothing was recorded.

    Raises
    ------
    ModelError
        ``config.json`` is damaged.
    """
    values, where = _read(folder).get(_DISCRIMINATED), str(folder / CONFIG)
    if values is None:
        return None
    try:
        tumour, normal = values["tumour"], values["normal"]
        if min(tumour, normal) < 1:
            raise ValueError("numbers of cells below 1")
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"'{_DISCRIMINATED}' cannot be read ({reason(error)})", where=where, fix=_AGAIN) from None
    return Discriminated(int(tumour), int(normal))


def _read(folder: Path) -> dict[str, Any]:
    where = str(folder / CONFIG)
    try:
        values = read_json_object(folder / CONFIG)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read ({reason(error)})", where=where, fix=_AGAIN) from None
    if values.get("model_type") != "cell-lm":
        raise ModelError("is not the configuration of a cell-lm model", where=where, fix="Name a model of cell-lm")
    refuse_other_format(values.get("format"), FORMAT, where=where, error=ModelError, damaged=_AGAIN)
    if not checksum_holds(values):
        found = "its values are not those that its checksum names: damaged or changed"
        raise ModelError(found, where=where, fix=f"{_AGAIN}; settings of a model are chosen when it is trained")
    return values


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights, after checking the hashes of all files.

    Raises
    ------
    ModelError
        A file is missing, damaged or replaced.
    """
    values = _read(folder)
    for name, key in ((WEIGHTS, "weights_sha256"), (VOCABULARY, "vocabulary_sha256")):
        try:
            found = sha256(folder / name)
        except OSError as error:
            raise ModelError(f"cannot be read ({reason(error)})", where=str(folder / name), fix=_AGAIN) from None
        if found != values.get(key):
            told = f"its SHA-256 is not the one that {CONFIG} names: truncated, damaged or exchanged"
            raise ModelError(told, where=str(folder / name), fix=_AGAIN)
    try:
        tensors = safetensors.torch.load_file(folder / WEIGHTS)
        return {name: each.float() if each.dtype == torch.float16 else each for name, each in tensors.items()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot be read ({reason(error)})", where=str(folder / WEIGHTS), fix=_AGAIN) from None


def load_weights(folder: Path, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load weights into the model of their folder.

    Raises
    ------
    ModelError
        Names or shapes of the weights differ from the model's.
    """
    try:
        model.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise _misfit(folder, reason(error)) from None


def refuse_larger_model(
    folder: Path, encoder: EncoderConfig, objectives: ObjectivesConfig, genes: int, tensors: Mapping[str, Tensor]
) -> None:
    """Refuse settings of a model larger than its weights, before it is built and fills the memory.

    Raises
    ------
    ModelError
        Names the first setting that needs more numbers than the weights have.
    """
    held = sum(tensor.numel() for tensor in tensors.values())
    inner, projection = encoder.heads * encoder.head_width, objectives.contrastive.projection or encoder.width
    least = {
        "layers, width and feedforward": encoder.layers * encoder.width * encoder.feedforward,
        "layers, width, heads and head_width": encoder.layers * encoder.width * inner,
        "gene_width": genes * encoder.gene_width,
        "contrastive.projection": encoder.width * projection,
    }
    if encoder.linear_path:
        least["reference_genes"] = encoder.reference_genes * encoder.width
    if encoder.attention == "latent":
        least["latents"] = encoder.latents * encoder.width
    if encoder.attention == "performer":  # drawn, not saved: at most as many numbers as there are weights
        least["features"] = encoder.layers * encoder.features * encoder.head_width
    for names, numbers in least.items():
        if numbers > held:
            raise _misfit(folder, f"its {names} ask for {numbers:,} numbers or more, and {WEIGHTS} holds {held:,}")


def _misfit(folder: Path, found: str) -> ModelError:
    return ModelError(f"does not fit its configuration ({found})", where=str(folder / WEIGHTS), fix=_AGAIN)
