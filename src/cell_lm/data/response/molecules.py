"""Molecules by SMILES: canonical names, Morgan fingerprints, descriptors, and graphs of atoms and bonds.

RDKit is imported when the first molecule is read; without it :class:`~cell_lm.errors.ConfigError` names the extra to
install.

=============  =========================================================================================================
fingerprint    Morgan, radius 2, 2,048 counts (Rogers & Hahn 2010)
descriptors    all of RDKit's list: weight, logP, TPSA, donors, acceptors, rings, charges, fragments ...
atoms          element (11 and other), degree, charge, hydrogens, aromatic, ring, hybridisation, chirality
bonds          single, double, triple, aromatic; conjugated; in a ring; stereo
=============  =========================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from cell_lm.errors import ConfigError, InputError

BITS, RADIUS = 2048, 2
LARGEST = 1e6
"""Descriptors beyond this are cut: some have no bound."""
_ELEMENTS = (5, 6, 7, 8, 9, 14, 15, 16, 17, 35, 53)
_SHOWN = 3


class Graph(NamedTuple):
    """A molecule as a graph; every bond is an edge in both directions."""

    atoms: NDArray[np.float32]
    """[atoms, ATOM_WIDTH]."""
    edges: NDArray[np.int64]
    """[2, edges]: source and target."""
    bonds: NDArray[np.float32]
    """[edges, BOND_WIDTH]."""


ATOM_WIDTH, BOND_WIDTH = 39, 8


def read_molecules(smiles: Mapping[str, str], *, where: str) -> dict[str, Any]:
    """Return RDKit's molecule of every drug.

    Parameters
    ----------
    smiles
        SMILES by drug.
    where
        The table, for messages.

    Raises
    ------
    InputError
        SMILES cannot be read; the message names the drugs.
    ConfigError
        RDKit is not installed.
    """
    chem = _rdkit()
    from rdkit import RDLogger

    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    try:
        molecules = {drug: chem.MolFromSmiles(text) if text.strip() else None for drug, text in smiles.items()}
    finally:
        RDLogger.EnableLog("rdApp.error")  # type: ignore[attr-defined]
    bad = [drug for drug, molecule in molecules.items() if molecule is None or not molecule.GetNumAtoms()]
    if bad:
        shown = "; ".join(f"'{drug}': {smiles[drug][:60]!r}" for drug in bad[:_SHOWN])
        more = ", …" if len(bad) > _SHOWN else ""
        found = f"{len(bad):,} of {len(smiles):,} SMILES cannot be read ({shown}{more})"
        raise InputError(found, where=where, fix="Correct them, or leave them empty: the drug then has no structure")
    return molecules


def canonical(molecules: Mapping[str, Any]) -> dict[str, str]:
    """Return RDKit's canonical SMILES of every drug: equal for two names of one molecule."""
    chem = _rdkit()
    return {drug: str(chem.MolToSmiles(molecule)) for drug, molecule in molecules.items()}


def fingerprints(molecules: Sequence[Any]) -> NDArray[np.uint8]:
    """Return Morgan fingerprints: how often a molecule has each surrounding of an atom, uint8 [molecules, BITS]."""
    _rdkit()
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    rows = [generator.GetCountFingerprintAsNumPy(molecule) for molecule in molecules]
    return np.minimum(np.array(rows, np.int64).reshape(len(rows), BITS), 255).astype(np.uint8)


def descriptors(molecules: Sequence[Any]) -> NDArray[np.float64]:
    """Return all descriptors of RDKit, float64 [molecules, descriptors]; one that is not a number is 0.

    Their number depends on RDKit's version.
    """
    _rdkit()
    from rdkit.Chem import Descriptors

    calculate: Callable[..., dict[str, float]] = Descriptors.CalcMolDescriptors
    rows = [list(calculate(molecule, missingVal=0.0, silent=True).values()) for molecule in molecules]
    values = np.array(rows, np.float64).reshape(len(rows), len(Descriptors.descList))
    return np.clip(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0), -LARGEST, LARGEST)


def tanimoto(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Return Tanimoto similarities of counts, float64 [first, second]: sum of the minima over sum of the maxima."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    apart = cdist(a, b, "cityblock")
    total = a.sum(axis=1)[:, None] + b.sum(axis=1)[None]
    return np.asarray(np.divide(total - apart, total + apart, out=np.zeros_like(total), where=total > 0))


def graph(molecule: Any) -> Graph:
    """Return a molecule as a graph of atoms and bonds."""
    atoms = np.array([_atom(atom) for atom in molecule.GetAtoms()], np.float32)
    edges, bonds = list[tuple[int, int]](), list[list[float]]()
    for bond in molecule.GetBonds():
        a, b, features = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), _bond(bond)
        edges += [(a, b), (b, a)]
        bonds += [features, features]
    return Graph(
        atoms, np.array(edges, np.int64).reshape(-1, 2).T.copy(), np.array(bonds, np.float32).reshape(-1, BOND_WIDTH)
    )


def _atom(atom: Any) -> list[float]:
    hybridisations = ("SP", "SP2", "SP3", "SP3D", "SP3D2")
    chirality = ("CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW")
    return [
        *_one_hot(atom.GetAtomicNum(), _ELEMENTS),
        *_one_hot(atom.GetDegree(), range(6)),
        *_one_hot(atom.GetFormalCharge(), (-1, 0, 1)),
        *_one_hot(atom.GetTotalNumHs(), range(4)),
        float(atom.GetIsAromatic()),
        float(atom.IsInRing()),
        *_one_hot(str(atom.GetHybridization()), hybridisations),
        *_one_hot(str(atom.GetChiralTag()), chirality)[:3],
    ]


def _bond(bond: Any) -> list[float]:
    kinds = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
    kind = _one_hot(str(bond.GetBondType()), kinds)[:4]
    stereo = str(bond.GetStereo())
    ends = [float(stereo in ("STEREOE", "STEREOTRANS")), float(stereo in ("STEREOZ", "STEREOCIS"))]
    return [*kind, float(bond.GetIsConjugated()), float(bond.IsInRing()), *ends]


def _one_hot(value: object, known: Sequence[object]) -> list[float]:
    """Return one entry per known value and a last one for all others."""
    places = [float(value == each) for each in known]
    return [*places, float(not any(places))]


def _rdkit() -> Any:
    try:
        from rdkit import Chem
    except ImportError:
        found = "molecules are read with RDKit, which is not installed"
        raise ConfigError(found, fix="Install it: pip install 'cell-lm[drug]'") from None
    return Chem
