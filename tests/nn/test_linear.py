from __future__ import annotations

import pytest
import torch
from torch import nn

from cell_lm.nn import linear as module
from cell_lm.nn.attention import scaled_dot_product
from cell_lm.nn.linear import Linear

SHAPES = [(37, 24, 40), (37, 40, 24), (3, 5, 24, 24), (1, 8, 1), (8 * module.BLOCK + 5, 8, 6)]


def both(*shape: int, bias: bool = True) -> tuple[Linear, nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    *rows, width, out = shape
    ours, plain = Linear(width, out, bias=bias), nn.Linear(width, out, bias=bias)
    plain.load_state_dict(ours.state_dict())
    return ours, plain, torch.randn(*rows, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_result_and_gradients_are_those_of_pytorch(shape: tuple[int, ...], bias: bool) -> None:
    if module._PRODUCT is None:
        pytest.skip("this PyTorch has no oneDNN")
    ours, plain, x = both(*shape, bias=bias)
    assert module._fits_onednn(x, ours.weight)
    grads = []
    for layer in (ours, plain.double()):
        leaf = x.to(layer.weight.dtype, copy=True).requires_grad_()
        out = layer(leaf)
        out.sin().sum().backward()
        grads.append([out.detach(), leaf.grad, *(p.grad for p in layer.parameters())])
    for got, expected in zip(*grads, strict=True):
        assert got is not None
        assert expected is not None
        assert got.shape == expected.shape
        assert (got - expected).norm() <= 1e-6 * expected.norm() + 1e-7 * len(x) ** 0.5


@pytest.mark.parametrize("case", ["float64", "autocast", "no rows", "one row", "no oneDNN"])
def test_what_onednn_is_not_for_goes_to_pytorch(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, plain, x = both(6, 8, 4)
    if case == "float64":
        ours, plain, x = ours.double(), plain.double(), x.double()
    x = {"no rows": x[:0], "one row": x[0]}.get(case, x)
    monkeypatch.setattr(module, "_product", None)  # whoever calls it fails
    if case == "no oneDNN":
        monkeypatch.setattr(module, "_PRODUCT", None)
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
        got, expected = ours(x), plain(x)
    assert got.dtype == (torch.bfloat16 if case == "autocast" else x.dtype)
    assert torch.equal(got, expected)


def test_a_frozen_layer_passes_gradients_on_and_gathers_none() -> None:
    ours, _, x = both(9, 8, 4)
    ours.requires_grad_(False)
    leaf = x.requires_grad_()
    ours(leaf).sum().backward()
    assert leaf.grad is not None
    assert torch.allclose(leaf.grad, ours.weight.sum(0).expand(9, -1))
    assert ours.weight.grad is None


def test_under_autocast_attention_on_the_cpu_is_computed_in_float32_and_returned_in_half() -> None:
    q, k, v = (torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(i)).bfloat16() for i in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        got = scaled_dot_product(q[None], k[None], v[None])
    expected = torch.nn.functional.scaled_dot_product_attention(q[None].float(), k[None].float(), v[None].float())
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, expected.bfloat16())
