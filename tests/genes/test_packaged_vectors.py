from __future__ import annotations

import numpy as np
import pytest

from cell_lm.config import GraphMAEConfig
from cell_lm.genes import GeneVectors, Vocabulary, similar
from cell_lm.genes.interactions import packaged_network
from cell_lm.genes.vectors import packaged_path


@pytest.fixture(scope="module")
def packaged() -> GeneVectors:
    return GeneVectors.packaged()


def test_the_packaged_vectors_fit_the_packaged_vocabulary_and_the_package(packaged: GeneVectors) -> None:
    assert packaged.vocabulary.hash == Vocabulary.human().hash
    assert packaged.width == 512
    assert packaged_path().stat().st_size <= 20_000_000


def test_they_know_every_gene_of_the_packaged_network(packaged: GeneVectors) -> None:
    assert packaged.known[packaged_network().known].all()
    assert len(packaged) > 18_000


def test_they_say_what_they_were_learned_on_and_how(packaged: GeneVectors) -> None:
    networks = packaged.about["networks"]
    assert [network["name"] for network in networks] == ["string-v12.0", "anat"]
    assert networks[1]["hash"] == packaged_network().hash
    assert packaged.about["settings"] == GraphMAEConfig().model_dump(mode="json")
    assert "STRING" in packaged.source


@pytest.mark.parametrize(
    ("gene", "kin"),
    [
        ("CD3D", {"CD3E", "CD3G", "CD247"}),
        ("MS4A1", {"CD19", "CD79A", "CD79B", "CD22"}),
        ("INS", {"GCG", "IAPP", "INSR", "IGF1R", "IRS1", "IGF1"}),
        ("COL1A1", {"COL1A2", "COL3A1", "COL5A1"}),
        ("MKI67", {"TOP2A", "CDK1", "BUB1", "CCNB1", "AURKB", "KIF11", "TPX2", "CCNA2", "BIRC5"}),
    ],
)
def test_they_know_kin(gene: str, kin: set[str]) -> None:
    assert kin & set(similar(gene, k=15).gene)


def test_an_edge_of_the_network_is_nearer_than_a_chance_pair(packaged: GeneVectors) -> None:
    network, generator = packaged_network().above(0.7), np.random.default_rng(0)
    directions = packaged.directions
    edges = (directions[network.first] * directions[network.second]).sum(axis=1)
    chance = (directions[network.first] * directions[generator.permutation(network.second)]).sum(axis=1)
    assert (edges > chance).mean() > 0.8
