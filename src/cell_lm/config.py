"""The configuration: typed, strict (an unknown key is an error), read from TOML, saved in full with every result.

Each section belongs to one part of the program: :class:`EncoderConfig` is saved with the weights in the model folder,
the others in the run folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, ValidationError, model_validator

from cell_lm.errors import ConfigError
from cell_lm.reading import read_toml, reason

__all__ = [
    "AdaptConfig",
    "ContrastiveConfig",
    "DataConfig",
    "DiscriminationConfig",
    "EncoderConfig",
    "FineTuneConfig",
    "GraphMAEConfig",
    "MaskedConfig",
    "ObjectivesConfig",
    "PretrainConfig",
    "ReconstructionConfig",
    "TrainingConfig",
    "resolve_config",
]

Attention = Literal["full", "latent", "performer"]
Precision = Literal["float32", "bfloat16"]
Positive = Annotated[int, Field(gt=0, le=2**40)]
Width = Annotated[int, Field(gt=0, le=2**14)]
"""Width of a layer or vector, or a number of heads, latents or features: at most 16,384, far above practical values."""
Depth = Annotated[int, Field(gt=0, le=2**9)]
"""A number of layers: 512 at most."""
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Weight = Annotated[float, Field(ge=0.0)]
_LEAST_MEMORY = 10_000_000


def _with_a_unit(memory: ByteSize) -> ByteSize:
    if memory < _LEAST_MEMORY:
        raise ValueError(f"is {memory:,} bytes, less than any process needs: write the unit, as in 8GB")
    return memory


Memory = Annotated[ByteSize, AfterValidator(_with_a_unit)]
"""Bytes, written as ``"8GB"``; less than 10 MB is refused as a number without its unit."""
GENE_VECTORS = ("components", "network", "network+coexpression", "coexpression", "random")
"""Named values of ``training.gene_vectors``; anything else is the path of a file."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class EncoderConfig(_Section):
    """The architecture of the encoder: all that is needed to rebuild it from its weights."""

    attention: Attention = "latent"
    """``full``: exact, on packed cells; ``latent``: learned latents attend to the genes; ``performer``: FAVOR+."""
    width: Width = 128
    """Width of a token."""
    layers: Depth = 4
    """Transformer layers (for ``latent``: layers among the latents)."""
    heads: Width = 4
    """Attention heads."""
    head_width: Width = 32
    """Width of one head; ``heads x head_width`` need not equal ``width``."""
    feedforward: Annotated[int, Field(gt=0, le=2**16)] = 512
    """Width of the hidden layer of the feed-forward blocks."""
    dropout: Fraction = 0.1
    """Dropout after the embedding and on every residual branch; it also makes the two contrastive views differ."""
    gene_width: Width = 128
    """Width of the gene vectors; projected to ``width`` if it differs."""
    expression: Literal["bins", "continuous"] = "bins"
    """``bins``: the paper's rounded log expression, a vector per bin; ``continuous``: a small network of the value."""
    bins: Annotated[int, Field(ge=2, le=64)] = 6
    """Number of expression bins, 0 to ``bins - 1``; the last bin holds all larger values."""
    max_genes: Annotated[int, Field(gt=0, le=2**20)] = 16384
    """Most genes read from one cell; of more, the most highly expressed are kept."""
    attended_genes: Positive = 128
    """Most genes of a cell that attention reads, the furthest from their expected count; all enter the linear path."""
    linear_path: bool = True
    """Add the principal components of the cell's Pearson residuals to CLS; false: the paper's encoder."""
    reference_genes: Annotated[int, Field(gt=0, le=2**16)] = 4000
    """``linear_path`` only: most genes in the reference that residuals are computed for, the most variable ones."""
    latents: Width = 8
    """``latent`` only: number of latents; the first one is CLS."""
    cross_attentions: Depth = 1
    """``latent`` only: cross-attentions from the latents to the genes, spread evenly over the layers."""
    features: Width = 256
    """``performer`` only: random features per head."""
    redraw_every: Positive = 1000
    """``performer`` only: optimiser steps between two draws of the random features."""

    @model_validator(mode="after")
    def _cross_attentions_fit(self) -> EncoderConfig:
        if self.cross_attentions > self.layers:
            raise ValueError(f"cross_attentions = {self.cross_attentions} is more than layers = {self.layers}")
        return self


