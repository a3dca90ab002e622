"""CellLM: the encoder and the heads of pretraining as one module, saved as a folder anyone can read.

A model folder holds ``config.json``, ``model.safetensors``, ``vocabulary.json`` and ``README.md`` (the model card), the
conventions of the Hugging Face hub.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cell_lm import model_folder
from cell_lm.config import EncoderConfig, ObjectivesConfig, Precision
from cell_lm.data.cells import CellData
from cell_lm.data.loading.batch import CellBatch
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.errors import GeneError
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.nn.attention import PerformerAttention
from cell_lm.nn.counter import Counter, mix
from cell_lm.nn.encoder import build_encoder
from cell_lm.nn.heads import ExpressionHead, MalignancyHead, ProjectionHead


@dataclass(frozen=True)
class Output:
    """What a forward pass of pretraining gives, for C cells (or views of cells) with M hidden genes.

    Attributes
    ----------
    cls : Tensor
        [C, width]: the embeddings.
    projection : Tensor
        [C, projection]: their place on the unit sphere of the contrastive objective.
    malignancy : Tensor
        [C]: logit of being a tumour cell.
    expression : Tensor
        [M, bins]: logits of the expression of the hidden genes; [0, bins] where none were asked for.
    """

    cls: Tensor
    projection: Tensor
    malignancy: Tensor
    expression: Tensor


class CellLM(nn.Module):
    """A cell language model.

    Parameters
    ----------
    config
        Of the encoder.
    vocabulary
        The genes it knows.
    objectives
        What it is (or was) pretrained for; shapes the projection head and goes into the model card.
    seed
        Of the initial weights; the global generator is left as it is.
    """

    def __init__(
        self,
        config: EncoderConfig,
        vocabulary: Vocabulary,
        objectives: ObjectivesConfig | None = None,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.objectives = objectives or ObjectivesConfig()
        projection = self.objectives.contrastive.projection
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = build_encoder(config, len(vocabulary))
            self.expression_head = ExpressionHead(config.width, config.bins)
            self.malignancy_head = MalignancyHead(config.width)
            self.projection_head = ProjectionHead(config.width, projection)
        self._drawn: int | None = None
        self.redraw_features(seed, 0)

    def forward(self, batch: CellBatch, *, hidden: Tensor, counter: Counter | None, only_cls: bool = False) -> Output:
        """Run encoder and heads.

        Parameters
        ----------
        batch
            The cells.
        hidden
            bool [T]: genes whose expression is hidden and asked for.
        counter
            Where dropout comes from; None: no dropout.
        only_cls
            Compute no more than ``cls``, ``projection`` and ``malignancy`` need.
        """
        encoded = self.encoder(batch, hidden=hidden, counter=counter, only_cls=only_cls)
        states = encoded.cls.new_zeros(0, self.config.width) if encoded.hidden is None else encoded.hidden
        return Output(
            encoded.cls,
            self.projection_head(encoded.cls),
            self.malignancy_head(encoded.cls),
            self.expression_head(states),
        )

    def no_projection(self) -> Tensor:
        """Return the projections of no cell, [0, projection]."""
        width = self.objectives.contrastive.projection or self.config.width
        parameter = next(self.parameters())
        return torch.zeros(0, width, dtype=parameter.dtype, device=parameter.device)

    def redraw_features(self, seed: int, step: int) -> None:
        """Draw the random features of ``performer`` for a step; every ``redraw_every`` steps they are others."""
        draw = step // self.config.redraw_every
        layers = [module for module in self.modules() if isinstance(module, PerformerAttention)]
        if not layers or draw == self._drawn:
            return
        for number, layer in enumerate(layers):
            layer.redraw(int(mix(mix(mix(torch.tensor(seed)) ^ draw) ^ number)))
        self._drawn = draw

    @torch.inference_mode()
    def encode(
        self,
        cells: CellData,
        *,
        token_budget: int = 65536,
        precision: Precision = "float32",
        progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Embed cells.

        Parameters
        ----------
        cells
            Cells aligned to this model's vocabulary.
        token_budget
            Genes that one forward pass may hold. Bounds memory; the embedding of a cell does not depend on it.
        precision
            Arithmetic of the encoder. ``"bfloat16"`` is faster and differs from float32 by its rounding.
        progress
            Told the number of cells done, a chunk at a time.

        Returns
        -------
        ndarray
            float32 [cells, width], the CLS embedding of each cell.

        Raises
        ------
        GeneError
            The cells are aligned to another vocabulary.
        """
        if cells.vocabulary.hash != self.vocabulary.hash:
            raise GeneError(
                f"the cells are aligned to a vocabulary of {len(cells.vocabulary):,} genes that is not the model's",
                where=cells.name,
                fix="Read them with vocabulary=model.vocabulary",
            )
        tokenise = Tokeniser(self.config.bins, self.config.max_genes)
        device = next(self.parameters()).device
        embedding = np.empty((len(cells), self.config.width), np.float32)
        block = 2048
        for start in range(0, len(cells), block):
            done = start
            batch = tokenise(cells, np.arange(start, min(start + block, len(cells))))
            for chunk in batch.chunks(token_budget):
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                    cls = self.encoder(chunk.to(device), hidden=None, counter=None, only_cls=True).cls
                embedding[done : done + len(chunk)] = cls.float().cpu().numpy()
                done += len(chunk)
                if progress is not None:
                    progress(len(chunk))
        return embedding

    def parameter_count(self) -> int:
        """Return the number of trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def save_pretrained(
        self, path: str | Path, *, notes: str = "", tensors: Mapping[str, Tensor] | None = None
    ) -> None:
        """Write a model folder, atomically; one that was there is replaced.

        Parameters
        ----------
        path
            The folder.
        notes
            Markdown that goes into the model card: what it was trained on, and how well it did.
        tensors
            The weights to write; default: those of the model, which must not be sharded over processes then.
        """
        model_folder.write(
            Path(path),
            encoder=self.config,
            objectives=self.objectives,
            vocabulary=self.vocabulary,
            tensors=self.state_dict() if tensors is None else tensors,
            notes=notes,
        )

    @classmethod
    def from_pretrained(cls, path: str | Path) -> CellLM:
        """Read a model folder, a run folder that holds one, or a repository of the Hugging Face hub.

        Raises
        ------
        ModelError
            There is no model, or a file of it is missing, damaged, or of a newer version.
        """
        folder = model_folder.find(path)
        encoder, objectives = model_folder.read_config(folder)
        weights = model_folder.read_weights(folder)
        vocabulary = Vocabulary.load(folder / model_folder.VOCABULARY)
        model_folder.refuse_larger_model(folder, encoder, objectives, len(vocabulary), weights)
        model = cls(encoder, vocabulary, objectives)
        model_folder.load_weights(folder, model, weights)
        return model.eval()
