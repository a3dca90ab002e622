"""The encoder: from packed cells to one CLS vector per cell, and the states of the genes with hidden expression.

No positions (the genes of a cell are a set) and no operation across cells, so a cell's embedding does not depend on its
batch. There are two kinds of transformer: in :class:`TokenEncoder` all genes attend to each other (exactly, or by
random features); in :class:`LatentEncoder` a few latents attend to the genes and to each other, and hidden genes to the
latents. CLS is the sum of the linear path (:mod:`cell_lm.nn.linear_path`) and a correction that the transformer
computes, 0 before the first step.

Shapes: C cells, T genes over all of them, R = T + C rows with CLS, L latents, M predicted genes (hidden ones).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from cell_lm.config import EncoderConfig
from cell_lm.data.loading.batch import CellBatch, concatenate, to_device
from cell_lm.nn.attention import AbsorbedAttention, FullAttention, LatentAttention, PerformerAttention, Projections
from cell_lm.nn.counter import Counter, add_dropped, dropout
from cell_lm.nn.embedding import CellEmbedding
from cell_lm.nn.feed_forward import FeedForward, start_at_zero
from cell_lm.nn.layout import AttentionLayout, Segments, cell_of_gene
from cell_lm.nn.presence import Presence
from cell_lm.nn.readout import Readout

SITES_PER_LAYER = 8
"""Numbers of dropout sites a layer may use; site 0 is the embedding."""


@dataclass(frozen=True)
class Encoded:
    """Output of the encoder.

    Attributes
    ----------
    cls : Tensor
        [C, width]: the embedding of each cell.
    hidden : Tensor | None
        [M, width]: the states of the predicted genes, in the order of the batch; None with ``only_cls``.
    """

    cls: Tensor
    hidden: Tensor | None


class Encoder(Protocol):
    """The interface of an encoder."""

    def __call__(
        self,
        batch: CellBatch,
        *,
        hidden: Tensor | None,
        counter: Counter | None,
        only_cls: bool,
        presence: Tensor | None = None,
        predicted: Tensor | None = None,
    ) -> Encoded:
        """Encode a batch.

        Parameters
        ----------
        batch
            The cells.
        hidden
            bool [T]: genes whose expression is hidden. It may be on the CPU if the batch is on a GPU, which avoids
            waiting for the GPU.
        counter
            Source of the random numbers of dropout; None: no dropout.
        only_cls
            Compute only the embedding; ``Encoded.hidden`` is None.
        presence
            How much each gene is present, [V, T] in V variants: 0 for an absent gene, 1 for a present one, and
            differentiable in between (:mod:`cell_lm.nn.presence`). ``Encoded.cls`` is then [V, C, width]. Not allowed
            with dropout or hidden genes.
        predicted
            bool [T], where ``hidden`` is: the hidden genes whose states ``Encoded.hidden`` holds; None: all of them.
        """


class Layer(nn.Module):
    """Attention and feed-forward, with pre-norm residual connections and dropout on both branches."""

    def __init__(
        self, config: EncoderConfig, attention: Projections, site: int, *, feedforward: int | None = None
    ) -> None:
        super().__init__()
        self.norm_attention, self.norm_forward = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention = attention
        self.forward_block = FeedForward(config.width, feedforward or config.feedforward)
        self.site, self.rate = site, config.dropout

    def add(self, x: Tensor, branch: Tensor, keys: Tensor | None, site: int) -> Tensor:
        """Return ``x`` plus the branch under dropout; all [..., width], with one key per row."""
        return add_dropped(x, branch, keys, self.site + site, self.rate)

    def start_at_zero(self, *, attention: bool) -> Self:
        """Initialise the branches to add nothing: the last linear layer of each is zero."""
        for linear in [self.forward_block.out, *([self.attention.out] if attention else [])]:
            start_at_zero(linear)
        return self

    def feed_forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """Add the feed-forward branch."""
        return self.add(x, self.forward_block(self.norm_forward(x)), keys, 1)


class TokenLayer(Layer):
    """A layer over packed rows."""

    def forward(
        self,
        x: Tensor,
        keys: Tensor | None,
        layout: AttentionLayout,
        rows: Tensor | None,
        presence: Presence | None = None,
    ) -> Tensor:
        """Transform rows [R, width]; if ``rows`` gives the queries of the layout, only those are computed."""
        context = self.norm_attention(x)
        queries = context
        if rows is not None:
            x, queries = x.index_select(0, rows), context.index_select(0, rows)
            keys = None if keys is None else keys.index_select(0, rows)
        attended = self.attention(queries, context, layout, presence)
        return self.feed_forward(self.add(x, attended, keys, 0), keys)


class TokenEncoder(nn.Module):
    """CLS and all expressed genes attend to each other; ``full`` or ``performer``."""

    def __init__(self, config: EncoderConfig, genes: int) -> None:
        super().__init__()
        self.embedding = CellEmbedding(config, genes)
        self.cls = nn.Parameter(torch.empty(config.width).normal_(std=0.02))
        self.layers = nn.ModuleList(
            TokenLayer(config, self._attention(config), 1 + SITES_PER_LAYER * i) for i in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.readout = Readout(config, genes)
        self.genes, self.rate = genes, config.dropout

    @staticmethod
    def _attention(config: EncoderConfig) -> Projections:
        shape = (config.width, config.heads, config.head_width)
        return FullAttention(*shape) if config.attention == "full" else PerformerAttention(*shape, config.features)

    def _order(self, batch: CellBatch) -> Tensor:
        """Return the permutation that puts the CLS row of each cell, [C] at the end, in front of its genes."""
        genes, cells = batch.tokens, len(batch)
        order = np.insert(np.arange(genes), batch.offsets[:-1], genes + np.arange(cells))
        return to_device(order, batch.genes.device)

    def _keys(self, batch: CellBatch, counter: Counter | None, cell: Tensor, order: Tensor) -> Tensor | None:
        if counter is None:
            return None
        cells = len(batch)
        cell = torch.cat([cell, torch.arange(cells, device=cell.device)])
        token = torch.cat([batch.genes, batch.genes.new_full((cells,), self.genes)])
        return counter.rows(cell, token).index_select(0, order)

    def forward(
        self,
        batch: CellBatch,
        *,
        hidden: Tensor | None,
        counter: Counter | None,
        only_cls: bool,
        presence: Tensor | None = None,
        predicted: Tensor | None = None,
    ) -> Encoded:
        """See :class:`Encoder`."""
        if only_cls and counter is None and self.readout.is_all_of_cls:
            return Encoded(self.readout.without_transformer(batch, hidden, presence), None)
        read = self.readout.read(batch, hidden, presence, predicted)
        batch, masked, presence = read.batch, read.masked, read.presence
        linear = None if read.linear is None else read.linear.flatten(0, -2)
        variants = None if presence is None else len(presence)
        if presence is not None:
            batch = concatenate([batch] * len(presence))
        cells, device = len(batch), batch.genes.device
        order, cell = self._order(batch), cell_of_gene(batch)
        weights = None if presence is None else Presence.of(presence.reshape(1, -1), batch.offsets).with_cls(order)
        embedded = self.embedding(batch, None if masked is None else masked.mask)
        cls_state = self.cls.expand(cells, -1)
        if linear is not None:
            cls_state = cls_state + self.readout.state(linear)
        x = torch.cat([embedded, cls_state]).index_select(0, order)
        keys = self._keys(batch, counter, cell, order)
        x = dropout(x, keys, 0, self.rate)
        first = to_device(batch.offsets[:-1] + np.arange(cells), device)
        rows = Segments.of(batch.lengths + 1, device)
        layout = AttentionLayout(rows, rows)
        for layer in self.layers[:-1]:
            x = layer(x, keys, layout, None, weights)
        if only_cls or masked is None:
            from_cls = AttentionLayout(Segments.equal(cells, 1, device), rows)
            cls = self.readout(self.norm(self.layers[-1](x, keys, from_cls, first, weights)), linear)
            return Encoded(cls if variants is None else cls.unflatten(0, (variants, -1)), None)
        x = self.layers[-1](x, keys, layout, None, weights)
        row_of_gene = masked.index + cell.index_select(0, masked.index) + 1
        cls = self.readout(self.norm(x.index_select(0, first)), linear)
        return Encoded(cls, self.norm(x.index_select(0, row_of_gene)))


class CrossAttentionLayer(Layer):
    """Rows of one kind attend to rows of another kind of the same cell."""

    def __init__(
        self, config: EncoderConfig, attention: Projections, site: int, *, feedforward: int | None = None
    ) -> None:
        super().__init__(config, attention, site, feedforward=feedforward)
        self.norm_context = nn.LayerNorm(config.width)

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        keys: Tensor | None,
        layout: AttentionLayout,
        presence: Presence | None = None,
    ) -> Tensor:
        """Transform packed rows ``x`` [R, width], the queries, by attention to ``context`` [R', width]."""
        attended = self.attention(self.norm_attention(x), self.norm_context(context), layout, presence)
        return self.feed_forward(self.add(x, attended, keys, 0), keys)


class LatentLayer(Layer):
    """A layer among the latents of each cell."""

    def forward(self, x: Tensor, keys: Tensor | None, queries: int | None = None) -> Tensor:
        """Transform latents [C, L, width]; if ``queries`` is given, only the first ``queries`` are computed."""
        attended = self.attention(self.norm_attention(x), queries)
        if queries is not None:
            keys = None if keys is None else keys.view(x.shape[:2])[:, :queries].flatten()
            x = x[:, :queries]
        return self.feed_forward(self.add(x, attended, keys, 0), keys)


class LatentEncoder(nn.Module):
    """A few learned latents attend to the genes and to each other; the first latent is CLS.

    The cost is linear in the number of genes. A hidden gene is decoded by cross-attention to the latents; its query is
    its gene vector plus the vector of a hidden expression.
    """

    def __init__(self, config: EncoderConfig, genes: int) -> None:
        super().__init__()
        self.embedding = CellEmbedding(config, genes)
        self.latents = nn.Parameter(torch.empty(config.latents, config.width).normal_(std=0.02))
        after = [config.layers * i // config.cross_attentions for i in range(config.cross_attentions)]
        sites = iter(range(1, 10**6, SITES_PER_LAYER))
        shape = (config.width, config.heads, config.head_width)
        read = AbsorbedAttention if config.latents < config.head_width else FullAttention
        # CLS is initially only what the latents attend to, a mean of gene vectors, which differs by cell
        self.cross_attentions = nn.ModuleDict(
            {
                str(i): CrossAttentionLayer(config, read(*shape), next(sites)).start_at_zero(attention=False)
                for i in after
            }
        )
        self.layers = nn.ModuleList(
            LatentLayer(config, LatentAttention(*shape), next(sites)).start_at_zero(attention=True)
            for _ in range(config.layers)
        )
        self.decoder = CrossAttentionLayer(
            config, FullAttention(*shape), next(sites), feedforward=config.width
        ).start_at_zero(attention=True)
        self.norm = nn.LayerNorm(config.width)
        self.readout = Readout(config, genes)
        self.genes, self.rate = genes, config.dropout

    def forward(
        self,
        batch: CellBatch,
        *,
        hidden: Tensor | None,
        counter: Counter | None,
        only_cls: bool,
        presence: Tensor | None = None,
        predicted: Tensor | None = None,
    ) -> Encoded:
        """See :class:`Encoder`."""
        if only_cls and counter is None and self.readout.is_all_of_cls:
            return Encoded(self.readout.without_transformer(batch, hidden, presence), None)
        read = self.readout.read(batch, hidden, presence, predicted)
        batch, masked, presence, linear = read.batch, read.masked, read.presence, read.linear
        cells, device, (count, width) = len(batch), batch.genes.device, self.latents.shape
        weights = None if presence is None else Presence.of(presence, batch.offsets)
        variants = 1 if presence is None else len(presence)  # the genes are embedded once for all of them
        if linear is not None and presence is not None:
            linear = linear.transpose(0, 1).flatten(0, 1)
        gene_keys, latent_keys = self._keys(batch, counter)
        embedded = self.embedding(batch, None if masked is None else masked.mask)
        genes = dropout(embedded, gene_keys, 0, self.rate)
        latents = Segments.equal(cells, variants * count, device)
        layout = AttentionLayout(latents, Segments.of(batch.lengths, device))
        x = self.latents.expand(cells * variants, -1, -1)
        if linear is not None:
            x = torch.cat([x[:, :1] + self.readout.state(linear)[:, None], x[:, 1:]], dim=1)
        for i, layer in enumerate(self.layers):
            if str(i) in self.cross_attentions:
                rows = self.cross_attentions[str(i)](x.reshape(-1, width), genes, latent_keys, layout, weights)
                x = rows.view(cells * variants, count, width)
            queries = 1 if i == len(self.layers) - 1 and (only_cls or masked is None) else None
            x = layer(x, latent_keys, queries)
        if only_cls or masked is None:
            cls = self.readout(self.norm(x[:, 0]), linear)
            return Encoded(cls if presence is None else cls.unflatten(0, (cells, variants)).transpose(0, 1), None)
        decoding = AttentionLayout(Segments.of(masked.lengths, device), latents)
        cls = self.readout(self.norm(x[:, 0]), linear)
        return Encoded(cls, self._decode(batch.genes, masked.index, gene_keys, x, decoding))

    def _keys(self, batch: CellBatch, counter: Counter | None) -> tuple[Tensor | None, Tensor | None]:
        if counter is None:
            return None, None
        count, device = len(self.latents), batch.genes.device
        cell = torch.arange(len(batch), device=device).repeat_interleave(count)
        token = self.genes + torch.arange(count, device=device).repeat(len(batch))
        return counter.rows(cell_of_gene(batch), batch.genes), counter.rows(cell, token)

    def _decode(
        self, genes: Tensor, hidden: Tensor, gene_keys: Tensor | None, latents: Tensor, layout: AttentionLayout
    ) -> Tensor:
        """Return the states of the genes at ``hidden`` [M], [M, width]."""
        keys = None if gene_keys is None else gene_keys.index_select(0, hidden)
        queries = self.embedding.queries(genes.index_select(0, hidden))
        decoded: Tensor = self.decoder(queries, latents.flatten(0, 1), keys, layout)
        states: Tensor = self.norm(decoded)
        return states


def build_encoder(config: EncoderConfig, genes: int) -> TokenEncoder | LatentEncoder:
    """Return the encoder of the configuration, for a vocabulary of ``genes`` genes."""
    kinds: dict[str, Callable[[EncoderConfig, int], TokenEncoder | LatentEncoder]]
    kinds = {"full": TokenEncoder, "performer": TokenEncoder, "latent": LatentEncoder}
    return kinds[config.attention](config, genes)
