from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import sparse

from cell_lm.config import GraphMAEConfig
from cell_lm.errors import ConfigError, InputError, ModelError, TrainingError
from cell_lm.genes.interactions.network import Network
from cell_lm.genes.vectors import GeneVectors
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.pretraining import gene_run
from cell_lm.pretraining.gene_run import pretrain_genes
from cell_lm.pretraining.gene_step import GeneStep, join
from cell_lm.pretraining.gene_vectors import learn_gene_vectors
from community_network import community_network

CONFIG = GraphMAEConfig(dim=8, hidden=16, steps=20, window=3, pairs=64, checkpoint_every=5, learning_rate=0.01)


def test_learning_lowers_both_losses_and_finds_communities():
    network, community = community_network()
    seen = []
    alone = CONFIG.model_copy(
        update={"steps": 60, "combine_with": "nothing"}
    )  # NetMF beside the codes would do it for them
    vectors = learn_gene_vectors([network], alone, progress=lambda done, losses: seen.append(losses))
    first, last = seen[:10], seen[-10:]
    assert np.mean([step["links"] for step in last]) < np.mean([step["links"] for step in first])
    assert np.mean([step["error"] for step in last]) < np.mean([step["error"] for step in first])
    np.testing.assert_array_equal(vectors.known, community >= 0)
    cosine = vectors.directions[community >= 0] @ vectors.directions[community >= 0].T
    alike = community[community >= 0][:, None] == community[community >= 0]
    assert cosine[alike].mean() > cosine[~alike].mean() + 0.8


@pytest.mark.parametrize("encoder", ["gin", "gat"])
def test_both_kinds_of_layers_learn(encoder):
    network, _ = community_network()
    seen = []
    config = CONFIG.model_copy(update={"encoder": encoder, "steps": 40})
    learn_gene_vectors([network], config, progress=lambda done, losses: seen.append(losses["links"]))
    assert np.mean(seen[-5:]) < np.mean(seen[:5])


def test_vectors_tell_how_they_were_made():
    network, _ = community_network()
    vectors = learn_gene_vectors([network], CONFIG)
    assert vectors.about["networks"][0] == {
        "name": "communities",
        "source": "made up",
        "edges": len(network),
        "genes": 60,
        "hash": network.hash,
    }
    assert vectors.about["settings"]["steps"] == 20
    assert "made up" in vectors.source


def test_the_codes_alone_have_unit_length():
    network, community = community_network()
    vectors = learn_gene_vectors([network], CONFIG.model_copy(update={"combine_with": "nothing"}))
    np.testing.assert_allclose(np.linalg.norm(vectors.values[community >= 0], axis=1), 1.0, atol=1e-5)


def test_the_join_is_the_best_of_its_rank():
    generator = np.random.default_rng(0)
    structure, codes = (generator.standard_normal((30, 5)).astype(np.float32) for _ in range(2))
    structure[3] = 0
    both = np.hstack([structure, codes])
    left, strength, right = np.linalg.svd(both, full_matrices=False)
    best = (left[:, :5] * strength[:5]) @ right[:5]
    joined = join(structure, codes, 5)
    np.testing.assert_allclose(joined @ joined.T, best @ best.T, atol=1e-4)


def test_steps_do_not_touch_the_global_generator():
    import torch

    network, _ = community_network()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    learn_gene_vectors([network], CONFIG.model_copy(update={"steps": 2}))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_leaves_vectors_settings_and_a_log(tmp_path):
    network, _ = community_network()
    result = pretrain_genes([network], CONFIG, tmp_path / "genes", progress=False)
    loaded = GeneVectors.load(result.path)
    np.testing.assert_allclose(loaded.values, learn_gene_vectors([network], CONFIG).values, atol=2e-3)
    rows = [json.loads(line) for line in (tmp_path / "genes" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, 21))
    assert {"error", "links", "norm", "learning_rate", "genes_per_second"} <= set(rows[-1])
    assert (tmp_path / "genes" / "tensorboard").is_dir()
    assert not (tmp_path / "genes" / gene_run.FEATURES).exists()
    assert result.exit_code == 0


class PulledPlugError(Exception):
    """What a killed process looks like from the inside."""


def cut_off(monkeypatch, network, out, at, config=CONFIG, expression=None):
    gradient = GeneStep.gradient

    def pull(self, number):
        if number == at:
            raise PulledPlugError
        return gradient(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(GeneStep, "gradient", pull)
        with pytest.raises(PulledPlugError):
            pretrain_genes([network], config, out, expression=expression, progress=False)


@pytest.mark.parametrize(("at", "encoder"), [(3, "gin"), (13, "gin"), (13, "gat")])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, monkeypatch, at, encoder):
    network, _ = community_network()
    config = CONFIG.model_copy(update={"encoder": encoder})
    whole = pretrain_genes([network], config, tmp_path / "whole", progress=False)
    cut_off(monkeypatch, network, tmp_path / "cut", at, config)
    assert not (tmp_path / "cut" / gene_run.VECTORS).exists()
    resumed = pretrain_genes([network], config, tmp_path / "cut", resume=True, progress=False)
    np.testing.assert_array_equal(GeneVectors.load(whole.path).values, GeneVectors.load(resumed.path).values)


