"""Molecules: names, fingerprints, descriptors and graphs, and SMILES that cannot be read."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from cell_lm.data.response import molecules as m
from cell_lm.errors import ConfigError, InputError

ASPIRIN, ETHANOL = "CC(=O)Oc1ccccc1C(=O)O", "CCO"


def test_two_spellings_are_one_molecule_and_two_molecules_are_not() -> None:
    read = m.read_molecules({"a": "CCO", "b": "OCC", "c": "CCN"}, where="table")
    names = m.canonical(read)
    assert names["a"] == names["b"] != names["c"]


def test_smiles_that_cannot_be_read_are_named() -> None:
    with pytest.raises(InputError, match=r"2 of 3 SMILES cannot be read \('bad': 'C1CC'; 'none': ''\)"):
        m.read_molecules({"good": "CC", "bad": "C1CC", "none": ""}, where="table")


def test_fingerprints_and_tanimoto_agree_with_rdkit() -> None:
    from rdkit.Chem import rdFingerprintGenerator
    from rdkit.DataStructs import TanimotoSimilarity

    read = list(m.read_molecules({"a": ASPIRIN, "b": "OC(=O)c1ccccc1O", "c": ETHANOL}, where="table").values())
    bits = m.fingerprints(read)
    assert bits.shape == (3, m.BITS)
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=m.RADIUS, fpSize=m.BITS)
    own = [generator.GetCountFingerprint(each) for each in read]
    expected = np.array([[TanimotoSimilarity(x, y) for y in own] for x in own])
    assert m.tanimoto(bits, bits) == pytest.approx(expected)
    assert expected[0, 1] > expected[0, 2]


def test_descriptors_are_finite_and_those_of_rdkit() -> None:
    from rdkit.Chem import Descriptors

    read = list(m.read_molecules({"a": ASPIRIN, "b": ETHANOL}, where="table").values())
    values, names = m.descriptors(read), [name for name, _ in Descriptors.descList]
    assert values.shape == (2, len(names))
    assert np.isfinite(values).all()
    assert values[:, names.index("MolWt")] == pytest.approx([180.16, 46.07], abs=0.01)


def test_counts_tell_a_chain_from_a_longer_one() -> None:
    short, long = m.fingerprints(list(m.read_molecules({"a": "CCCCCC", "b": "CCCCCCCC"}, where="table").values()))
    assert long.max() > short.max() > 1
    assert 0 < m.tanimoto(short[None], long[None])[0, 0] < 1


def test_a_graph_has_every_bond_in_both_directions() -> None:
    graph = m.graph(m.read_molecules({"a": ASPIRIN}, where="table")["a"])
    assert graph.atoms.shape == (13, m.ATOM_WIDTH)
    assert graph.edges.shape == (2, 26)
    assert graph.bonds.shape == (26, m.BOND_WIDTH)
    assert set(map(tuple, graph.edges.T)) == set(map(tuple, graph.edges[::-1].T))
    single = m.graph(m.read_molecules({"a": "C"}, where="table")["a"])
    assert (single.edges.shape, single.bonds.shape) == ((2, 0), (0, m.BOND_WIDTH))


def test_without_rdkit_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ConfigError, match=r"cell-lm\[drug\]"):
        m.read_molecules({"a": "CC"}, where="table")