class MaskedConfig(_Section):
    """Masked language modelling over the expression bins."""

    weight: Weight = 1.0
    """Weight in the total loss; 0 turns the objective off."""
    rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """Fraction of the expressed genes whose expression is masked."""
    most: Positive = 32
    """Masked genes of a cell that are predicted, at most, on average; of more a random part is. All stay masked."""
    per_view: bool = False
    """Mask different genes in the two views (in the paper the same genes; the views differ by dropout alone)."""


class DiscriminationConfig(_Section):
    """Classification of tumour and normal cells from CLS; cells of unknown malignancy are left out."""

    weight: Weight = 1.0
    """Weight in the total loss; 0 turns the objective off."""


class ContrastiveConfig(_Section):
    """InfoNCE between the two views of a cell; all other cells of the whole batch are negatives."""

    weight: Weight = 1.0
    """Weight in the total loss; 0 turns the objective off (and only one view is computed)."""
    temperature: Annotated[float, Field(gt=0.0)] = 0.3
    """Temperature of the softmax over cosine similarities."""
    thinning: bool = True
    """Divide the counts of a cell at random over its two views, as if sequenced twice at half the depth."""
    gene_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Fraction of a cell's genes in each view, drawn anew per view; 1: all (the paper, where only dropout differs)."""
    projection: Annotated[int, Field(ge=0, le=2**14)] = 128
    """Width of the two-layer projection head on CLS; 0: CLS itself."""


class ReconstructionConfig(_Section):
    """Prediction from CLS alone: the Pearson residuals of the other view of the cell, for all reference genes."""

    weight: Weight = 1.0
    """Weight in the total loss; 0 turns the objective off. An encoder without ``linear_path`` does not have it."""


class ObjectivesConfig(_Section):
    """The three objectives of the paper, and the reconstruction of the other view, summed by weight."""

    masked: MaskedConfig = MaskedConfig()
    discrimination: DiscriminationConfig = DiscriminationConfig()
    contrastive: ContrastiveConfig = ContrastiveConfig()
    reconstruction: ReconstructionConfig = ReconstructionConfig()

    @model_validator(mode="after")
    def _one_is_on(self) -> ObjectivesConfig:
        parts = (self.masked, self.discrimination, self.contrastive, self.reconstruction)
        if not any(part.weight for part in parts):
            raise ValueError("all objectives have weight 0: nothing to learn")
        return self

    def reconstructs(self, encoder: EncoderConfig) -> bool:
        """Return whether an encoder is trained to reconstruct: it needs a linear path."""
        return bool(self.reconstruction.weight and encoder.linear_path)

    def views(self, encoder: EncoderConfig) -> int:
        """Return how many views of a cell are encoded in a step, 1 or 2."""
        return 2 if self.contrastive.weight or self.reconstructs(encoder) else 1


