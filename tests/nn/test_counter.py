from __future__ import annotations

import numpy as np
import pytest
import torch

from cell_lm.nn.counter import Counter, _keep_anywhere, add_dropped, dropout, keep_mask, mix


def keys(rows: int, seed: int = 0) -> torch.Tensor:
    cells = torch.arange(rows) // 7
    return Counter.of(seed, 3, torch.arange(rows // 7 + 1), 0).rows(cells, torch.arange(rows))


def test_splitmix_matches_its_published_first_outputs() -> None:
    # the reference generator seeded with 1234567: mix of consecutive multiples of the golden gamma
    golden = 0x9E3779B97F4A7C15
    state = [(1234567 + i * golden) % 2**64 for i in range(3)]
    signed = torch.tensor([s - 2**64 if s >= 2**63 else s for s in state])
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [int(x) % 2**64 for x in mix(signed)] == expected


def test_the_compiled_mask_and_the_tensor_expression_agree_bit_for_bit() -> None:
    k = keys(501)
    assert torch.equal(keep_mask(k, 5, 67, 0.1), _keep_anywhere(mix(k ^ 5), 67, round(0.1 * 2**32)))


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_features_are_dropped_at_the_rate_independently_of_rows_features_and_places(rate: float) -> None:
    rows, width = 4000, 64
    masks = torch.stack([keep_mask(keys(rows), place, width, rate) for place in range(2)])
    dropped = ~masks.flatten(1)
    spread = (rate * (1 - rate) / dropped.numel()) ** 0.5
    assert dropped.float().mean() == pytest.approx(rate, abs=5 * spread)
    bound = 5 / (rows * width) ** 0.5
    for a, b in [(masks[0], masks[1]), (masks[0, 1:], masks[0, :-1]), (masks[0, :, 1:], masks[0, :, :-1])]:
        assert abs(np.corrcoef(a.flatten(), b.flatten())[0, 1]) < bound


@pytest.mark.parametrize("other", [{"seed": 1}, {"step": 1}, {"view": 1}, {"slots": torch.arange(1, 5)}])
def test_every_level_of_the_counter_changes_the_mask(other: dict[str, object]) -> None:
    base: dict[str, object] = {"seed": 0, "step": 0, "slots": torch.arange(4), "view": 0}
    rows = torch.arange(4).repeat_interleave(8), torch.arange(32)
    first, second = (Counter.of(**levels).rows(*rows) for levels in (base, base | other))  # type: ignore[arg-type]
    agreement = (keep_mask(first, 0, 64, 0.5) == keep_mask(second, 0, 64, 0.5)).float().mean()
    assert 0.4 < agreement < 0.6


def test_a_row_meets_the_same_mask_in_whatever_company() -> None:
    k = keys(100)
    whole = keep_mask(k, 2, 16, 0.3)
    assert torch.equal(whole[40:60].flip(0), keep_mask(k[40:60].flip(0), 2, 16, 0.3))


def test_dropout_scales_what_it_keeps_and_its_gradient_meets_the_same_mask() -> None:
    x = torch.randn(50, 12, dtype=torch.float64, requires_grad=True)
    k = keys(50)
    out = dropout(x, k, 4, 0.25)
    keep = keep_mask(k, 4, 12, 0.25)
    assert torch.allclose(out, torch.where(keep, x / 0.75, 0.0), rtol=1e-12, atol=0)
    assert torch.equal(out == 0, ~keep)
    assert torch.autograd.gradcheck(lambda y: dropout(y, k, 4, 0.25), (x,))


def test_without_keys_or_rate_nothing_is_dropped() -> None:
    x = torch.randn(5, 4)
    assert dropout(x, None, 0, 0.5) is x
    assert dropout(x, keys(5), 0, 0.0) is x


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_adding_what_survives_is_dropout_and_a_sum_in_one(dtype: torch.dtype) -> None:
    k, generator = keys(50), torch.Generator().manual_seed(0)
    wide = torch.promote_types(dtype, torch.float32)
    base = torch.randn(50, 12, dtype=wide, generator=generator, requires_grad=True)
    x = torch.randn(50, 12, dtype=wide, generator=generator).to(dtype).requires_grad_()
    out = add_dropped(base, x, k, 4, 0.25)
    assert out.dtype == wide
    assert torch.allclose(out, base + dropout(x.to(wide), k, 4, 0.25), rtol=0, atol=4 * torch.finfo(wide).eps)
    assert torch.equal(out == base, ~keep_mask(k, 4, 12, 0.25))
    pull = torch.randn(50, 12, dtype=wide, generator=generator)
    (out * pull).sum().backward()
    assert torch.equal(base.grad, pull)
    assert x.grad.dtype == dtype
    assert torch.equal(x.grad, dropout(pull, k, 4, 0.25).to(dtype))


def test_adding_reads_rows_as_they_lie_in_memory() -> None:
    k, base, x = keys(12), torch.randn(8, 12).T, torch.randn(8, 24)[:, ::2].T
    assert torch.allclose(add_dropped(base, x, k, 1, 0.5), base + dropout(x.contiguous(), k, 1, 0.5))
    assert torch.equal(add_dropped(base, x, None, 1, 0.5), base + x)
