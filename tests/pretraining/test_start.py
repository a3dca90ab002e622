from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cell_lm.config import EncoderConfig, PretrainConfig
from cell_lm.data.loading.batch import CellBatch
from cell_lm.errors import ConfigError, ModelError
from cell_lm.genes import GeneVectors
from cell_lm.genes import vectors as packaged
from cell_lm.genes.coexpression import coexpression_vectors
from cell_lm.genes.reference import compute_reference, gene_loadings
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.pretraining.start import (
    SPREAD,
    describe_vectors,
    fresh_model,
    join_vectors,
    read_vectors,
    start_model,
)

Batches = Callable[..., CellBatch]
Configs = Callable[..., EncoderConfig]


def run_config(encoder: EncoderConfig, what: object, *, freeze: bool = False) -> PretrainConfig:
    training = {"gene_vectors": str(what), "freeze_gene_vectors": freeze}
    return PretrainConfig.model_validate({"encoder": encoder.model_dump(), "training": training})


def save_vectors(path: Path, vocabulary: Vocabulary, width: int = 24) -> GeneVectors:
    """Write vectors of nine in ten genes."""
    values = np.random.default_rng(0).normal(1.0, 3.0, (len(vocabulary), width))
    known = np.arange(len(vocabulary)) % 10 > 0
    vectors = GeneVectors.from_values(values, known, vocabulary, source="a test")
    vectors.save(path)
    return vectors


