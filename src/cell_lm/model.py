"""CellLM: the encoder and the heads of pretraining as one module, saved as a folder.

A model folder holds ``config.json``, ``model.safetensors``, ``vocabulary.json`` and ``README.md`` (the model card), by
the conventions of the Hugging Face hub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cell_lm import model_folder
from cell_lm.config import EncoderConfig, ObjectivesConfig, Precision
from cell_lm.data.loading.batch import CellBatch
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.data.protocol import Cells
from cell_lm.errors import GeneError
from cell_lm.genes.reference import Reference
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.hub import Download, upload
from cell_lm.model_card import ModelCard
from cell_lm.nn.attention import PerformerAttention
from cell_lm.nn.counter import Counter, mix
from cell_lm.nn.encoder import build_encoder
from cell_lm.nn.heads import ExpressionHead, MalignancyHead, ProjectionHead, ResidualHead
from cell_lm.terminal import refuse_uncallable


@dataclass(frozen=True)
class Output:
    """Output of a forward pass of pretraining, for C cells (or views of cells) with M predicted genes.

    Attributes
    ----------
    cls : Tensor
        [C, width]: the embeddings.
    projection : Tensor
        [C, projection]: unit vectors that the contrastive objective compares.
    malignancy : Tensor
        [C]: logit of being a tumour cell.
    expression : Tensor
        [M, bins]: logits of the expression of the predicted genes; [0, bins] with ``only_cls``.
    residuals : Tensor
        [C, S]: predicted residuals of the reference genes; [0, S] unless ``reconstruct`` is set.
    """

    cls: Tensor
    projection: Tensor
    malignancy: Tensor
    expression: Tensor
    residuals: Tensor


class CellLM(nn.Module):
    """A cell language model.

    Parameters
    ----------
    config
        Configuration of the encoder.
    vocabulary
        The genes that the model has an embedding for.
    objectives
        Objectives of the pretraining; they set the size of the projection head and are listed in the model card.
    seed
        Seed of the initial weights; the global random generator is not changed.

    Attributes
    ----------
    discriminated : Discriminated or None
        The tumour and normal cells that the discrimination head was trained on; None: it was not.
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
            genes = config.reference_genes
            self.residual_head = ResidualHead(config.width, genes) if config.linear_path else None
        self.discriminated: model_folder.Discriminated | None = None
        self._drawn: tuple[int, int] | None = None
        self.register_load_state_dict_post_hook(_features_were_loaded)  # type: ignore[no-untyped-call]
        self.redraw_features(seed, 0)

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    @property
    def reference(self) -> Reference | None:
        """The reference of the linear path; None without one."""
        path = self.encoder.readout.path
        return None if path is None else path.reference

    def set_reference(self, reference: Reference) -> None:
        """Set the reference of the linear path, if the encoder has one."""
        path = self.encoder.readout.path
        if path is not None and self.residual_head is not None:
            path.set_reference(reference)
            self.residual_head.set_reference(path.components, path.centre, path.scale)

    def forward(
        self,
        batch: CellBatch,
        *,
        hidden: Tensor,
        counter: Counter | None,
        only_cls: bool = False,
        reconstruct: bool = False,
        predicted: Tensor | None = None,
    ) -> Output:
        """Run encoder and heads.

        Parameters
        ----------
        batch
            The cells.
        hidden
            bool [T]: genes whose expression is hidden; may be on the CPU when the batch is on a GPU.
        counter
            Source of the random numbers of dropout; None: no dropout.
        only_cls
            Do not compute ``expression``.
        reconstruct
            Compute ``residuals``.
        predicted
            bool [T], where ``hidden`` is: the hidden genes that are predicted; None: all of them.
        """
        encoded = self.encoder(batch, hidden=hidden, counter=counter, only_cls=only_cls, predicted=predicted)
        states = encoded.cls.new_zeros(0, self.config.width) if encoded.hidden is None else encoded.hidden
        return Output(
            encoded.cls,
            self.projection_head(encoded.cls),
            self.malignancy_head(encoded.cls),
            self.expression_head(states),
            self._residuals(encoded.cls if reconstruct else encoded.cls[:0]),
        )

    def _residuals(self, cls: Tensor) -> Tensor:
        if self.residual_head is None:
            return cls.new_zeros(len(cls), 0)
        residuals: Tensor = self.residual_head(cls)
        return residuals

    def no_projection(self) -> Tensor:
        """Return an empty projection, [0, projection]."""
        width = self.objectives.contrastive.projection or self.config.width
        parameter = next(self.parameters())
        return torch.zeros(0, width, dtype=parameter.dtype, device=parameter.device)

    def _performers(self) -> list[PerformerAttention]:
        return [module for module in self.modules() if isinstance(module, PerformerAttention)]

    def redraw_features(self, seed: int, step: int) -> None:
        """Draw the random features of ``performer`` for a step; they change every ``redraw_every`` steps.

        They depend on the seed and on ``step // redraw_every``, and are not drawn again if they are current.
        """
        draw = (seed, step // self.config.redraw_every)
        layers = self._performers()
        if not layers or draw == self._drawn:
            return
        for number, layer in enumerate(layers):
            layer.redraw(int(mix(mix(mix(torch.tensor(seed)) ^ draw[1]) ^ number)))
        self._drawn = draw

    @contextmanager
    def features_of(self, seed: int, step: int) -> Iterator[None]:
        """Use the random features of a step, then restore the previous ones."""
        before, drawn = [layer.directions.clone() for layer in self._performers()], self._drawn
        self.redraw_features(seed, step)
        try:
            yield
        finally:
            for layer, directions in zip(self._performers(), before, strict=True):
                layer.directions.copy_(directions)
            self._drawn = drawn

    @torch.inference_mode()
    def encode(
        self,
        cells: Cells,
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
            Most genes in one forward pass. It limits memory; the embedding of a cell does not depend on it.
        precision
            Arithmetic of the encoder. ``"bfloat16"`` is faster and differs from float32 by its rounding.
        progress
            Called with the number of cells done, a chunk at a time.

        Returns
        -------
        ndarray
            float32 [cells, width], the CLS embedding of each cell.

        Raises
        ------
        GeneError
            The cells are aligned to another vocabulary.
        """
        refuse_uncallable(progress)
        if cells.vocabulary.hash != self.vocabulary.hash:
            raise GeneError(
                f"the cells are aligned to a vocabulary of {len(cells.vocabulary):,} genes that is not the model's",
                where=cells.name,
                fix="Read them with vocabulary=model.vocabulary",
            )
        embedding = np.empty((len(cells), self.config.width), np.float32)
        done, ready = 0, list[Tensor]()

        def collect(most: int) -> None:
            nonlocal done
            while len(ready) > most:
                cls = ready.pop(0).float().cpu().numpy()
                embedding[done : done + len(cls)] = cls
                done += len(cls)
                if progress is not None:
                    progress(len(cls))

        # one context for all chunks, so that the weights are rounded once
        with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            for chunk in self._chunks(cells, token_budget):
                ready.append(self.encoder(chunk, hidden=None, counter=None, only_cls=True).cls)
                collect(1)  # the previous chunk: a GPU computes this chunk while the CPU prepares the next
        collect(0)
        return embedding

    def _chunks(self, cells: Cells, token_budget: int) -> Iterator[CellBatch]:
        """Yield cells as tokens on the device, in order."""
        tokenise, block = Tokeniser(self.config.bins, self.config.max_genes), 2048
        for start in range(0, len(cells), block):
            for chunk in tokenise(cells, np.arange(start, min(start + block, len(cells)))).chunks(token_budget):
                yield chunk.to(self.device)

    def parameter_count(self) -> int:
        """Return the number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def save_pretrained(
        self,
        path: str | Path,
        *,
        notes: str = "",
        card: ModelCard | None = None,
        tensors: Mapping[str, Tensor] | None = None,
        half: bool = False,
    ) -> None:
        """Write a model folder atomically; an existing one is replaced.

        Parameters
        ----------
        path
            The folder.
        notes
            Markdown for the model card: what the model was trained on, and its scores.
        card
            More for the card: licence, data sets, metrics, base model, limits.
        tensors
            The weights to write. Default: those of the model, which then must not be sharded over processes.
        half
            Write the large matrices (gene vectors, components) in half precision, which changes them by up to .05 %.
        """
        model_folder.write(
            Path(path),
            encoder=self.config,
            objectives=self.objectives,
            vocabulary=self.vocabulary,
            tensors=self.state_dict() if tensors is None else tensors,
            card=_card(card, notes),
            half=half,
            discriminated=self.discriminated,
        )

    def push_to_hub(
        self,
        repository: str,
        *,
        notes: str = "",
        card: ModelCard | None = None,
        token: str | bool | None = None,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str = "Model of cell-lm",
    ) -> str:
        """Upload the model to the Hugging Face hub, in one commit.

        Parameters
        ----------
        repository
            ``"owner/name"``; it is made where there is none.
        notes, card
            For the model card, as in :meth:`save_pretrained`. State the licence: ``ModelCard(licence="bsd-3-clause")``.
        token
            Access token with the right to write; None: that of ``HF_TOKEN`` or of ``hf auth login``.
        private
            Whether a new repository is private; None: the default of its owner.
        revision
            Branch to commit to; None: the main one.
        commit_message
            Message of the commit.

        Returns
        -------
        str
            Address of the commit.

        Raises
        ------
        ModelError
            No access, no such branch, or the hub cannot be reached.
        """
        with TemporaryDirectory() as place:
            folder = Path(place) / "model"
            model_folder.write(
                folder,
                encoder=self.config,
                objectives=self.objectives,
                vocabulary=self.vocabulary,
                tensors=self.state_dict(),
                card=_card(card, notes),
                name=repository,
                discriminated=self.discriminated,
            )
            return upload(
                folder,
                repository,
                sorted(model_folder.FILES),
                token=token,
                private=private,
                revision=revision,
                message=commit_message,
            )

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> CellLM:
        """Read a model of the package (``"small"``), a model or run folder, or a repository of the Hugging Face hub.

        Parameters
        ----------
        path
            Name, folder, or ``"owner/name"`` of a repository; a folder of that name here comes first.
        revision
            Of a repository: branch, tag or commit; None: the main branch.
        token
            Of a repository: access token; None: that of ``HF_TOKEN`` or of ``hf auth login``; False: none.
        cache_dir
            Of a repository: folder of the downloads; None: the usual one.
        local_files_only
            Of a repository: read only what was downloaded before.

        Raises
        ------
        ModelError
            There is no model, or one of its files is missing, damaged, or of a newer version; or there is no such
            repository or revision, no access to it, or it cannot be reached.
        """
        folder = model_folder.find(path, Download(revision, token, cache_dir, local_files_only))
        encoder, objectives = model_folder.read_config(folder)
        weights = model_folder.read_weights(folder)
        vocabulary = Vocabulary.load(folder / model_folder.VOCABULARY)
        model_folder.refuse_larger_model(folder, encoder, objectives, len(vocabulary), weights)
        model = cls(encoder, vocabulary, objectives)
        model_folder.load_weights(folder, model, weights)
        model.discriminated = model_folder.read_discriminated(folder)
        return model.eval()


def _card(card: ModelCard | None, notes: str) -> ModelCard:
    """Return the card with further notes."""
    card = card or ModelCard()
    return replace(card, notes="\n\n".join(part for part in (card.notes.strip(), notes.strip()) if part))


def _features_were_loaded(model: nn.Module, _: object) -> None:
    """Mark the random features as outdated: the loaded ones may be of another seed or step."""
    assert isinstance(model, CellLM)
    model._drawn = None
