"""The network in the package: whole, small, and refused where it is damaged."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell_lm.errors import ModelError
from cell_lm.genes import Vocabulary
from cell_lm.genes.interactions.network import Network
from cell_lm.genes.interactions.packaged import pack, packaged_network, unpack

GENES = Vocabulary(tuple(f"G{i:03}" for i in range(600)), ("",) * 600)
EDGE = st.tuples(st.integers(0, 599), st.integers(0, 599), st.floats(2**-10, 1, width=32))


def small(rows=((0, 599, 0.3), (0, 300, 1.0), (5, 6, 0.3))):
    a, b, score = ([row[i] for row in rows] for i in range(3))
    return Network.from_pairs(a, b, score, vocabulary=GENES, name="small")


def test_the_packaged_network_is_of_the_human_vocabulary_and_has_the_edges_that_the_documents_name():
    network = packaged_network()
    assert network.vocabulary is Vocabulary.human()
    assert (len(network), int(network.known.sum())) == (537_460, 17_653)
    assert network.hash.startswith("689b1c0d314d6ce3")
    assert "BSD-3" in network.source
    assert packaged_network() is network


def test_it_has_interactions_that_everybody_knows():
    network, index = packaged_network(), Vocabulary.human().index
    adjacency = network.adjacency()
    assert adjacency[index("TP53"), index("MDM2")] > 0.9
    assert adjacency[index("CD3D"), index("CD3E")] > 0.5


def test_its_file_takes_less_than_a_megabyte_and_its_licence_is_beside_it():
    folder = files("cell_lm") / "resources"
    assert len((folder / "anat.npz").read_bytes()) < 1_000_000
    licences = (folder / "LICENSES.md").read_text(encoding="utf-8")
    assert "`anat.npz`" in licences
    assert "Copyright (c) 2024, Ron Sheinin" in licences


@given(st.lists(EDGE))
def test_packing_loses_nothing(rows):
    network = small(rows)
    assert unpack(pack(network), GENES, name="again").hash == network.hash


def test_the_same_network_packs_to_the_same_bytes():
    assert pack(small()) == pack(small())


def test_edges_that_were_changed_are_refused():
    content = bytearray(pack(small()))
    refused = 0
    for at in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[at] ^= 0x15
        try:
            read = unpack(bytes(damaged), GENES, name="x").hash
        except ModelError:
            refused += 1
        else:  # a byte that does not matter, as of a date
            assert read == small().hash
    assert refused > len(content) / 14


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive at all", pack(small())[:-40], pack(small())[:200]])
def test_what_is_no_whole_file_is_refused_in_one_line(content):
    with pytest.raises(ModelError, match="cannot be read"):
        unpack(content, GENES, name="x")


def test_another_vocabulary_is_refused():
    with pytest.raises(ModelError, match="another vocabulary"):
        unpack(pack(small()), Vocabulary(("A", "B"), ("", "")), name="x")


def test_objects_are_not_unpickled(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, vocabulary=np.array([{"a": 1}], object), hash=np.array([1], np.uint8))
    with pytest.raises(ModelError, match="cannot be read"):
        unpack(path.read_bytes(), GENES, name="x")
