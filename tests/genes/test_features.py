from __future__ import annotations

import numpy as np
from scipy import sparse

from cell_lm.config import GraphMAEConfig
from cell_lm.genes.features import node_features, unit
from cell_lm.genes.netmf import netmf_vectors
from community_network import community_network

CONFIG = GraphMAEConfig(dim=8, window=3)


def test_one_network_gives_one_block_of_unit_length():
    network, community = community_network()
    features = node_features([network], CONFIG)
    assert features.values.shape == (len(network.vocabulary), 8)
    np.testing.assert_allclose(np.linalg.norm(features.values[community >= 0], axis=1), 1.0, atol=1e-5)
    assert not features.values[community < 0].any()
    np.testing.assert_allclose(features.structure, unit(netmf_vectors(network, 8, window=3, power=2.0)), atol=1e-5)


def test_a_second_network_adds_the_block_of_the_union():
    first, community = community_network()
    second, _ = community_network(seed=1)
    features = node_features([first, second], CONFIG)
    assert features.values.shape[1] == 16
    np.testing.assert_allclose(features.values[:, :8], unit(netmf_vectors(first, 8, window=3)))
    assert np.abs(features.values[community >= 0, 8:] - features.values[community >= 0, :8]).max() > 0.01


def test_cells_add_a_block_of_co_expression():
    network, _ = community_network()
    cells = sparse.random(30, len(network.vocabulary), 0.3, format="csr", dtype=np.float32, rng=0)
    features = node_features([network], CONFIG, expression=cells)
    assert features.values.shape[1] == 16
    assert features.structure.shape[1] == 8


def test_random_features_keep_the_structure_apart():
    network, _ = community_network()
    features = node_features([network], CONFIG.model_copy(update={"features": "random"}))
    np.testing.assert_allclose(features.structure, unit(netmf_vectors(network, 8, window=3, power=2.0)), atol=1e-5)
    assert np.abs(np.corrcoef(features.values[:60].ravel(), features.structure[:60].ravel())[0, 1]) < 0.2


def test_rows_of_zeros_stay_zeros():
    assert not unit(np.zeros((2, 3), np.float32)).any()
