"""Made data for the quick run of the drug response benchmark without real files."""

from __future__ import annotations

import numpy as np

from benchmarks.parts.response_sets import Data
from cell_lm.data.response.molecules import read_molecules
from cell_lm.tasks.response.drugs import Structures

_SCAFFOLDS = ("c1ccccc1", "C1CCNCC1", "c1ccc2[nH]ccc2c1", "c1ccncc1")
_TAILS = ("C", "CC", "CCC", "CCCC", "C(C)C", "OC", "OCC", "NC", "NCC", "FC")


def made(lines: int = 200, genes: int = 500, seed: int = 0) -> Data:
    """Return lines whose genes and responses share three factors; loadings of a drug follow its scaffold."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(lines, 3))
    X = latent @ rng.normal(size=(3, genes)) + rng.normal(size=(lines, genes))
    smiles = [f"{tail}{scaffold}" for scaffold in _SCAFFOLDS for tail in _TAILS]
    kind = np.repeat(np.arange(len(_SCAFFOLDS)), len(_TAILS))
    loadings = rng.normal(size=(len(_SCAFFOLDS), 3))[kind]
    hidden = rng.normal(size=(lines, len(_SCAFFOLDS)))[:, kind]
    Y = 2.0 * kind + latent @ loadings.T + hidden + 0.5 * rng.normal(size=(lines, len(kind)))
    Y[rng.random(Y.shape) < 0.1] = np.nan
    drugs = np.array([f"drug {number}" for number in range(len(smiles))], object)
    molecules = list(read_molecules(dict(zip(drugs, smiles, strict=True)), where="made").values())
    structures = Structures.of(molecules)
    names = np.array([f"line {number}" for number in range(lines)], object)
    return Data("made", names, drugs, np.array([f"t{n % 5}" for n in range(lines)], object), X, Y, smiles, structures)