def started(config: PretrainConfig, vocabulary: Vocabulary, batch: CellBatch) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the gene vectors before and after the start, and what is said of it."""
    model = fresh_model(config, vocabulary)
    table = model.encoder.embedding.genes.weight
    before = table.detach().numpy().copy()
    said = start_model(model, config, read_vectors(config, vocabulary), lambda _: batch)
    return before, table.detach().numpy(), said


def test_expressed_genes_get_coexpression_vectors_and_the_others_keep_theirs(
    make_batch: Batches, make_config: Configs, vocabulary: Vocabulary
) -> None:
    batch, config = make_batch(cells=60), run_config(make_config(), "coexpression")
    before, after, _ = started(config, vocabulary, batch)
    expressed = np.unique(batch.genes)
    assert np.array_equal(np.flatnonzero((after != before).any(axis=1)), expressed)
    assert np.isclose(after[expressed].std(), SPREAD, rtol=0.05)
    assert np.array_equal(started(config, vocabulary, batch)[1], after)
    vectors, known = coexpression_vectors(batch.expression(len(vocabulary)), make_config().gene_width, seed=0)
    assert np.array_equal(np.flatnonzero(known), expressed)
    assert np.allclose(after[expressed], SPREAD * vectors[expressed], atol=1e-7)


@pytest.mark.parametrize("linear_path", [True, False])
def test_expressed_genes_get_the_loadings_of_the_components_and_the_model_their_reference(
    linear_path: bool, make_batch: Batches, make_config: Configs, vocabulary: Vocabulary
) -> None:
    batch = make_batch(cells=60)
    encoder = make_config(linear_path=linear_path, gene_width=48)  # wider than the components: the rest is 0
    config = run_config(encoder, "components")
    model = fresh_model(config, vocabulary)
    before = model.encoder.embedding.genes.weight.detach().numpy().copy()
    said = start_model(model, config, None, lambda _: batch)
    after = model.encoder.embedding.genes.weight.detach().numpy()
    counts = batch.counts(len(vocabulary))
    expected = compute_reference(counts, encoder.reference_genes, encoder.width, seed=config.training.seed)
    loadings = gene_loadings(counts, expected)
    known = loadings.any(axis=1)
    assert set(np.flatnonzero(known)) <= set(np.unique(batch.genes))
    assert known.sum() > 100
    assert np.allclose(after[known, :32] / SPREAD, loadings[known] / loadings[known].std(), rtol=1e-3, atol=1e-5)
    assert not after[known, 32:].any()
    assert np.array_equal(after[~known], before[~known])
    assert f"{known.sum():,} of {len(vocabulary):,}" in said
    assert "components" in said
    found = model.reference
    assert (found is not None) == linear_path
    if found is not None:
        for name in ("genes", "components", "centre", "spread", "profile"):
            assert np.array_equal(getattr(found, name), getattr(expected, name))


def test_a_fresh_head_is_the_best_linear_reconstruction_from_cls(
    make_batch: Batches, make_config: Configs, vocabulary: Vocabulary
) -> None:
    """At the start residuals are predicted as what the components keep of them."""
    batch, config = make_batch(cells=60), run_config(make_config(), "components")
    model = fresh_model(config, vocabulary).eval()
    start_model(model, config, None, lambda _: batch)
    with torch.no_grad():
        hidden = torch.zeros(batch.tokens, dtype=torch.bool)
        predicted = model(batch, hidden=hidden, counter=None, reconstruct=True).residuals
    path = model.encoder.readout.path
    dense, loadings = path.dense(batch), path.components
    assert torch.allclose(predicted, dense @ loadings @ loadings.T, atol=1e-3)


@pytest.mark.parametrize("width", [8, 24, 40])
def test_genes_of_a_file_start_from_its_vectors_and_the_others_at_random_of_the_same_spread(
    make_batch: Batches, make_config: Configs, vocabulary: Vocabulary, tmp_path: Path, width: int
) -> None:
    vectors = save_vectors(tmp_path / "v.safetensors", vocabulary)
    config = run_config(make_config(gene_width=width), tmp_path / "v.safetensors")
    before, after, said = started(config, vocabulary, make_batch())
    known = vectors.known
    assert np.array_equal(after[~known], before[~known])
    expected = SPREAD * GeneVectors.load(tmp_path / "v.safetensors").project(width)
    assert np.allclose(after[known], expected[known], atol=1e-8)
    assert np.isclose(after[known].std(), SPREAD, rtol=1e-3)
    assert np.isclose(after[~known].std(), SPREAD, rtol=0.15)
    missing = len(vocabulary) - known.sum()
    assert f"{known.sum():,} of {len(vocabulary):,} start from" in said
    assert said.endswith(f"(a test), the other {missing:,} at random")


def test_the_packaged_file_is_what_network_means(
    make_batch: Batches,
    make_config: Configs,
    vocabulary: Vocabulary,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "v.safetensors"
    save_vectors(path, vocabulary)
    monkeypatch.setattr(packaged, "PACKAGED", str(path))
    network, file = (started(run_config(make_config(), what), vocabulary, make_batch()) for what in ("network", path))
    assert np.array_equal(network[1], file[1])
    both = started(run_config(make_config(), "network+coexpression"), vocabulary, make_batch())
    assert not np.array_equal(both[1], file[1])
    changed = (both[0] != both[1]).any(axis=1)
    expressed = np.isin(np.arange(len(vocabulary)), make_batch().genes.numpy())
    assert np.array_equal(changed, expressed | GeneVectors.load(path).known)
    assert np.isclose(both[1][changed].std(), SPREAD, rtol=1e-3)


@pytest.mark.parametrize("what", ["network", "network+coexpression"])
def test_without_the_packaged_file_the_error_names_the_command(
    what: str, make_config: Configs, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged, "PACKAGED", "absent.safetensors")
    with pytest.raises(ModelError, match="cell-lm genes pretrain"):
        read_vectors(run_config(make_config(), what), vocabulary)


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("netwrok", r"'netwrok' is none of components, network, .*Did you mean network"),
        ("a/file", "Name a file that cell-lm genes"),
    ],
)
def test_what_is_neither_a_word_nor_a_file_is_refused(
    what: str, found: str, make_config: Configs, vocabulary: Vocabulary
) -> None:
    with pytest.raises(ConfigError, match=found):
        read_vectors(run_config(make_config(), what), vocabulary)


def test_random_changes_nothing_and_needs_no_cells(make_config: Configs, vocabulary: Vocabulary) -> None:
    config = run_config(make_config(linear_path=False), "random", freeze=True)
    model = fresh_model(config, vocabulary)
    before = model.encoder.embedding.genes.weight.detach().clone()

    def no_cells(_: int) -> CellBatch:
        raise AssertionError

    said = start_model(model, config, read_vectors(config, vocabulary), no_cells)
    assert torch.equal(model.encoder.embedding.genes.weight, before)
    assert said == f"gene vectors: all {len(vocabulary):,} start at random; all are frozen"
    assert describe_vectors(config) is None


def test_frozen_vectors_take_no_gradient_and_do_not_count_as_trained(
    make_config: Configs, vocabulary: Vocabulary
) -> None:
    free, frozen = (fresh_model(run_config(make_config(), "random", freeze=on), vocabulary) for on in (False, True))
    assert free.parameter_count() - frozen.parameter_count() == len(vocabulary) * make_config().gene_width
    assert [n for n, p in frozen.named_parameters() if not p.requires_grad] == ["encoder.embedding.genes.weight"]


def test_kinds_of_vectors_are_joined_with_equal_weight() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(5.0, 9.0, (50, 6)).astype(np.float32), rng.normal(0, 0.1, (50, 6)).astype(np.float32)
    knows, knows_too = np.arange(50) < 40, np.arange(50) >= 10
    joined, known = join_vectors([(first, knows), (second, knows_too)], 12)
    assert known.all()
    assert np.isclose(joined.std(), 1.0, atol=1e-5)
    scaled = join_vectors([(1000 * first, knows), (second, knows_too)], 12)[0]
    assert np.allclose(joined @ joined.T, scaled @ scaled.T, atol=1e-2)
    alone = join_vectors([(first, knows)], 6)
    assert np.array_equal(alone[1], knows)
    centred = first[knows] - first[knows].mean(axis=0)
    inner = alone[0][knows] @ alone[0][knows].T
    assert np.allclose(inner / inner[0, 0], centred @ centred.T / (centred @ centred.T)[0, 0], atol=1e-3)
