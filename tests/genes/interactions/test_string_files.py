"""STRING's own download files, and reading a network whatever holds it."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

from cell_lm.errors import GeneError, InputError
from cell_lm.genes import Vocabulary
from cell_lm.genes.interactions import packaged_network, read_edges, read_network, read_string, string_files
from cell_lm.genes.interactions.string_files import CHANNELS, combine

PROTEINS = {"ENSP01": "TP53", "ENSP02": "MDM2", "ENSP03": "CD3D", "ENSP04": "C1orf112", "ENSP05": "NOTAGENE"}
LINKS = [("ENSP01", "ENSP02", 999), ("ENSP01", "ENSP03", 700), ("ENSP02", "ENSP04", 699), ("ENSP05", "ENSP01", 950)]


def write(path, content):
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())


def names(taxon="9606"):
    rows = (f"{taxon}.{key}\t{name}\t100\tA \"quoted annotation; 's\n" for key, name in PROTEINS.items())
    return "#string_protein_id\tpreferred_name\tprotein_size\tannotation\n" + "".join(rows)


def links(rows=LINKS, taxon="9606"):
    both = [row for a, b, score in rows for row in ((a, b, score), (b, a, score))]
    return "protein1 protein2 combined_score\n" + "".join(f"{taxon}.{a} {taxon}.{b} {score}\n" for a, b, score in both)


def detailed(scores):
    head = " ".join(("protein1", "protein2", *CHANNELS, "combined_score"))
    rows = (f"9606.{a} 9606.{b} {' '.join(map(str, values))}" for a, b, values in scores)
    return head + "\n" + "\n".join(rows) + "\n"


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "9606.protein.links.v12.0.txt.gz", links())
    write(tmp_path / "9606.protein.info.v12.0.txt.gz", names())
    return tmp_path


def named(network):
    symbols = network.vocabulary.symbols
    edges = zip(network.first, network.second, network.score, strict=True)
    return {frozenset((symbols[a], symbols[b])): pytest.approx(float(s), abs=1e-6) for a, b, s in edges}


EXPECTED = {frozenset(("TP53", "MDM2")): 0.999, frozenset(("TP53", "CD3D")): 0.7}


def test_links_become_edges_between_the_genes_of_the_proteins(folder):
    network = read_string(folder)
    assert named(network) == EXPECTED
    assert network.vocabulary is Vocabulary.human()
    assert network.name == "string"
    assert "STRING v12.0" in network.source
    assert "CC BY 4.0" in network.source
    assert any("8 links" in note for note in network.notes)
    assert any("1 unknown" in note for note in network.notes)


def test_a_lower_threshold_keeps_more_and_old_names_of_genes_are_followed(folder):
    assert frozenset(("MDM2", "FIRRM")) in named(read_string(folder, min_score=0.4))


def test_the_file_of_links_can_be_named_and_files_need_not_be_gzipped(tmp_path):
    write(tmp_path / "9606.protein.links.v11.5.txt", links())
    write(tmp_path / "9606.protein.info.v11.5.txt", names())
    assert named(read_string(tmp_path / "9606.protein.links.v11.5.txt")) == EXPECTED


def test_blocks_of_the_file_do_not_change_what_is_read(folder, monkeypatch):
    whole = read_string(folder).hash
    monkeypatch.setattr(string_files, "_BLOCK", 64)
    assert read_string(folder).hash == whole


def test_two_proteins_of_one_gene_are_one_gene_with_its_best_score(tmp_path, monkeypatch):
    monkeypatch.setitem(PROTEINS, "ENSP03", "TP53")
    write(tmp_path / "9606.protein.links.v12.0.txt.gz", links([*LINKS, ("ENSP03", "ENSP02", 800)]))
    write(tmp_path / "9606.protein.info.v12.0.txt.gz", names())
    assert named(read_string(tmp_path)) == {frozenset(("TP53", "MDM2")): 0.999}


def test_channels_are_read_alone_or_combined_from_the_detailed_file(folder):
    zeros = dict.fromkeys(CHANNELS, 0)
    rows = [
        ("ENSP01", "ENSP02", [*(zeros | {"experimental": 800, "database": 500, "textmining": 900}).values(), 990]),
        ("ENSP01", "ENSP03", [*(zeros | {"textmining": 990}).values(), 990]),
    ]
    write(folder / "9606.protein.links.detailed.v12.0.txt.gz", detailed(rows))
    pair = frozenset(("TP53", "MDM2"))
    assert named(read_string(folder, channels=["experimental"])) == {pair: 0.8}
    a, b = ((s - 0.041) / (1 - 0.041) for s in (0.8, 0.5))
    together = 1 - (1 - a) * (1 - b)
    combined = together + 0.041 * (1 - together)
    network = read_string(folder, channels=["experimental", "database"], min_score=0)
    assert named(network) == {pair: combined}
    assert "experimental, database alone" in network.source
    assert named(read_string(folder)) == EXPECTED  # the plain file is there, too


def test_no_evidence_stays_no_evidence():
    assert combine([np.array([0, 0, 30]), np.array([0, 41, 20])]).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"channels": ["experimental"]},
            "links.detailed.v12.0.txt.gz, which is not there. cell-lm download string_det",
        ),
        ({"min_score": 700}, "min_score is 700"),
        ({"min_score": 1}, r"none of its 8 links is left.* Lower min_score \(--min-score\)"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder, options, said):
    with pytest.raises(InputError, match=said):
        read_string(folder, **options)


def test_a_channel_that_is_not_known_is_refused_with_those_that_are(folder):
    write(folder / "9606.protein.links.detailed.v12.0.txt.gz", detailed([]))
    with pytest.raises(InputError, match=r"no channel 'text'\. Name some of neighborhood"):
        read_string(folder, channels=["text"])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no file of STRING's links .* cell-lm download string"),
        ({"10090.protein.links.v12.0.txt.gz": ""}, r"species 10090, not of man \(9606\)"),
        ({"9606.protein.links.v12.0.txt.gz": ""}, "no 9606.protein.info.v12.0.txt.gz"),
        ({"9606.protein.links.v12.0.txt.gz": "", "9606.protein.info.v11.5.txt.gz": ""}, "no 9606.protein.info.v12.0"),
        ({"9606.protein.links.v12.0.txt.gz": "", "9606.protein.links.v11.5.txt.gz": ""}, "versions 11.5, 12.0"),
        ({"9606.protein.links.v12.0.txt": "x\n1\n", "9606.protein.info.v12.0.txt": names()}, "it cannot be read"),
        ({"9606.protein.links.v12.0.txt": links(), "9606.protein.info.v12.0.txt": ""}, "it cannot be read"),
        (
            {
                "9606.protein.links.v12.0.txt": links([("ENSP01", "ENSP02", 1001)]),
                "9606.protein.info.v12.0.txt": names(),
            },
            "2 scores are not from 0 to 1000",
        ),
        (
            {
                "9606.protein.links.v12.0.txt": links([("ENSP01", "ENSP02", "high")]),
                "9606.protein.info.v12.0.txt": names(),
            },
            "it cannot be read",
        ),
    ],
)
def test_files_that_are_missing_foreign_or_damaged_are_refused(tmp_path, files, said):
    for name, content in files.items():
        write(tmp_path / name, content)
    with pytest.raises(InputError, match=said) as caught:
        read_string(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["links", "info"])
def test_files_that_are_cut_off_are_refused(folder, kind):
    path = folder / f"9606.protein.{kind}.v12.0.txt.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match="cut off"):
        read_string(folder)


def test_names_of_another_species_are_refused(folder, monkeypatch):
    mouse = dict(zip(PROTEINS, ["Tp53bp1", "Mdm2", "Cd3d", "Cd3e", "Cd3g"], strict=True))
    write(folder / "9606.protein.info.v12.0.txt.gz", names().replace("TP53", "x"))
    for key, name in mouse.items():
        monkeypatch.setitem(PROTEINS, key, name)
    write(folder / "9606.protein.info.v12.0.txt.gz", names())
    with pytest.raises(GeneError, match="mouse"):
        read_string(folder)


def test_a_network_is_read_whatever_holds_it(folder):
    pd.DataFrame({"gene_a": ["TP53"], "gene_b": ["MDM2"], "score": [5]}).to_csv(folder / "x.csv", index=False)
    assert read_network("anat").hash == packaged_network().hash
    assert read_network("anat", min_score=0.7).hash == packaged_network().above(0.7).hash
    assert read_network(folder).hash == read_string(folder).hash
    assert read_network(str(folder), min_score=0.4).hash == read_string(folder, min_score=0.4).hash
    assert read_network(folder / "9606.protein.links.v12.0.txt.gz").hash == read_string(folder).hash
    assert read_network(folder / "x.csv", full_score=10).hash == read_edges(folder / "x.csv", full_score=10).hash


@pytest.mark.parametrize(
    ("what", "options", "said"),
    [
        (
            "anat",
            {"gene_a": "x", "no_scores": True},
            r"gene_a, no_scores mean nothing .*--gene-a\), .*--no-scores\)",
        ),
        ("anat", {"channels": ["experimental"]}, "channels mean nothing for the packaged network"),
        ("anat", {"min_score": 3}, "min_score is 3"),
        (".", {"full_score": 3}, "full_score mean nothing for STRING's files"),
        ("x.csv", {"channels": ["experimental"]}, "channels mean nothing for a table"),
        ("x.csv", {}, "no such file"),
    ],
)
def test_options_of_another_kind_of_network_are_refused(what, options, said):
    with pytest.raises(InputError, match=said):
        read_network(what, **options)
