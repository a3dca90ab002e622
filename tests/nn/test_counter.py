from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from cell_lm.nn import counter
from cell_lm.nn.counter import Counter, _keep_anywhere, add_dropped, dropout, keep_mask, keep_rows, mix
from cell_lm.pretraining.footprint import TensorMemory


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


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1 - 2**-30])
@pytest.mark.parametrize("width", [1, 67])
def test_the_compiled_mask_and_the_tensor_expression_agree_bit_for_bit(
    rate: float, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    k = keys(501)
    expected = keep_mask(k, 5, width, rate)
    assert torch.equal(_keep_anywhere(mix(k ^ 5), width, counter._threshold(rate)), expected)
    monkeypatch.setattr(counter, "_BLOCK", 1000)  # many blocks, the last one smaller
    assert torch.equal(_keep_anywhere(mix(k ^ 5), width, counter._threshold(rate)), expected)


def test_a_row_survives_at_its_own_rate_as_under_one_rate_for_all() -> None:
    k = keys(501)
    rates = torch.tensor([0.0, 0.1, 0.5, 0.9999999999], dtype=torch.float64).repeat(126)[:501]
    found = keep_rows(k, 5, rates)
    for rate in rates.unique().tolist():
        assert torch.equal(found[rates == rate], keep_mask(k, 5, 1, rate)[rates == rate, 0])


def test_the_tensor_expression_takes_at_most_nine_bytes_a_number_in_a_block_and_little_more_than_the_mask_in_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    k, width = mix(keys(4000)), 256
    for block, most in ((1 << 22, 9.2), (1 << 15, 1.5)):
        monkeypatch.setattr(counter, "_BLOCK", block)
        with TensorMemory() as memory:
            _keep_anywhere(k, width, 1 << 30)
        assert memory.peak <= most * len(k) * width


def off_the_cpu(x: torch.Tensor, k: torch.Tensor, base: torch.Tensor | None, *, backend: str | None) -> torch.Tensor:
    """Dropout as another device computes it, here on the CPU."""
    if backend is None:
        return counter._drop_elsewhere(x, k, 4, 0.25, base)
    drop = torch.compile(counter._drop_in_one, backend=backend, fullgraph=True, dynamic=True)
    return drop(x, k, 4, counter._ordered(counter._threshold(0.25)), 1 / 0.75, base)


@pytest.mark.parametrize("backend", [None, "aot_eager"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_other_devices_drop_and_scale_as_the_cpu_does(dtype: torch.dtype, backend: str | None) -> None:
    k, generator = keys(50), torch.Generator().manual_seed(0)
    x, base = (torch.randn(50, 12, dtype=torch.float64, generator=generator).to(dtype) for _ in range(2))
    eps = 2 * torch.finfo(dtype).eps
    for added in (None, base):
        got = off_the_cpu(x, k, added, backend=backend)
        expected = counter._drop(x, k, 4, 0.25, added)
        assert got.dtype == dtype
        assert torch.allclose(got, expected, rtol=eps, atol=4 * eps)
    assert torch.equal(off_the_cpu(x, k, None, backend=backend) == 0, ~keep_mask(k, 4, 12, 0.25))


def test_where_compiling_fails_or_gives_other_bits_dropout_stays_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: object, **settings: object) -> object:
        def kernel(*arguments: object) -> torch.Tensor:
            raise RuntimeError("no C compiler\nin PATH")

        return kernel

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    counter._compiled_drop.cache_clear()
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(UserWarning, match="not compiled, and slower: no C compiler in PATH"):
        assert counter._compiled_drop(torch.device("cpu")) is counter._drop_eagerly
    counter._compiled_drop.cache_clear()
    monkeypatch.setattr(torch, "compile", lambda function, **settings: lambda x, *rest: x)
    with pytest.warns(UserWarning, match="its bits are not those"):
        assert counter._compiled_drop(torch.device("cpu")) is counter._drop_eagerly
    counter._compiled_drop.cache_clear()
    monkeypatch.setattr(torch, "compile", lambda function, **settings: function)
    assert counter._compiled_drop(torch.device("cpu")) is counter._drop_in_one
    counter._compiled_drop.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert counter._compiled_drop(torch.device("cpu")) is counter._drop_eagerly
    counter._compiled_drop.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variant", ["dropout", "add_dropped", "off the CPU", "off the CPU, added"])
def test_dropout_keeps_the_expectation_forward_and_backward(variant: str, dtype: torch.dtype) -> None:
    """The mutant without 1/(1 - p): a mean of 0.75 in place of 1."""
    x = torch.ones(2000, 100, dtype=dtype, requires_grad=True)
    k, base = keys(2000), torch.full((2000, 100), 3.0, dtype=torch.promote_types(dtype, torch.float32))
    if variant == "dropout":
        out = dropout(x, k, 4, 0.25)
    elif variant == "add_dropped":
        out = add_dropped(base, x, k, 4, 0.25) - base
    else:
        added = base.to(dtype) if "added" in variant else None
        out = off_the_cpu(x.detach(), k, added, backend=None) - (0 if added is None else added)
    spread = (0.25 / 0.75 / out.numel()) ** 0.5
    assert float(out.detach().double().mean()) == pytest.approx(
        1.0, abs=6 * spread + (0.01 if dtype == torch.bfloat16 else 0)
    )
    if variant in ("dropout", "add_dropped"):
        out.sum().backward()
        assert x.grad is not None
        kept = x.grad[keep_mask(k, 4, 100, 0.25)]
        assert torch.allclose(kept, torch.full_like(kept, 1 / 0.75))
        assert float(x.grad.double().mean()) == pytest.approx(1.0, abs=6 * spread + 0.005)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_features_are_dropped_at_the_rate_independently_of_rows_features_and_sites(rate: float) -> None:
    rows, width = 4000, 64
    masks = torch.stack([keep_mask(keys(rows), site, width, rate) for site in range(2)])
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
    slope = torch.randn(50, 12, dtype=wide, generator=generator)
    (out * slope).sum().backward()
    assert torch.equal(base.grad, slope)
    assert x.grad.dtype == dtype
    assert torch.equal(x.grad, dropout(slope, k, 4, 0.25).to(dtype))


def test_adding_reads_rows_as_they_lie_in_memory() -> None:
    k, base, x = keys(12), torch.randn(8, 12).T, torch.randn(8, 24)[:, ::2].T
    assert torch.allclose(add_dropped(base, x, k, 1, 0.5), base + dropout(x.contiguous(), k, 1, 0.5))
    assert torch.equal(add_dropped(base, x, None, 1, 0.5), base + x)
