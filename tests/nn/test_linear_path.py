"""The linear path against its formula, computed densely by NumPy; and mutants that the comparison must catch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cell_lm.config import EncoderConfig
from cell_lm.data.loading.batch import PER_CELL, CellBatch, concatenate
from cell_lm.nn import linear_path
from cell_lm.nn.encoder import build_encoder
from cell_lm.nn.linear_path import LinearPath
from made_reference import dense_residuals, set_made_reference

GENES, SIZE, WIDTH = 400, 64, 32
Batches = Callable[..., CellBatch]
Configs = Callable[..., EncoderConfig]


@pytest.fixture
def path() -> LinearPath:
    made = LinearPath(GENES, SIZE, WIDTH)
    set_made_reference(made)
    return made


def some_hidden(batch: CellBatch) -> Tensor:
    return torch.rand(batch.tokens, generator=torch.Generator().manual_seed(0)) < 0.3


def components(path: LinearPath, batch: CellBatch, hidden: Tensor | None = None) -> Tensor:
    return path(batch, path.residuals(batch, hidden))


def by_formula(path: LinearPath, batch: CellBatch, hidden: Tensor | None = None) -> NDArray[np.float64]:
    """(V' r - centre) / root mean square, with the residuals r of all genes of the reference."""
    used = path.genes >= 0
    loadings = path.components[used].numpy().astype(np.float64)
    residuals = dense_residuals(batch, path.profile.numpy(), path.genes[used].numpy(), hidden)
    scale = np.sqrt(np.mean(path.spread.numpy().astype(np.float64) ** 2))
    return (residuals @ loadings - path.centre.numpy()) / scale


def error(got: Tensor, expected: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(got.numpy() - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_the_components_are_those_of_the_dense_formula(
    hides: bool, dtype: torch.dtype, bound: float, path: LinearPath, make_batch: Batches
) -> None:
    batch = make_batch()
    hidden = some_hidden(batch) if hides else None
    path.to(dtype)
    got = components(path, batch, hidden)
    assert got.dtype == dtype
    assert error(got, by_formula(path, batch, hidden)) <= bound
    residuals = dense_residuals(batch, path.profile.numpy(), path.genes[path.genes >= 0].numpy())
    assert (np.abs(residuals) == 10.0).any(), "some are clipped"
    dense = path.dense(batch).numpy()
    used = (path.genes >= 0).numpy()
    assert np.abs(dense[:, used] - residuals).max() <= 100 * bound
    assert not dense[:, ~used].any()


def test_an_empty_reference_gives_zero(make_batch: Batches) -> None:
    assert not components(LinearPath(GENES, SIZE, WIDTH), make_batch()).any()


def test_absent_genes_count_as_zero_at_the_same_depth(path: LinearPath, make_batch: Batches) -> None:
    batch = make_batch()
    path.double()
    gone = some_hidden(batch)
    counts = np.zeros((len(batch), GENES))
    cell = np.repeat(np.arange(len(batch)), batch.lengths)
    found = np.expm1(batch.values.double().numpy()) * batch.depths.numpy()[cell] / PER_CELL
    counts[cell, batch.genes.numpy()] = np.where(gone.numpy(), 0.0, found)
    used = path.genes[path.genes >= 0].numpy()
    expected = np.bincount(cell, found)[:, None] * path.profile.numpy()[used]
    residuals = ((counts[:, used] - expected) / np.sqrt(expected + expected**2 / 100)).clip(-10, 10)
    loadings, scale = path.components[path.genes >= 0].numpy(), float(path.scale)
    presence = torch.stack([(~gone).double(), torch.ones(batch.tokens, dtype=torch.float64)])
    got = path(batch, path.residuals(batch, None), presence)
    assert error(got[0], (residuals @ loadings - path.centre.numpy()) / scale) <= 1e-12
    assert error(got[1], by_formula(path, batch)) <= 1e-12


def with_raw_counts(batch: CellBatch, counts: Tensor) -> CellBatch:
    """The same genes with other counts, normalised as the tokeniser does it."""
    cell = torch.from_numpy(np.repeat(np.arange(len(batch)), batch.lengths))
    depths = torch.zeros(len(batch)).index_add(0, cell, counts)
    values = torch.log1p(counts * (PER_CELL / depths)[cell])
    return replace(batch, values=values, bins=values.round().long().clamp(max=5), depths=depths)


def counted(batch: CellBatch) -> tuple[CellBatch, CellBatch, Tensor]:
    """Cells of whole counts, the same with other counts of hidden genes, and which are hidden."""
    generator, hidden = torch.Generator().manual_seed(0), some_hidden(batch)
    counts = torch.randint(1, 60, (batch.tokens,), generator=generator).float()
    others = torch.where(hidden, counts + torch.randint(1, 60, (batch.tokens,), generator=generator), counts)
    return with_raw_counts(batch, counts), with_raw_counts(batch, others), hidden


def test_other_counts_of_hidden_genes_leave_the_components(path: LinearPath, make_batch: Batches) -> None:
    first, second, hidden = counted(make_batch())
    assert not torch.equal(first.depths, second.depths)
    path.double()
    before, after = components(path, first, hidden), components(path, second, hidden)
    assert (after - before).norm() <= 1e-6 * before.norm()  # values are single precision
    shown = components(path, first), components(path, second)
    assert (shown[1] - shown[0]).norm() > 0.1 * shown[0].norm()


@pytest.mark.parametrize("attention", ["full", "latent", "performer"])
def test_the_expression_of_hidden_genes_leaves_the_bits_of_cls(
    attention: str, make_batch: Batches, make_config: Configs
) -> None:
    batch, model = make_batch(), active(make_config(attention))
    hidden = some_hidden(batch)
    values = torch.where(hidden, batch.values + 1, batch.values)
    other = replace(batch, values=values, bins=torch.where(hidden, 5 - batch.bins, batch.bins))
    with torch.no_grad():
        first, second = (model(each, hidden=hidden, counter=None, only_cls=True).cls for each in (batch, other))
        shown = model(other, hidden=None, counter=None, only_cls=True).cls
    assert torch.equal(first, second)
    assert (shown - first).norm() > 1e-2 * first.norm()


def active(config: EncoderConfig) -> torch.nn.Module:
    """An encoder with a reference, whose correction and refinement do something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = build_encoder(config, 300)
        set_made_reference(built.readout.path)
        for linear in (built.readout.correction, built.readout.refinement.out):
            torch.nn.init.normal_(linear.weight, std=0.1)
    return built


@pytest.mark.parametrize("expression", ["bins", "continuous"])
@pytest.mark.parametrize("attention", ["full", "latent", "performer"])
def test_cls_starts_as_the_linear_path(
    attention: str, expression: str, make_batch: Batches, make_config: Configs
) -> None:
    batch, model = make_batch(), build_encoder(make_config(attention, expression=expression), 300)
    set_made_reference(model.readout.path)
    with torch.no_grad():
        cls = model(batch, hidden=None, counter=None, only_cls=True).cls
        assert torch.equal(cls, components(model.readout.path, batch))
        assert not model.readout.corrects
        cls_of_active = active(make_config(attention))(batch, hidden=None, counter=None, only_cls=True).cls
    assert (cls_of_active - cls).norm() > 1e-2 * cls.norm()


@pytest.mark.parametrize("attention", ["full", "latent", "performer"])
def test_with_few_attended_genes_too_a_cell_does_not_depend_on_its_company(
    attention: str, make_batch: Batches, make_config: Configs
) -> None:
    batch, model = make_batch(), active(make_config(attention, attended_genes=6))
    assert batch.lengths.max() > 6
    embed = lambda part: model(part, hidden=None, counter=None, only_cls=True).cls  # noqa: E731
    with torch.no_grad():
        together = embed(batch)
        alone = torch.cat([embed(batch[i : i + 1]) for i in range(len(batch))])
        backwards = embed(concatenate([batch[i : i + 1] for i in reversed(range(len(batch)))])).flip(0)
        all_genes = active(make_config(attention, attended_genes=256))(batch, hidden=None, counter=None, only_cls=True)
    for other in (alone, backwards):
        assert ((other - together).norm(dim=1) / together.norm(dim=1)).max() <= 1e-5
    assert (all_genes.cls - together).norm() > 1e-3 * together.norm()


# --- mutants ---


def hidden_counts_in_the_depth(patch: pytest.MonkeyPatch) -> None:
    whole = LinearPath.residuals

    def leaking(self: LinearPath, batch: CellBatch, hidden: Tensor | None) -> linear_path.TokenResiduals:
        found = whole(self, batch, hidden)
        depths = whole(self, batch, None).depths
        return replace(found, depths=depths)

    patch.setattr(LinearPath, "residuals", leaking)


def depth_without_the_share_of_hidden_genes(patch: pytest.MonkeyPatch) -> None:
    whole = linear_path._sum_by_cell

    def short(values: Tensor, cell: Tensor, cells: int) -> Tensor:
        return whole(values, cell, cells) * (values.max() > 1.0)  # the shares are the smaller numbers

    patch.setattr(linear_path, "_sum_by_cell", short)


def hidden_genes_as_unexpressed(patch: pytest.MonkeyPatch) -> None:
    whole = LinearPath.residuals

    def unexpressed(self: LinearPath, batch: CellBatch, hidden: Tensor | None) -> linear_path.TokenResiduals:
        found = whole(self, batch, hidden)
        return replace(found, above_zero=found.above_zero.masked_fill(hidden, 0.0))

    patch.setattr(LinearPath, "residuals", unexpressed)


def the_depth_of_the_batch(patch: pytest.MonkeyPatch) -> None:
    whole = linear_path._sum_by_cell
    patch.setattr(linear_path, "_sum_by_cell", lambda *given: whole(*given).mean().expand(given[2]))


@pytest.mark.parametrize(
    "mutant",
    [
        hidden_counts_in_the_depth,
        depth_without_the_share_of_hidden_genes,
        hidden_genes_as_unexpressed,
        the_depth_of_the_batch,
    ],
)
def test_a_mutant_of_the_path_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None],
    path: LinearPath,
    make_batch: Batches,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = counted(make_batch())[0]
    hidden = some_hidden(batch)
    path.double()
    assert error(components(path, batch, hidden), by_formula(path, batch, hidden)) <= 1e-12
    mutant(monkeypatch)
    assert error(components(path, batch, hidden), by_formula(path, batch, hidden)) > 1e-3