class TrainingConfig(_Section):
    """Length, learning rate, memory, checkpoints and start of the training."""

    steps: Positive = 1000
    """Optimiser steps; a resumed run may have more or fewer: its learning rate then follows the new number."""
    batch_size: Annotated[int, Field(ge=2, le=2**24)] = 256
    """Cells per step over all ranks; all of them are contrastive negatives, whatever the memory."""
    memory: Memory | None = None
    """Memory limit of a process, as ``"8GB"`` (on CUDA: of the device); default: half of what is free (CUDA: 90 %)."""
    token_budget: Positive | Literal["auto"] = "auto"
    """Most genes (over both views) in one chunk of divide and conquer; ``auto``: as many as ``memory`` allows."""
    retain_graphs: Annotated[int, Field(ge=0, le=2**20)] | Literal["auto"] = "auto"
    """Chunks whose graph is kept from the first pass, not recomputed; ``auto``: as many as ``memory`` allows."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    """Peak learning rate of AdamW."""
    warmup: Fraction = 0.05
    """Fraction of the steps with a linearly rising learning rate; it then falls to ``final_rate`` along a cosine."""
    final_rate: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    """Learning rate at the end, as a fraction of the peak; 1: it stays at the peak."""
    weight_decay: Weight = 0.01
    """Decoupled weight decay on matrices (not on biases, norms and embeddings)."""
    clip: Annotated[float, Field(gt=0.0)] = 1.0
    """Largest gradient norm."""
    precision: Precision = "float32"
    """Arithmetic of the encoder (autocast); losses and norms are always float32."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Random seed of weights, order, masks and dropout."""
    validation: Annotated[float, Field(ge=0.0, le=0.5)] = 0.05
    """Fraction of the cells held out for validation: whole batches, 16 at most, or one smaller batch; 0: none."""
    validate_every: Positive = 50
    """Steps between two validations."""
    checkpoint_every: Positive = 200
    """Steps between two checkpoints."""
    keep_checkpoints: Positive = 2
    """Number of checkpoints to keep."""
    gene_vectors: Annotated[str, Field(min_length=1)] = "components"
    """Initial values: ``components`` (loadings of the linear path), ``network``, ``coexpression``,
    ``network+coexpression``, ``random``, or the path of a file."""
    freeze_gene_vectors: bool = False
    """Freeze all gene vectors at their initial values, random ones included."""
    sharding: Literal["none", "full"] = "none"
    """``none``: every process holds the whole model; ``full``: weights and moments are sharded over them (FSDP)."""
    timeout: Annotated[float, Field(gt=0.0)] = 600.0
    """Seconds that a process waits for another one that does not respond, before the run ends with an error."""

    @property
    def gene_vectors_file(self) -> Path | None:
        """The user's own file of gene vectors; None if ``gene_vectors`` is one of :data:`GENE_VECTORS`."""
        return None if self.gene_vectors in GENE_VECTORS else Path(self.gene_vectors)


class DataConfig(_Section):
    """Order, balance and prefetching of the cells."""

    order: Literal["auto", "random", "blocks"] = "auto"
    """``random``: uniform; ``blocks``: shuffles blocks of adjacent cells; ``auto``: blocks if a file stays on disk."""
    block: Positive = 32
    """``blocks`` only: adjacent cells that are read together."""
    window: Positive = 8192
    """``blocks`` only: cells shuffled together before they are cut into batches; so many of a file are in memory."""
    balance: str = "none"
    """Balance every batch over ``malignancy`` (tumour, normal) or a column of the cells; ``none``: no balancing."""
    balance_strength: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """1: groups have equal fractions; 0: their own; in between: a group of n cells has weight n^(1 - this)."""
    prefetch: Annotated[int, Field(ge=0, le=2**10)] = 2
    """Batches prepared ahead in a thread while a step is computed; 0: each when it is needed. Changes no result."""
    backed_above: Weight = 4.0
    """An h5ad file larger than this, in GB, stays on disk and is read when needed; 0: every h5ad file."""


class GraphMAEConfig(_Section):
    """Gene vectors from networks by a graph masked autoencoder (``cell-lm genes pretrain``)."""

    dim: Width = 512
    """Width of the gene vectors."""
    encoder: Literal["gin", "gat"] = "gin"
    """``gin``: sums over neighbours, weighted by score; ``gat``: attention with the score as input (slow on a CPU)."""
    layers: Depth = 2
    """Layers of the encoder."""
    hidden: Width = 512
    """Width of its hidden layers."""
    heads: Width = 4
    """``gat`` only: attention heads; must divide ``hidden``."""
    features: Literal["structure", "random"] = "structure"
    """Input features of a gene: NetMF of the networks (and co-expression, if cells are given), or random numbers."""
    window: Depth = 10
    """NetMF: window of the random walk, in steps."""
    negative: Annotated[float, Field(gt=0.0)] = 1.0
    """NetMF: number of negative samples."""
    combine_with: Literal["structure", "nothing"] = "structure"
    """Vectors joined with the learned codes: NetMF of the networks, or nothing (original GraphMAE)."""
    structure_power: Annotated[float, Field(ge=0.0)] = 2.0
    """Power of NetMF's eigenvalues in those vectors (features have 1, as DeepWalk); more stresses the leading axes."""
    code_weight: Annotated[float, Field(gt=0.0)] = 0.3
    """Length of a code, relative to length 1 of each block of NetMF joined with it."""
    mask_rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    """Fraction of the genes whose features are masked in a step."""
    replace_rate: Fraction = 0.05
    """Fraction of the masked genes that get the features of another gene instead of the mask."""
    gamma: Annotated[float, Field(ge=1.0)] = 2.0
    """Exponent of the scaled cosine error."""
    edge_rate: Fraction = 0.3
    """Fraction of the edges left out of message passing in a step; ``links`` predicts them."""
    links: Weight = 1.0
    """Weight of the loss that separates such edges from random pairs by cosine; 0: the original GraphMAE loss alone."""
    temperature: Annotated[float, Field(gt=0.0)] = 0.1
    """Temperature of the ``links`` loss."""
    pairs: Positive = 4096
    """Edges per step in the ``links`` loss; the other edges' nodes are the negatives of each edge."""
    dropout: Fraction = 0.1
    """Dropout on the input of each layer."""
    steps: Positive = 50
    """Optimiser steps, each on the whole graph; a resumed run may have more or fewer."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 4e-3
    """Peak learning rate of AdamW."""
    warmup: Fraction = 0.1
    """Fraction of the steps with a rising learning rate; it then falls along a cosine."""
    final_rate: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    """Learning rate at the end, as a fraction of the peak; 1: it stays at the peak."""
    weight_decay: Weight = 0.01
    """Decoupled weight decay."""
    clip: Annotated[float, Field(gt=0.0)] = 1.0
    """Largest gradient norm."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Random seed."""
    checkpoint_every: Positive = 10
    """Steps between two checkpoints."""

    @model_validator(mode="after")
    def _heads_fit(self) -> GraphMAEConfig:
        if self.encoder == "gat" and self.hidden % self.heads:
            raise ValueError(f"heads = {self.heads} does not divide hidden = {self.hidden}")
        return self


