from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cell_lm.objectives.contrastive import info_nce


def views(cells: int, width: int = 16, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(cells)
    first = torch.randn(cells, width, generator=generator, dtype=torch.float64)
    second = first + 0.5 * torch.randn(cells, width, generator=generator, dtype=torch.float64)
    return F.normalize(first, dim=1).to(dtype), F.normalize(second, dim=1).to(dtype)


def whole(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """The loss by its definition: all logits at once, gradient by autograd."""
    first, second = first.clone().requires_grad_(), second.clone().requires_grad_()
    z, cells = torch.cat([first, second]), len(first)
    logits = (z @ z.T / temperature).masked_fill(torch.eye(2 * cells, dtype=torch.bool), -torch.inf)
    loss = F.cross_entropy(logits, torch.arange(2 * cells).roll(cells))
    loss.backward()  # type: ignore[no-untyped-call]
    assert first.grad is not None
    assert second.grad is not None
    return loss.detach(), first.grad, second.grad


@pytest.mark.parametrize("tile", [1, 3, 8, 64])
@pytest.mark.parametrize("cells", [2, 5, 12])
def test_loss_and_gradient_equal_the_definition_for_any_tile(cells: int, tile: int) -> None:
    expected = whole(*views(cells), 0.1)
    for got, want in zip(info_nce(*views(cells), 0.1, tile=tile), expected, strict=True):
        assert (got - want).abs().max() < 1e-12


@pytest.mark.parametrize("tile", [1, 3, 64])
@pytest.mark.parametrize("cut", [0, 1, 5, 12])
def test_ranks_that_share_the_rows_get_the_gradient_of_one_that_has_all(cut: int, tile: int) -> None:
    first, second = views(12)
    loss, *expected = info_nce(first, second, 0.1)
    own: list[Tensor] = []
    parts = [slice(0, cut), slice(cut, 12)]
    for part in parts:  # what each rank tells of its cells
        info_nce(
            first, second, 0.1, cells=part, share=lambda rows: own.append(rows) or first.new_zeros(12, 2), tile=tile
        )
    assert [rows.shape for rows in own] == [(cut, 2), (12 - cut, 2)]
    everyone = torch.cat(own)
    for part in parts:
        result = info_nce(first, second, 0.1, cells=part, share=lambda _: everyone, tile=tile)
        assert result[0] == pytest.approx(float(loss), rel=1e-12)
        for got, want in zip(result[1:], expected, strict=True):
            assert got.shape == want[part].shape
            assert torch.allclose(got, want[part], rtol=0, atol=1e-12)


def test_a_rank_that_hears_nothing_of_the_others_is_told_apart() -> None:
    """The mutant of sharing: log-sum-exp of the own cells only."""
    first, second = views(12)
    _, expected, _ = info_nce(first, second, 0.1)
    _, got, _ = info_nce(first, second, 0.1, cells=slice(0, 5))
    assert not torch.allclose(got, expected[:5], rtol=0, atol=1e-3)


@pytest.mark.parametrize("temperature", [0.005, 0.05, 1.0])
def test_float32_stays_finite_and_close_at_any_temperature(temperature: float) -> None:
    expected = whole(*views(40), temperature)
    result = info_nce(*views(40, dtype=torch.float32), temperature, tile=16)
    for got, want in zip(result, expected, strict=True):
        assert torch.isfinite(got).all()
        assert (got - want).norm() / want.norm().clamp(min=1e-3) < 1e-4


def test_half_precision_views_are_judged_in_float32() -> None:
    first, second = views(9, dtype=torch.bfloat16)
    result = info_nce(first, second, 0.1)
    assert {part.dtype for part in result} == {torch.float32}


def test_the_views_are_left_as_they_were() -> None:
    first, second = views(9)
    kept = first.clone(), second.clone()
    info_nce(first, second, 0.1)
    assert torch.equal(first, kept[0])
    assert torch.equal(second, kept[1])
