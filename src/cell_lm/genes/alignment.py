"""Project vectors to another width by principal components, as initial gene vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import ModelError


def principal_components(vectors: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Return the first principal components of vectors, scaled to standard deviation 1 over all numbers.

    The sign of each component makes its largest loading by magnitude positive, so the result does not depend on the
    numerical routine.

    Parameters
    ----------
    vectors
        [n, own width]; their mean is subtracted.
    width
        Number of columns; those beyond the own width are 0.

    Returns
    -------
    ndarray
        float32 [n, width].

    Raises
    ------
    ModelError
        All vectors are the same, so their variance is 0.
    """
    centred = vectors.astype(np.float64)
    centred -= centred.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :width]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    result: NDArray[np.float64] = np.zeros((len(vectors), width))
    result[:, : axes.shape[1]] = centred @ (axes * np.sign(largest))
    spread = result.std()
    if not spread > 1e-12 * (np.abs(vectors).max(initial=0.0) or 1.0):
        raise ModelError(f"all {len(vectors):,} known genes have the same vector", where="gene vectors")
    scaled: NDArray[np.float32] = (result / spread).astype(np.float32)
    return scaled
