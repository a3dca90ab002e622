"""Gene vectors by NetMF: decompose in closed form the matrix that DeepWalk factorises by random walks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.genes.graph import csr_tensor
from cell_lm.genes.interactions.network import Network

WINDOW = 10
"""Window of the random walk in steps, as in DeepWalk."""
_BLOCK = 2048
"""Columns of the dense matrix powers in memory at once."""
_BEGIN = 16
"""Initial vectors of the decomposition."""
_ROOM = 384
"""Dimensions of the Krylov space beyond twice the rank."""
_SPENT = 1e-4
"""A vector with a smaller fraction of its length outside the space adds only rounding errors."""


def netmf_vectors(
    network: Network, width: int, *, window: int = WINDOW, negative: float = 1.0, power: float = 1.0, seed: int = 0
) -> NDArray[np.float32]:
    r"""Factorise the random walks of a network exactly.

    With adjacency A (scores), degrees D, volume :math:`v = \sum A` and :math:`P = D^{-1} A` the matrix is

    .. math:: M = \log \max\Bigl(1, \frac{v}{b T} \sum_{r=1}^{T} P^r D^{-1}\Bigr)

    (Qiu et al. 2018, "Network embedding as matrix factorization", eq. 9, algorithm 3), T the window and b the number of
    negative samples. The vector of a gene is its row of :math:`U |\Lambda|^{p/2}` over the eigenvalues of largest
    magnitude. The powers are exact, and the decomposition nearly so (:func:`leading_eigenpairs`): with this
    slowly falling spectrum, a randomised one with a few power iterations gives vectors with less information.

    Parameters
    ----------
    network
        The network.
    width
        Width of the vectors. With fewer genes in the network the last columns are 0.
    window, negative
        T and b.
    power
        p; 1 is the paper's.
    seed
        Random seed of the initial vectors of the decomposition.

    Returns
    -------
    ndarray
        float32 [genes, width], with root mean square 1 over all genes in the network; 0 for genes outside it.
    """
    vectors = np.zeros((len(network.vocabulary), width), np.float32)
    genes = np.flatnonzero(network.known)
    rank = min(width, len(genes) - 1)
    if rank < 1:
        return vectors
    company = walk_matrix(network.adjacency()[genes][:, genes], window=window, negative=negative)
    values, axes = leading_eigenpairs(company, rank, seed=seed)
    vectors[genes, :rank] = axes * np.abs(values) ** (power / 2)
    spread = np.sqrt(np.square(vectors[genes, :rank]).mean())
    return vectors / spread if spread > 0 else vectors


def reweigh(vectors: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """Convert NetMF vectors of power 1 to another power without a new decomposition, float32 [genes, width].

    The length of a column is the root of its eigenvalue; that of the leading column does not change.
    """
    length = np.linalg.norm(vectors, axis=0)
    scale = np.divide(length, length.max(), out=np.zeros_like(length), where=length > 0)
    reweighed: NDArray[np.float32] = vectors * np.where(length > 0, scale ** (power - 1), 0).astype(np.float32)
    return reweighed


def walk_matrix(adjacency: sparse.csr_matrix[np.float32], *, window: int, negative: float = 1.0) -> NDArray[np.float32]:
    """Return M of :func:`netmf_vectors`, float32 [n, n], for a symmetric matrix without empty rows.

    At a window of 10 a sixth of its numbers are not 0, so a dense matrix is faster: 1.2 GB for 17,600 genes.
    """
    degrees = np.asarray(adjacency.sum(axis=1), np.float64).ravel()
    shrink = sparse.diags(1 / np.sqrt(degrees))
    smooth = sparse.csr_matrix(shrink @ adjacency @ shrink)
    starts, columns = (torch.from_numpy(index.astype(np.int64)) for index in (smooth.indptr, smooth.indices))
    step = csr_tensor(starts, columns, torch.from_numpy(smooth.data.astype(np.float32)))
    scale = torch.from_numpy((1 / np.sqrt(degrees)).astype(np.float32))
    amount = float(degrees.sum()) / (negative * window)
    company = np.empty(smooth.shape, np.float32)
    for start in range(0, len(degrees), _BLOCK):
        block = torch.arange(start, min(start + _BLOCK, len(degrees)))
        one = torch.zeros(len(degrees), len(block))
        one[block, torch.arange(len(block))] = 1.0
        total = torch.zeros_like(one)
        for _ in range(window):
            total = step @ (one + total)
        company[:, start : start + _BLOCK] = (amount * scale[:, None] * total * scale[block]).clamp_(min=1.0).log_()
    return company


def leading_eigenpairs(
    matrix: NDArray[np.float32], rank: int, *, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the eigenvalues of largest magnitude of a symmetric matrix, in falling order, and eigenvectors.

    Block Lanczos with full orthogonalisation (Golub and Underwood 1977) and Rayleigh-Ritz in a space of more than
    twice the rank. It uses matrix products and takes half the time of ARPACK for hundreds of eigenpairs.

    Parameters
    ----------
    matrix
        float32 [n, n].
    rank
        Number of pairs, at most n.
    seed
        Random seed of the first block.

    Returns
    -------
    values, vectors
        float32 [rank], and [n, rank].
    """
    size = min(len(matrix), 2 * rank + _ROOM)
    values, axes = np.linalg.eigh(matrix) if size == len(matrix) else _ritz_pairs(matrix, size, seed)
    order = np.argsort(-np.abs(values))[:rank]
    return values[order], axes[:, order]


def _ritz_pairs(matrix: NDArray[np.float32], size: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return eigenvalues [size] and eigenvectors [n, size] of a matrix in a Krylov space."""
    generator = np.random.default_rng(seed)
    basis, images = (np.empty((len(matrix), size), np.float32) for _ in range(2))
    block = generator.standard_normal((len(matrix), _BEGIN), np.float32)
    done = 0
    while done < size:
        block = _orthogonal(block[:, : size - done], basis[:, :done], generator)
        held = slice(done, done + block.shape[1])
        basis[:, held] = block
        block = images[:, held] = matrix @ block
        done = held.stop
    values, axes = np.linalg.eigh((basis.T @ images).astype(np.float64))
    return values.astype(np.float32), basis @ axes.astype(np.float32)


def _orthogonal(
    block: NDArray[np.float32], basis: NDArray[np.float32], generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return a block of the same shape, orthonormal and orthogonal to a basis.

    Columns inside the basis (the matrix has a small rank, or equal eigenvalues) are replaced by random ones, since only
    rounding errors are left of them.
    """
    for _ in range(2):  # orthogonalise twice: once is not enough
        length = np.linalg.norm(block, axis=0)
        block, triangle = np.linalg.qr(block - basis @ (basis.T @ block))
        spent = np.abs(np.diag(triangle)) <= _SPENT * length
        if spent.any():
            block[:, spent] = generator.standard_normal((len(block), int(spent.sum())), np.float32)
            return _orthogonal(block, basis, generator)
    return block