class AdaptConfig(_Section):
    """Adaptation of a model to unlabelled cells (``cell-lm adapt``): its linear path, then its refinement."""

    weight: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.4
    """Weight of the new cells in the components of the linear path; the rest is that of the model's own corpus."""
    new_genes: Annotated[int, Field(ge=0, le=2**16)] = 2000
    """Most variable genes of the new cells that join the reference genes of the model."""
    steps: Annotated[int, Field(ge=0, le=2**20)] = 0
    """Optimiser steps of the refinement, at most (300 take minutes); 0: only the linear path, in seconds."""
    batch_size: Annotated[int, Field(ge=2, le=2**16)] = 256
    """Cells per step."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: Weight = 0.01
    """Decoupled weight decay on matrices."""
    contrastive_weight: Weight = 0.03
    """Weight of the contrastive loss beside the reconstruction of the other half of the counts."""
    temperature: Annotated[float, Field(gt=0.0)] = 0.5
    """Temperature of the contrastive loss."""
    validation: Annotated[float, Field(gt=0.0, le=0.5)] = 0.1
    """Fraction of the cells that the refinement does not see, for early stopping."""
    validate_every: Positive = 25
    """Steps between two validations."""
    patience: Positive = 3
    """The refinement ends after so many validations without improvement."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Random seed."""


class FineTuneConfig(_Section):
    """Supervised fine-tuning of the encoder on labelled cells (:mod:`cell_lm.tasks.finetuning`)."""

    part: Literal["refinement", "last", "lora", "all"] = "refinement"
    """What is trained: ``refinement``: the block after the linear path, in seconds; ``last``: also the last layers and
    the read-out; ``lora``: low-rank changes of all linear layers; ``all``: the whole encoder, gene vectors included."""
    layers: Depth = 1
    """``last`` only: number of layers, from the last one."""
    rank: Width = 8
    """``lora`` only: rank of the changes."""
    steps: Positive = 200
    """Optimiser steps, at most; cells left out choose the best number of them."""
    batch_size: Annotated[int, Field(ge=1, le=2**16)] = 64
    """Cells per step."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 2e-4
    """Peak learning rate of AdamW."""
    warmup: Fraction = 0.1
    """Fraction of the steps with a rising learning rate; it then falls along a cosine."""
    final_rate: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    """Learning rate at the end, as a fraction of the peak."""
    weight_decay: Weight = 0.01
    """Decoupled weight decay on matrices."""
    clip: Annotated[float, Field(gt=0.0)] = 1.0
    """Largest gradient norm."""
    dropout: Fraction = 0.2
    """Dropout of CLS before the head; inside the encoder its own rate is used. Only while it is trained."""
    balanced: bool = True
    """All types weigh the same in the loss, whatever their number of cells; false: all cells do."""
    thinning: bool = False
    """In every second step, read a random half of the counts of each cell, as if sequenced at half the depth."""
    left_out: Annotated[float, Field(gt=0.0, le=0.5)] = 0.2
    """Fraction of the cells left out to choose the number of steps: whole donors where donors are given."""
    validate_every: Positive = 20
    """Steps between two looks at the cells left out."""
    patience: Positive = 4
    """The training ends after so many looks without improvement."""
    token_budget: Positive = 65536
    """Most genes in one forward and backward pass; it limits memory and changes no result by more than rounding."""
    repeat: bool = True
    """Once the number of steps is chosen, train again on all cells, those left out included."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Random seed."""


