"""Attention roll-out against the product of its matrices, and its attention against that of the layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from cell_lm.config import EncoderConfig
from cell_lm.data import CellData
from cell_lm.data.loading.batch import CellBatch
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.nn.attention import FullAttention, LatentAttention, Projections
from cell_lm.nn.encoder import LatentEncoder, TokenEncoder
from cell_lm.nn.layout import AttentionLayout, Segments
from cell_lm.tasks import CellTypeClassifier
from cell_lm.tasks.attribution.explained import Explained
from cell_lm.tasks.attribution.rollout import _weights, attention_rollout

WIDTH, HEADS, HEAD_WIDTH = 32, 2, 16


def sharp_model(attention: str, reads: int = 1) -> CellLM:
    """An encoder of two layers that attends unevenly, and of whose branches none is silent."""
    shape = {"width": WIDTH, "layers": 2, "heads": HEADS, "head_width": HEAD_WIDTH, "feedforward": 64, "gene_width": 32}
    config = EncoderConfig.model_validate(
        shape | {"attention": attention, "latents": 4, "cross_attentions": reads, "max_genes": 40, "linear_path": False}
    )
    model = CellLM(config, Vocabulary.human()).eval()
    generator = torch.Generator().manual_seed(5)
    for module in model.encoder.modules():
        if isinstance(module, Projections):
            for linear in (module.query, module.key_value, module.out):
                nn.init.normal_(linear.weight, std=0.3, generator=generator)
    return model


def attention_of(module: Projections, rows: Tensor, context: Tensor) -> Tensor:
    """What PyTorch's attention reads of each key, mean over the heads: its values are unit vectors."""
    query, key = module.queries(rows).transpose(0, 1), module.keys_values(context)[0].transpose(0, 1)
    units = torch.eye(len(context)).expand(HEADS, -1, -1)
    return scaled_dot_product_attention(query, key, units).mean(0)


def inputs(encoder: nn.Module, cell: CellBatch, modules: list[Projections]) -> list[tuple[Tensor, ...]]:
    """What each attention is called with in a forward pass of the cell."""
    seen: dict[nn.Module, tuple[Tensor, ...]] = {}
    hooks = [module.register_forward_pre_hook(lambda it, said: seen.update({it: said})) for module in modules]
    encoder(cell, hidden=None, counter=None, only_cls=True)
    for hook in hooks:
        hook.remove()
    return [seen[module] for module in modules]


def full_product(encoder: TokenEncoder, cell: CellBatch) -> Tensor:
    """Rows and columns: CLS, genes."""
    modules = [layer.attention for layer in encoder.layers]
    first, second = (
        (attention_of(module, said[1], said[1]) + torch.eye(cell.tokens + 1)) / 2
        for module, said in zip(modules, inputs(encoder, cell, modules), strict=True)
    )
    return (second @ first)[0, 1:]


def latent_product(encoder: LatentEncoder, cell: CellBatch) -> Tensor:
    """Rows and columns: latents (CLS first), genes; a gene stays what it is."""
    count = len(encoder.latents)
    product = torch.eye(count + cell.tokens)
    for place, layer in enumerate(encoder.layers):
        for step in [
            *([encoder.cross_attentions[str(place)]] if str(place) in encoder.cross_attentions else []),
            layer,
        ]:
            [said] = inputs(encoder, cell, [step.attention])
            matrix = torch.eye(count + cell.tokens)
            matrix[:count] /= 2
            if step is layer:
                matrix[:count, :count] += attention_of(step.attention, said[0][0], said[0][0]) / 2
            else:
                matrix[:count, count:] += attention_of(step.attention, said[0], said[1]) / 2
            product = matrix @ product
    return product[0, count:]


@torch.no_grad()
@pytest.mark.parametrize(("attention", "reads"), [("full", 1), ("latent", 1), ("latent", 2)])
def test_roll_out_is_the_product_of_half_attention_and_half_the_row_itself(
    reference_cells: CellData, attention: str, reads: int
) -> None:
    model = sharp_model(attention, reads)
    explained = Explained.of(CellTypeClassifier(model).fit(reference_cells[:40], "cell_type"))
    batch = Tokeniser(model.config.bins, model.config.max_genes)(reference_cells, np.arange(2))
    found = attention_rollout(explained, batch)
    product = full_product if attention == "full" else latent_product
    for number in range(2):
        expected = product(model.encoder, batch[number : number + 1]).numpy()
        assert expected.max() > 2 * np.median(expected)  # even attention would hide mistakes
        np.testing.assert_allclose(found[batch.offsets[number] : batch.offsets[number + 1]], expected, rtol=1e-4)


def averaging(attention: Projections) -> Projections:
    """Let all heads carry the values of the first, and the way back be their mean (the columns after are 0)."""
    generator = torch.Generator().manual_seed(5)
    nn.init.normal_(attention.query.weight, std=0.5, generator=generator)
    nn.init.normal_(attention.key_value.weight, std=0.5, generator=generator)
    inner = HEADS * HEAD_WIDTH
    for part in (attention.key_value.weight, attention.key_value.bias):
        part[inner:] = part[inner : inner + HEAD_WIDTH].repeat(HEADS, *[1] * (part.dim() - 1))
    attention.out.weight.zero_()[:HEAD_WIDTH] = torch.eye(HEAD_WIDTH).repeat(1, HEADS) / HEADS
    attention.out.bias.zero_()
    return attention


@torch.no_grad()
@pytest.mark.parametrize("kind", ["full", "all latents", "first latent"])
def test_the_weights_of_a_layer_times_its_values_are_what_it_computes(kind: str) -> None:
    rows, context = (torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(n)) for n in (3, 9))
    shape, cpu = (WIDTH, HEADS, HEAD_WIDTH), torch.device("cpu")
    layout = AttentionLayout(Segments.equal(1, 3, cpu), Segments.equal(1, 9, cpu))
    if kind == "full":
        module, said = averaging(FullAttention(*shape)), (rows, context, layout)
    else:
        module, said = averaging(LatentAttention(*shape)), (context[None], 1 if kind == "first latent" else None)
    weights = _weights(module, said)
    assert weights.shape == ({"full": 3, "all latents": 9, "first latent": 1}[kind], 9)
    assert weights.max() > 3 / 9
    value = module.keys_values(context)[1][:, 0]
    computed = module(*said).reshape(-1, WIDTH)
    torch.testing.assert_close(weights @ value, computed[:, :HEAD_WIDTH], atol=1e-5, rtol=1e-4)
