from __future__ import annotations

import numpy as np
import pytest

from cell_lm.genes.interactions.network import Network
from cell_lm.genes.netmf import leading_eigenpairs, netmf_vectors, reweigh, walk_matrix
from cell_lm.genes.vocabulary import Vocabulary
from community_network import community_network


def dense_walks(adjacency: np.ndarray, window: int, negative: float) -> np.ndarray:
    """Equation 9 of Qiu et al., as it is written."""
    degree = adjacency.sum(axis=1)
    walk = adjacency / degree[:, None]
    powers = sum(np.linalg.matrix_power(walk, r) for r in range(1, window + 1))
    return np.log(np.maximum(1, degree.sum() / (negative * window) * powers / degree))


@pytest.mark.parametrize(("window", "negative"), [(1, 1.0), (3, 1.0), (10, 5.0)])
def test_the_matrix_is_that_of_the_paper(window, negative):
    network, _ = community_network()
    genes = np.flatnonzero(network.known)
    adjacency = network.adjacency()[genes][:, genes]
    found = walk_matrix(adjacency, window=window, negative=negative)
    np.testing.assert_allclose(found, dense_walks(adjacency.toarray().astype(float), window, negative), atol=2e-5)


def test_blocks_of_columns_do_not_matter(monkeypatch):
    network, _ = community_network()
    genes = np.flatnonzero(network.known)
    adjacency = network.adjacency()[genes][:, genes]
    whole = walk_matrix(adjacency, window=4)
    monkeypatch.setattr("cell_lm.genes.netmf._BLOCK", 7)
    np.testing.assert_allclose(walk_matrix(adjacency, window=4), whole, atol=1e-6)


def test_vectors_are_the_leading_eigenvectors():
    network, _ = community_network()
    genes = np.flatnonzero(network.known)
    vectors = netmf_vectors(network, 8, window=3)[genes].astype(float)
    matrix = dense_walks(network.adjacency()[genes][:, genes].toarray().astype(float), 3, 1.0)
    values, axes = np.linalg.eigh(matrix)
    top = np.argsort(-np.abs(values))[:8]
    expected = axes[:, top] * np.sqrt(np.abs(values[top]))
    np.testing.assert_allclose(vectors @ vectors.T, expected @ expected.T / np.square(expected).mean(), atol=1e-3)


def test_genes_of_a_community_are_alike_and_genes_outside_the_network_have_nothing():
    network, community = community_network()
    vectors = netmf_vectors(network, 8, window=3)
    units = vectors[community >= 0] / np.linalg.norm(vectors[community >= 0], axis=1, keepdims=True)
    alike = community[community >= 0][:, None] == community[community >= 0]
    cosine = units @ units.T
    assert cosine[alike].mean() > cosine[~alike].mean() + 0.5
    assert not vectors[community < 0].any()
    assert np.square(vectors[community >= 0]).mean() == pytest.approx(1.0, abs=1e-3)


def test_scores_matter():
    network, _ = community_network()
    flat = Network.from_pairs(network.first, network.second, vocabulary=network.vocabulary, name="flat")
    assert not np.allclose(netmf_vectors(network, 4), netmf_vectors(flat, 4), atol=1e-2)


def test_a_network_smaller_than_the_width_fills_what_it_can():
    network, _ = community_network(communities=2, size=4)
    vectors = netmf_vectors(network, 32)
    assert vectors.shape == (len(network.vocabulary), 32)
    assert vectors[:, :7].any()
    assert not vectors[:, 7:].any()
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize(("size", "rank"), [(300, 40), (50, 40), (40, 40), (5, 1)])
def test_the_decomposition_is_that_of_lapack_whatever_the_signs(size, rank):
    generator = np.random.default_rng(0)
    axes = np.linalg.qr(generator.standard_normal((size, size)))[0]
    values = generator.choice([-1, 1], size) * (1 + np.arange(size)) ** -0.7  # falls slowly, as that of a network
    matrix = ((axes * values) @ axes.T).astype(np.float32)
    found, vectors = leading_eigenpairs(matrix, rank)
    np.testing.assert_allclose(found, values[:rank], atol=1e-4)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(rank), atol=1e-5)
    np.testing.assert_allclose(matrix @ vectors, vectors * found, atol=2e-4)


def star_forest(hubs: int, leaves: int) -> Network:
    """Stars of one size: as many equal eigenvalues as stars, and rows that are the same."""
    hub = np.repeat(np.arange(hubs) * (leaves + 1), leaves)
    leaf = hub + np.tile(np.arange(1, leaves + 1), hubs)
    return Network.from_pairs(hub, leaf, vocabulary=Vocabulary.human(), name="stars")


@pytest.mark.parametrize("network", [star_forest(30, 9), star_forest(80, 9)], ids=["all of the space", "a part of it"])
def test_a_network_of_small_rank_invents_no_eigenvalues(network, monkeypatch):
    monkeypatch.setattr("cell_lm.genes.netmf._ROOM", 100)
    genes = np.flatnonzero(network.known)
    matrix = walk_matrix(network.adjacency()[genes][:, genes], window=4)
    expected = np.linalg.eigvalsh(matrix.astype(float))
    values, vectors = leading_eigenpairs(matrix, 100)
    np.testing.assert_allclose(np.sort(np.abs(values)), np.sort(np.abs(expected))[-100:], atol=2e-2)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(100), atol=1e-4)


def test_another_power_needs_no_other_decomposition():
    network, _ = community_network()
    again = reweigh(netmf_vectors(network, 8), 2.0)
    expected = netmf_vectors(network, 8, power=2.0)
    np.testing.assert_allclose(again / again.std(), expected / expected.std(), atol=1e-4)
    short = reweigh(netmf_vectors(network, 80), 2.0)  # columns without an eigenvalue stay 0
    assert not short[:, 60:].any()