def test_a_damaged_file_of_features_is_made_again(tmp_path, monkeypatch):
    network, _ = community_network()
    whole = pretrain_genes([network], CONFIG, tmp_path / "whole", progress=False)
    cut_off(monkeypatch, network, tmp_path / "cut", 7)
    (tmp_path / "cut" / gene_run.FEATURES).write_bytes(b"no tensors")
    resumed = pretrain_genes([network], CONFIG, tmp_path / "cut", resume=True, progress=False)
    np.testing.assert_array_equal(GeneVectors.load(whole.path).values, GeneVectors.load(resumed.path).values)


def test_a_run_is_gone_on_with_only_as_it_was_begun(tmp_path, monkeypatch):
    network, _ = community_network()
    cut_off(monkeypatch, network, tmp_path, 7)
    with pytest.raises(ConfigError, match=r"mask_rate: 0.3, now 0.7"):
        pretrain_genes([network], CONFIG.model_copy(update={"mask_rate": 0.7}), tmp_path, resume=True)
    with pytest.raises(InputError, match="not those of the run"):
        pretrain_genes([community_network(seed=9)[0]], CONFIG, tmp_path, resume=True)


def cells_of(network, seed=0):
    genes = len(network.vocabulary)
    return sparse.random(30, genes, 0.3, format="csr", dtype=np.float32, rng=np.random.default_rng(seed))


def test_a_run_with_cells_goes_on_with_those_cells_only_and_says_so(tmp_path, monkeypatch):
    network, _ = community_network()
    cut_off(monkeypatch, network, tmp_path, 7, expression=cells_of(network))
    with pytest.raises(InputError, match="networks or cells are not those"):
        pretrain_genes([network], CONFIG, tmp_path, expression=cells_of(network, seed=1), resume=True)
    with pytest.raises(InputError, match="networks or cells are not those"):
        pretrain_genes([network], CONFIG, tmp_path, resume=True)
    result = pretrain_genes(
        [network], CONFIG, tmp_path, expression=cells_of(network).copy(), resume=True, progress=False
    )
    assert result.vectors.about["cells"]["count"] == 30
    assert "co-expression of 30 cells" in GeneVectors.load(result.path).source


def test_cells_that_cannot_take_part_are_refused_before_anything_is_written(tmp_path):
    network, _ = community_network()
    cells = cells_of(network)
    strange = cells.copy()
    strange.data[3] = np.nan
    random = CONFIG.model_copy(update={"features": "random"})
    for expression, config, found in (
        (cells[:, :-1], CONFIG, "cells of 64 genes, and networks over 65"),
        (sparse.csr_matrix(cells.shape, dtype=np.float32), CONFIG, "holds no number"),
        (strange, CONFIG, "not finite"),
        (cells, random, "'features' is 'random'"),
    ):
        with pytest.raises((InputError, ConfigError), match=found):
            pretrain_genes([network], config, tmp_path / "new", expression=expression)
    assert not (tmp_path / "new").exists()


def test_a_run_that_was_killed_before_it_began_can_be_begun_again(tmp_path):
    network, _ = community_network()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / ".data.json.x.partial").mkdir()
    (tmp_path / "config.json").write_text("{}")
    assert pretrain_genes([network], CONFIG, tmp_path, progress=False).path.is_file()


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    network, _ = community_network()
    first = pretrain_genes([network], CONFIG, tmp_path, progress=False)
    before = first.path.read_bytes()
    monkeypatch.setattr(gene_run, "node_features", None)
    again = pretrain_genes([network], CONFIG, tmp_path, resume=True, progress=False)
    assert again.path.read_bytes() == before
    np.testing.assert_array_equal(again.vectors.known, first.vectors.known)


def test_what_cannot_begin_is_refused_and_nothing_is_written(tmp_path):
    network, _ = community_network()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("all of it")
    with pytest.raises(InputError, match="holds other files already"):
        pretrain_genes([network], CONFIG, tmp_path / "full")
    with pytest.raises(ModelError, match="no run here"):
        pretrain_genes([network], CONFIG, tmp_path / "nowhere", resume=True)
    with pytest.raises(InputError, match="no network"):
        pretrain_genes([], CONFIG, tmp_path / "new")
    human = Network.from_pairs([0, 1], [1, 2], vocabulary=Vocabulary.human(), name="human")
    with pytest.raises(InputError, match="vocabulary"):
        pretrain_genes([network, human], CONFIG, tmp_path / "new")
    lone = Network.from_pairs([0], [1], vocabulary=network.vocabulary, name="lone")
    with pytest.raises(InputError, match="connects 2 genes"):
        pretrain_genes([lone], CONFIG, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["full", "thesis.tex"]


def test_a_step_that_is_not_finite_is_skipped_and_three_end_the_run_with_advice(tmp_path, monkeypatch):
    network, _ = community_network()
    gradient = GeneStep.gradient

    def poison(self, number):
        metrics = gradient(self, number)
        if number in poisoned:
            next(self.module.parameters()).grad[0] = float("nan")
        return metrics

    monkeypatch.setattr(GeneStep, "gradient", poison)
    poisoned = {4, 5}
    result = pretrain_genes([network], CONFIG, tmp_path / "skipped", progress=False)
    assert (result.run.steps, result.run.skipped) == (20, 2)
    assert np.isfinite(result.vectors.values).all()
    poisoned = {4, 5, 6}
    with pytest.raises(TrainingError, match=r"3 steps in a row.*learning_rate"):
        pretrain_genes([network], CONFIG, tmp_path / "ended", progress=False)
    assert (tmp_path / "ended" / "checkpoints" / "step-00000005").is_dir()
