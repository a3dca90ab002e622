"""The routes of a GPU, on the CPU: buckets as they are, flash attention with a reference kernel in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.attention.varlen
from torch import Tensor

from cell_lm.config import EncoderConfig
from cell_lm.data.loading.batch import CellBatch, concatenate
from cell_lm.nn import attention
from cell_lm.nn.attention import FullAttention, PerformerAttention, packed_attention
from cell_lm.nn.counter import Counter
from cell_lm.nn.encoder import build_encoder
from cell_lm.nn.layout import AttentionLayout, Segments

CPU = torch.device("cpu")
Batches = Callable[..., CellBatch]
Configs = Callable[..., EncoderConfig]
Calls = list[dict[str, Any]]


def reference_kernel(
    query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int,
    *, scale: float | None = None,
) -> Tensor:  # fmt: skip
    """What the kernel on a GPU computes, and what it demands of its arguments."""
    for rows, offsets, longest in ((query, cu_seq_q, max_q), (key, cu_seq_k, max_k), (value, cu_seq_k, max_k)):
        assert rows.dim() == 3
        assert rows.dtype in (torch.float16, torch.bfloat16)
        assert rows.dtype == query.dtype
        assert rows.shape[1:] == query.shape[1:]
        assert rows.stride(-1) == 1, "the last dimension must be contiguous"
        assert rows.shape[2] % 8 == 0
        assert rows.shape[2] <= 256
        assert offsets.dtype == torch.int32
        assert offsets.is_contiguous()
        assert offsets.device == rows.device
        assert offsets[0] == 0
        assert offsets[-1] == len(rows), "offsets of other rows"
        assert type(longest) is int
        assert longest == int(offsets.diff().max()) > 0
    assert len(cu_seq_q) == len(cu_seq_k) > 1
    parts = []
    for cell in range(len(cu_seq_q) - 1):
        q = query[cu_seq_q[cell] : cu_seq_q[cell + 1]].float()
        k, v = (x[cu_seq_k[cell] : cu_seq_k[cell + 1]].float() for x in (key, value))
        logits = torch.einsum("nhk,mhk->hnm", q, k) * (query.shape[2] ** -0.5 if scale is None else scale)
        parts.append(torch.einsum("hnm,mhk->nhk", logits.softmax(-1), v))
    return torch.cat(parts).to(query.dtype)


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Send all exact attention to the reference kernel, and note with what it is called."""
    calls: Calls = []

    def noting(*arguments: Any, **settings: Any) -> Tensor:
        names = ("query", "key", "value", "offsets_q", "offsets_k", "max_q", "max_k")
        calls.append(dict(zip(names, arguments, strict=True)) | settings)
        return reference_kernel(*arguments, **settings)

    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", noting)
    monkeypatch.setattr(attention, "choose_route", lambda query, cells: "flash")
    return calls


def buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "choose_route", lambda query, cells: "buckets")
    monkeypatch.setattr(attention, "padded_route", lambda query: "buckets")


def build(config: EncoderConfig) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = build_encoder(config, 300)
        for parameter in built.parameters():
            torch.nn.init.normal_(parameter, std=0.1) if not parameter.any() else None
    for layer in built.modules():
        if isinstance(layer, PerformerAttention):
            layer.redraw(1)
    return built


def hide(batch: CellBatch, which: str) -> Tensor:
    """Genes whose expression is hidden: of some cells, of none."""
    every = torch.arange(batch.tokens) % 4 == 0
    return {"in some cells": every & (torch.arange(batch.tokens) > 60), "in no cell": every & False}[which]