class PretrainConfig(_Section):
    """The configuration of a pretraining run."""

    preset: str = "small"
    """Name of the preset that the other settings override."""
    encoder: EncoderConfig = EncoderConfig()
    objectives: ObjectivesConfig = ObjectivesConfig()
    training: TrainingConfig = TrainingConfig()
    data: DataConfig = DataConfig()

    @model_validator(mode="after")
    def _one_has_its_part(self) -> PretrainConfig:
        parts = (self.objectives.masked, self.objectives.discrimination, self.objectives.contrastive)
        if not (self.encoder.linear_path or any(part.weight for part in parts)):
            raise ValueError("only reconstruction is on, which needs encoder.linear_path: nothing to learn")
        return self


PRESETS: dict[str, EncoderConfig] = {
    "tiny": EncoderConfig(
        attention="full",
        width=32,
        layers=2,
        heads=2,
        head_width=16,
        feedforward=64,
        gene_width=32,
        max_genes=512,
        latents=8,
        reference_genes=1000,
    ),
    "small": EncoderConfig(),
    "base": EncoderConfig(
        attention="full",
        width=512,
        layers=10,
        heads=8,
        head_width=64,
        feedforward=3072,
        gene_width=512,
        attended_genes=6000,
    ),
}
"""``tiny`` for tests; ``small`` for a laptop; ``base`` the paper's size (10 layers of width 512, > 50 M parameters)."""

_DOCS = "docs/configuration.md"
_Model = TypeVar("_Model", bound=BaseModel)


def parse(kind: type[_Model], values: object, *, where: str, docs: str = _DOCS) -> _Model:
    """Check ``values`` against ``kind``; the first error becomes one :class:`ConfigError` that names its key."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or kind.__name__
        message = "is not a known setting" if first["type"] == "extra_forbidden" else first["msg"]
        message = message.removeprefix("Value error, ")
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ConfigError(f"'{key}' {message}{more}", where=where, fix=f"See {docs} for all settings") from None


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged


def resolve_config(
    preset: str = "small", file: Path | None = None, overrides: dict[str, Any] | None = None
) -> PretrainConfig:
    """Return the configuration of a run: preset, TOML file, single settings; later ones override earlier ones.

    Parameters
    ----------
    preset
        ``tiny``, ``small`` or ``base``.
    file
        TOML with any of the tables ``encoder``, ``objectives``, ``training`` and ``data``.
    overrides
        Nested dictionary of single settings, as ``{"training": {"steps": 100}}``.

    Raises
    ------
    ConfigError
        An unknown preset or key, a value out of range, or a file that is not TOML.
    """
    if preset not in PRESETS:
        raise ConfigError(f"no preset is called '{preset}'", fix=f"Choose one of {', '.join(PRESETS)}")
    values: dict[str, Any] = {"preset": preset, "encoder": PRESETS[preset].model_dump()}
    if file is not None:
        try:
            values = _merge(values, read_toml(file))
        except (OSError, ValueError) as error:
            found = f"cannot be read as TOML ({reason(error)})"
            raise ConfigError(found, where=str(file), fix=f"See {_DOCS} for an example") from None
    values = _merge(values, overrides or {})
    if values["preset"] != preset:
        found = f"'preset' is '{values['preset']}' here, and '{preset}' where the run was started"
        raise ConfigError(found, where=str(file) if file else None, fix="Choose the preset by --preset alone")
    return parse(PretrainConfig, values, where=str(file) if file else f"preset '{preset}'")
