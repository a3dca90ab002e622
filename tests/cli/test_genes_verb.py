from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typed import Cli

from cell_lm.genes.interactions.network import Network
from cell_lm.genes.vectors import GeneVectors
from cell_lm.genes.vocabulary import Vocabulary
from community_network import community_network

SMALL = ["--dim=8", "--steps=4", "--set", "hidden=16", "--set", "window=2", "--set", "pairs=32"]
SYMBOLS = Vocabulary.human().symbols


def write_edges(path: Path, network: Network, header: str = "gene1\tgene2\tscore") -> Path:
    ends = zip(network.first, network.second, network.score, strict=True)
    rows = [f"{SYMBOLS[a]}\t{SYMBOLS[b]}\t{score:.4f}" for a, b, score in ends]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def edges(tmp_path: Path) -> Path:
    return write_edges(tmp_path / "edges.tsv", community_network()[0])


def test_vectors_are_learned_saved_and_asked(cli: Cli, edges: Path, tmp_path: Path) -> None:
    out = tmp_path / "genes"
    said = cli("genes", "pretrain", edges, "--out", out, *SMALL)
    assert said.code == 0, said.err
    assert said.out.splitlines() == [f"{out / 'vectors.safetensors'}: 60 genes, width 8"]
    assert f"cell-lm pretrain CELLS --gene-vectors {out / 'vectors.safetensors'}" in said.err
    vectors = GeneVectors.load(out / "vectors.safetensors")
    near = cli("genes", "similar", SYMBOLS[0], "-k", "3", "--vectors", out / "vectors.safetensors")
    assert near.code == 0, near.err
    named = [line.split()[0] for line in near.out.splitlines()[1:]]
    assert named == list(vectors.similar(SYMBOLS[0], 3).gene)


def test_a_finished_run_can_be_resumed_and_stays_what_it_is(cli: Cli, edges: Path, tmp_path: Path) -> None:
    out = tmp_path / "genes"
    cli("genes", "pretrain", edges, "--out", out, *SMALL)
    before = GeneVectors.load(out / "vectors.safetensors").values
    assert cli("genes", "pretrain", edges, "--out", out, *SMALL, "--resume").code == 0
    np.testing.assert_array_equal(GeneVectors.load(out / "vectors.safetensors").values, before)
    assert "already" in cli("genes", "pretrain", edges, "--out", out, *SMALL).error
    assert "dim: 8, now 9" in cli("genes", "pretrain", edges, "--out", out, *SMALL, "--dim=9", "--resume").error


def test_a_run_goes_on_under_its_own_settings_and_is_extended_by_steps(cli: Cli, edges: Path, tmp_path: Path) -> None:
    out, longer = tmp_path / "genes", tmp_path / "longer"
    constant = ["--set", "warmup=0.0", "--set", "final_rate=1.0"]
    cli("genes", "pretrain", edges, "--out", out, *SMALL, *constant)
    said = cli("genes", "pretrain", edges, "--out", out, "--resume", "--steps=6")
    assert said.code == 0, said.err
    assert "steps was 4, now 6" in said.err
    cli("genes", "pretrain", edges, "--out", longer, *SMALL, *constant, "--steps=6")
    ours, theirs = (GeneVectors.load(folder / "vectors.safetensors").values for folder in (out, longer))
    np.testing.assert_array_equal(ours, theirs)


def test_columns_and_scores_can_be_named(cli: Cli, tmp_path: Path) -> None:
    network, _ = community_network()
    odd = write_edges(tmp_path / "odd.tsv", network, header="left\tright\tweight")
    named = ["--gene-a=left", "--gene-b=right", "--score=weight", "--min-score=0.7"]
    said = cli("genes", "pretrain", odd, "--out", tmp_path / "genes", *SMALL, *named)
    assert said.code == 0, said.err
    assert f"{int((network.score.round(4) >= 0.7).sum()):,} edges" in said.err


def test_options_of_tables_are_refused_where_there_is_no_table(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "string").mkdir()
    for networks in (["anat"], ["anat", tmp_path / "string"]):
        said = cli("genes", "pretrain", *networks, "--gene-a=left", "--out", tmp_path / "genes", *SMALL)
        assert said.code == 1
        assert "gene_a" in said.error


def test_a_folder_that_is_taken_is_refused_before_anything_is_read(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    said = cli("genes", "pretrain", tmp_path / "nowhere.tsv", "--out", tmp_path, *SMALL)
    assert "holds other files already" in said.error


def test_cells_take_part_by_their_co_expression(cli: Cli, make_file, edges: Path, tmp_path: Path) -> None:
    alone, beside = tmp_path / "alone", tmp_path / "combine_with"
    cli("genes", "pretrain", edges, "--out", alone, *SMALL)
    said = cli("genes", "pretrain", edges, "--out", beside, *SMALL, "--cells", make_file())
    assert said.code == 0, said.err
    first, second = (GeneVectors.load(folder / "vectors.safetensors").values for folder in (alone, beside))
    assert np.abs(first - second).max() > 0.01


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--set", "mask=0.3"], "there is no setting 'mask'"),
        (["--set", "mask_rate=1.5"], "'mask_rate'"),
        (["--set", "mask_rate"], "--set steps=100"),
        (["--encoder=gat", "--set", "heads=3"], "heads = 3 does not divide hidden = 16"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_read(
    cli: Cli, edges: Path, tmp_path: Path, arguments: list[str], found: str
) -> None:
    said = cli("genes", "pretrain", edges, "--out", tmp_path / "genes", *SMALL, *arguments)
    assert said.code == 1
    assert found in said.error
    assert not (tmp_path / "genes").exists()


def test_what_is_no_network_or_no_gene_is_refused_in_one_line(cli: Cli, edges: Path, tmp_path: Path) -> None:
    said = cli("genes", "pretrain", tmp_path / "nowhere.tsv", "--out", tmp_path / "genes", *SMALL)
    assert said.code == 1
    assert "nowhere.tsv" in said.error
    cli("genes", "pretrain", edges, "--out", tmp_path / "genes", *SMALL)
    unknown = cli("genes", "similar", "NOSUCHGENE", "--vectors", tmp_path / "genes" / "vectors.safetensors")
    assert unknown.code == 1
    assert "NOSUCHGENE" in unknown.error