def outputs(model: torch.nn.Module, batch: CellBatch, hidden: Tensor | None, half: bool) -> list[Tensor]:
    """CLS, states of hidden genes, and the gradient of their sum of squares."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        counter = Counter.of(0, 0, batch.slots, 0)
        encoded = model(batch, hidden=hidden, counter=counter, only_cls=hidden is None)
    found = [encoded.cls, *([] if encoded.hidden is None else [encoded.hidden])]
    torch.stack([x.double().square().sum() for x in found]).sum().backward()
    grads = torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in model.parameters()]
    )
    return [*(x.detach() for x in found), grads]


def error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm()) if expected.numel() else 0.0


@pytest.mark.parametrize("hidden", [None, "in some cells", "in no cell"])
@pytest.mark.parametrize("kind", ["full", "latent", "latent, two cross-attentions"])
def test_flash_attention_is_called_as_it_demands_and_gives_what_calls_by_cell_give(
    kind: str, hidden: str | None, make_batch: Batches, make_config: Configs, flash: Calls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    changes = {"cross_attentions": 2} if "two" in kind else {}
    model, batch = build(make_config(kind.split(",")[0], **changes)), make_batch()
    masked = None if hidden is None else hide(batch, hidden)
    by_flash = outputs(model, batch, masked, half=True)
    monkeypatch.setattr(attention, "choose_route", lambda query, cells: "cells")
    called = len(flash)
    by_cell = outputs(model, batch, masked, half=True)
    assert len(flash) == called > 0
    for got, expected in zip(by_flash, by_cell, strict=True):
        assert got.shape == expected.shape
        assert error(got, expected) < 0.02  # bfloat16
    for got, expected in zip(by_flash[:-1], by_cell[:-1], strict=True):
        assert error(got, expected) < 8e-3


def test_the_kernel_sees_all_rows_then_cls_alone(make_batch: Batches, make_config: Configs, flash: Calls) -> None:
    model, batch = build(make_config("full", attended_genes=100)), make_batch()
    outputs(model, batch, None, half=True)
    inner, last = flash
    assert len(inner["query"]) == len(inner["key"]) == batch.tokens + len(batch)
    assert inner["max_q"] == inner["max_k"] == last["max_k"] == batch.lengths.max() + 1
    assert last["max_q"] == 1
    assert last["offsets_q"].tolist() == list(range(len(batch) + 1))
    assert inner["offsets_k"] is inner["offsets_q"] is last["offsets_k"], "made once a batch, not a layer"


def test_latents_read_genes_and_hidden_genes_read_latents(
    make_batch: Batches, make_config: Configs, flash: Calls
) -> None:
    model, batch = build(make_config("latent", attended_genes=100)), make_batch()
    hidden = hide(batch, "in some cells")
    outputs(model, batch, hidden, half=True)
    reading, decoding = flash
    assert (reading["max_q"], reading["max_k"]) == (
        8 * model.cross_attentions["0"].attention.shape[0],
        batch.lengths.max(),
    )
    assert (len(decoding["query"]), decoding["max_k"]) == (int(hidden.sum()), 8)
    assert 0 in decoding["offsets_q"].diff()


def test_without_a_hidden_gene_no_kernel_is_launched_and_no_gradient_is_missing(
    make_batch: Batches, make_config: Configs, flash: Calls
) -> None:
    model, batch = build(make_config("latent")), make_batch()
    with torch.autocast("cpu", torch.bfloat16):
        encoded = model(batch, hidden=hide(batch, "in no cell"), counter=None, only_cls=False)
    assert encoded.hidden.shape == (0, 32)
    assert len(flash) == 1
    (encoded.cls.sum() + encoded.hidden.sum()).backward()
    decoder = model.decoder.attention
    assert all(p.grad is not None and not p.grad.any() for p in (decoder.key_value.weight, decoder.query.weight))


def ragged(queries: list[int], keys: list[int], width: int = 16) -> tuple[list[Tensor], AttentionLayout]:
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(n, 2, width, generator=generator).bfloat16() for n in (sum(queries), sum(keys), sum(keys))]
    return rows, AttentionLayout(*(Segments.of(np.array(part), CPU) for part in (queries, keys)))


@pytest.mark.parametrize("width", [16, 12, 8, 3])
def test_heads_of_any_width_fit_the_kernel(width: int, flash: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, layout = ragged([2, 0, 5], [4, 3, 1], width)
    got = packed_attention(*rows, layout)
    monkeypatch.setattr(attention, "choose_route", lambda query, cells: "cells")
    assert got.shape == (7, 2, width)
    assert error(got.float(), packed_attention(*rows, layout).float()) < 1e-2
    assert len(flash) == 1


@pytest.mark.parametrize("route", ["flash", "buckets", "cells"])
@pytest.mark.parametrize(("queries", "keys"), [([2, 3], [0, 0]), ([0, 0], [2, 3]), ([2, 3], [0, 4]), ([0, 0], [0, 0])])
def test_cells_without_queries_or_keys_are_computed_by_every_route(
    route: str, queries: list[int], keys: list[int], flash: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "choose_route", lambda query, cells: route)
    rows, layout = ragged(queries, keys)
    got = packed_attention(*(row.requires_grad_() for row in rows), layout)
    assert got.shape == rows[0].shape
    without = int(sum(q for q, k in zip(queries, keys, strict=True) if not k))
    assert not got[:without].any()
    got.sum().backward()
    assert torch.isfinite(got).all()


# --- mutants: calls of the kernel that are wrong in a known way must be noticed ---


def swap_queries_and_keys(call: Calls) -> tuple[Any, ...]:
    a = call[0]
    return a["key"], a["query"], a["value"], a["offsets_q"], a["offsets_k"], a["max_q"], a["max_k"]


def swap_offsets(call: Calls) -> tuple[Any, ...]:
    a = call[0]
    return a["query"], a["key"], a["value"], a["offsets_k"], a["offsets_q"], a["max_k"], a["max_q"]


def wide_offsets(call: Calls) -> tuple[Any, ...]:
    a = call[0]
    return a["query"], a["key"], a["value"], a["offsets_q"].long(), a["offsets_k"], a["max_q"], a["max_k"]


def single_precision(call: Calls) -> tuple[Any, ...]:
    a = call[0]
    return *(a[x].float() for x in ("query", "key", "value")), a["offsets_q"], a["offsets_k"], a["max_q"], a["max_k"]


@pytest.mark.parametrize("mutant", [swap_queries_and_keys, swap_offsets, wide_offsets, single_precision])
def test_the_reference_kernel_refuses_a_wrong_call(mutant: Callable[[Calls], tuple[Any, ...]], flash: Calls) -> None:
    rows, layout = ragged([2, 0, 5], [4, 3, 1])
    packed_attention(*rows, layout)
    with pytest.raises(AssertionError):
        reference_kernel(*mutant(flash), scale=0.25)


def test_queries_and_keys_of_equal_counts_cannot_be_swapped_unnoticed(
    flash: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, layout = ragged([4, 3, 1], [4, 3, 1])
    packed_attention(*rows, layout)
    swapped = reference_kernel(*swap_queries_and_keys(flash))
    monkeypatch.setattr(attention, "choose_route", lambda query, cells: "cells")
    assert error(swapped.float(), packed_attention(*rows, layout).float()) > 0.1


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("hidden", [None, "in some cells", "in no cell"])
@pytest.mark.parametrize("kind", ["full", "latent", "performer"])
def test_buckets_give_what_calls_by_cell_give(
    kind: str, hidden: str | None, dtype: torch.dtype, bound: float, make_batch: Batches, make_config: Configs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model, batch = build(make_config(kind)).to(dtype), make_batch(longest=80)
    masked = None if hidden is None else hide(batch, hidden)
    by_cell = outputs(model, batch, masked, half=False)
    buckets(monkeypatch)
    for got, expected in zip(outputs(model, batch, masked, half=False), by_cell, strict=True):
        assert got.shape == expected.shape
        assert error(got, expected) < bound


@pytest.mark.parametrize("kind", ["full", "latent", "performer"])
def test_buckets_give_what_calls_by_cell_give_where_genes_are_partly_present(
    kind: str, make_batch: Batches, make_config: Configs, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = build(make_config(kind)).double(), make_batch()
    presence = torch.rand(3, batch.tokens, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    presence[:, : int(batch.offsets[1])] = 0.0

    def found() -> list[Tensor]:
        leaf = presence.clone().requires_grad_()
        cls = model(batch, hidden=None, counter=None, only_cls=True, presence=leaf).cls
        return [cls.detach(), *torch.autograd.grad(cls.square().sum(), leaf)]

    by_cell = found()
    buckets(monkeypatch)
    for got, expected in zip(found(), by_cell, strict=True):
        assert error(got, expected) < 1e-12


@pytest.mark.parametrize("kind", ["full", "latent", "performer"])
def test_in_buckets_too_a_cell_depends_on_no_other(
    kind: str, make_batch: Batches, make_config: Configs, monkeypatch: pytest.MonkeyPatch
) -> None:
    buckets(monkeypatch)
    model, batch = build(make_config(kind)).double(), make_batch(longest=80)
    with torch.no_grad():
        run = lambda part: model(part, hidden=None, counter=None, only_cls=True).cls  # noqa: E731
        together = run(batch)
        cut = torch.cat([run(batch[i : i + 3]) for i in range(0, 17, 3)])
        backwards = run(concatenate([batch[i : i + 1] for i in reversed(range(17))])).flip(0)
    assert error(cut, together) < 1e-12
    assert error(backwards, together) < 1e-12


def test_a_mutant_that_counts_padding_as_keys_is_noticed(
    make_batch: Batches, make_config: Configs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, owner, name in (("full", attention, "_exact"), ("performer", PerformerAttention, "_cells")):
        model, batch = build(make_config(kind)).double(), make_batch(longest=80)
        expected = outputs(model, batch, None, half=False)[0]
        with monkeypatch.context() as patched:
            buckets(patched)
            whole = getattr(owner, name)
            patched.setattr(owner, name, lambda *a, whole=whole: whole(*a[:-2], None, a[-1]))
            assert error(outputs(model, batch, None, half=False)[0], expected) > 1e-6


@pytest.mark.parametrize(
    ("dtype", "width", "capability", "cells", "route"),
    [
        (torch.bfloat16, 64, (8, 0), 100, "flash"),
        (torch.float16, 20, (9, 0), 100, "flash"),
        (torch.float32, 64, (9, 0), 100, "buckets"),
        (torch.bfloat16, 64, (7, 5), 100, "buckets"),
        (torch.bfloat16, 288, (9, 0), 100, "buckets"),
        (torch.bfloat16, 64, (9, 0), 70_000, "buckets"),
    ],
)
def test_on_cuda_the_kernel_is_chosen_where_it_fits(
    dtype: torch.dtype, width: int, capability: tuple[int, int], cells: int, route: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    class OnCuda:
        device, shape = torch.device("cuda", 0), (10, 4, width)

    OnCuda.dtype = dtype  # type: ignore[attr-defined]
    monkeypatch.setattr(attention, "_has_flash", lambda device: capability >= (8, 0))
    assert attention.choose_route(OnCuda(), cells) == route  # type: ignore[arg-type]
    assert attention.padded_route(OnCuda()) == "buckets"  # type: ignore[arg-type]
    assert attention.choose_route(torch.zeros(1, 1, 8), 1) == attention.padded_route(torch.zeros(1)) == "cells"


def test_the_layer_passes_queries_of_x_and_keys_of_the_context(flash: Calls) -> None:
    torch.manual_seed(0)
    layer = FullAttention(32, 2, 16)
    x, context = torch.randn(3, 32), torch.randn(9, 32)
    layout = AttentionLayout(Segments.of(np.array([1, 2]), CPU), Segments.of(np.array([4, 5]), CPU))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        layer(x, context, layout)
        assert torch.equal(flash[0]["query"], layer.queries(x))
        assert torch.equal(flash[0]["key"], layer.keys_values(context)[0])
        assert torch.equal(flash[0]["value"], layer.keys_values(context)[1])
