"""Attention roll-out: how much each gene contributes to CLS if only attention mixes the rows.

At every layer a row is half itself (the residual branch) and half what its attention, averaged over the heads, reads;
the layers are multiplied. The result does not depend on the head or a class: it is the same for every target.

References
----------
.. [1] Abnar & Zuidema (2020). Quantifying attention flow in transformers. ACL, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cell_lm.data.loading.batch import CellBatch
from cell_lm.errors import InputError
from cell_lm.model import CellLM
from cell_lm.nn.attention import FullAttention, LatentAttention, PerformerAttention, Projections
from cell_lm.tasks.attribution.explained import Explained


@dataclass(frozen=True)
class _Layer:
    """Attention of one cell, [rows, keys], and whether its keys are genes that latents read."""

    weights: Tensor
    reads: bool


def refuse_without_attention(model: CellLM) -> None:
    """Raise :class:`InputError` for an encoder without attention matrix, or whose attention has no part in CLS."""
    if not model.encoder.readout.corrects:
        found = "the transformer of this model has no part in CLS yet: its attention says nothing about the labels"
        raise InputError(found, where="method", fix="Choose integrated_gradients, gradient or occlusion")
    if any(isinstance(module, PerformerAttention) for module in model.modules()):
        found = "attention roll-out needs the attention of each gene, which a performer never forms"
        raise InputError(found, where="method", fix="Choose integrated_gradients, gradient or occlusion")


@torch.no_grad()
def attention_rollout(explained: Explained, batch: CellBatch) -> NDArray[np.float64]:
    """Return each gene's fraction of CLS, float64 [T]; the remainder to 1 is that of CLS or the latents.

    Genes that attention does not read have 0, and the linear path is not followed.
    """
    refuse_without_attention(explained.model)
    shares = np.zeros(batch.tokens)
    for number in range(len(batch)):
        cell = batch[number : number + 1]
        if cell.tokens:
            with _watched(explained.model.encoder, latent=explained.latent) as layers:
                explained.model.encoder(cell, hidden=None, counter=None, only_cls=True)
            read = (
                torch.isin(cell.genes, explained.model.encoder.readout.read(cell, None, None).batch.genes).cpu().numpy()
            )
            genes = _genes(layers, int(read.sum()))
            shares[batch.offsets[number] : batch.offsets[number + 1]][read] = genes.double().cpu().numpy()
    return shares


def _genes(layers: list[_Layer], genes: int) -> Tensor:
    """Follow CLS, the first row, from the last layer down to the genes, [T]."""
    last = layers[-1].weights
    row = torch.zeros(last.shape[1], dtype=last.dtype, device=last.device)
    row[0] = 1.0
    found = torch.zeros(genes, dtype=last.dtype, device=last.device)
    for layer in reversed(layers):
        passed = row[: len(layer.weights)] @ layer.weights / 2
        if layer.reads:
            found, row = found + passed, row / 2
        else:
            row = row / 2 + passed
    return found if any(layer.reads for layer in layers) else row[1:]


@contextmanager
def _watched(encoder: nn.Module, *, latent: bool) -> Iterator[list[_Layer]]:
    """Record the attention of every layer in a forward pass of one cell."""
    layers: list[_Layer] = []

    def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, Projections):
            layers.append(_Layer(_weights(module, arguments), latent and isinstance(module, FullAttention)))

    hooks = [module.register_forward_pre_hook(note) for module in encoder.modules() if isinstance(module, Projections)]
    try:
        yield layers
    finally:
        for hook in hooks:
            hook.remove()


def _weights(module: Projections, arguments: tuple[Any, ...]) -> Tensor:
    """Return the attention of a layer for its inputs, averaged over the heads."""
    if isinstance(module, LatentAttention):
        context, wanted = arguments[0][0], arguments[1] if len(arguments) > 1 else None
        rows = context[:wanted]
    else:
        rows, context = arguments[0], arguments[1]
    query, (key, _) = module.queries(rows), module.keys_values(context)
    logits = torch.einsum("nhk,mhk->hnm", query * query.shape[-1] ** -0.5, key)
    return logits.softmax(-1).mean(0)
