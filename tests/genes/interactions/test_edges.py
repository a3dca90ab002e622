"""Reading tables of interactions: every form they come in, whatever the columns are called, and what is refused."""

from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cell_lm.errors import GeneError, InputError
from cell_lm.genes import Vocabulary
from cell_lm.genes.interactions import read_edges
from cell_lm.genes.interactions.names import read_pairs
from cell_lm.genes.interactions.text import open_table

ROWS = [("TP53", "MDM2", 0.9), ("CD3D", "CD3E", 0.8), ("EGFR", "GRB2", 0.25)]
HUMAN = Vocabulary.human()


def table(rows=ROWS, names=("gene_a", "gene_b", "score")):
    return pd.DataFrame(rows, columns=list(names))


def named(network):
    symbols = network.vocabulary.symbols
    edges = zip(network.first, network.second, network.score, strict=True)
    return {frozenset((symbols[a], symbols[b])): pytest.approx(float(s), abs=1e-6) for a, b, s in edges}


EXPECTED = {frozenset(row[:2]): row[2] for row in ROWS}


def text(path, content):
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("separator", [",", "\t", " ", ";"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["my.txt", "my.txt.gz"])
def test_every_separator_and_line_ending_is_read_gzipped_or_not(tmp_path, separator, ending, name):
    content = table().to_csv(sep=separator, index=False, lineterminator=ending)
    network = read_edges(text(tmp_path / name, content))
    assert named(network) == EXPECTED
    assert network.name == "my"


@pytest.mark.parametrize(
    "content",
    [
        '"gene_a"\t"gene_b"\t"score"\n"TP53"\t"MDM2"\t0.9\n',
        '"gene_a" "gene_b" "score"\n"TP53" "MDM2" "0.9"\n',
        "gene_a, gene_b, score\nTP53, MDM2, 0.9\n",
        "\ufeffgene_a,gene_b,score\nTP53,MDM2,0.9",
        "\ufeffTP53,MDM2,0.9",
        'gene_a\tgene_b\tscore\tremark\nTP53\tMDM2\t0.9\t"unclosed\n',
    ],
)
def test_quotes_blanks_and_byte_order_marks_do_not_matter(tmp_path, content):
    assert named(read_edges(text(tmp_path / "x.txt", content))) == {frozenset(("TP53", "MDM2")): 0.9}


def test_parquet_is_read_with_categories_and_an_index(tmp_path):
    frame = table().astype({"gene_a": "category", "score": "float32"})
    frame.index = [5, 6, 9]
    frame.to_parquet(tmp_path / "x.parquet")
    assert named(read_edges(tmp_path / "x.parquet")) == EXPECTED


def test_categories_that_no_row_has_do_not_count(tmp_path):
    frame = table().astype({"gene_a": pd.CategoricalDtype(["NOTAGENE", "EGFR", "TP53", "CD3D"])})
    frame.to_parquet(tmp_path / "x.parquet")
    table().to_csv(tmp_path / "x.csv", index=False)
    assert read_edges(tmp_path / "x.parquet").notes == read_edges(tmp_path / "x.csv").notes


def test_rows_of_parquet_without_a_gene_are_counted_and_left_out(tmp_path):
    table([*ROWS, (None, "TP53", 0.5), ("TP53", None, 0.5)]).to_parquet(tmp_path / "x.parquet")
    network = read_edges(tmp_path / "x.parquet")
    assert named(network) == EXPECTED
    assert "2 of 5 rows have a gene that is not in the vocabulary, and were left out" in network.notes


@pytest.mark.parametrize("genes", [[["TP53"]] * 3, [{"symbol": "TP53"}] * 3])
def test_a_column_of_genes_that_holds_lists_is_refused(tmp_path, genes):
    table().assign(gene_b=genes).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"the column 'gene_b' holds (list|struct)<.*no names of genes.*--gene-a"):
        read_edges(tmp_path / "x.parquet")


@pytest.mark.parametrize("kind", ["string", "object"])
def test_columns_without_any_gene_are_refused(tmp_path, kind):
    empty = pd.Series([None] * 3, dtype=kind)
    table().assign(gene_a=empty, gene_b=empty).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(GeneError, match="none of its 3 rows has a gene in 'gene_a' or 'gene_b'") as caught:
        read_edges(tmp_path / "x.parquet")
    assert "ENSP" not in str(caught.value)
    assert "proteins" not in str(caught.value)


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_the_names_of_all_rows_are_never_in_memory_as_objects_of_python(tmp_path, name):
    symbols, numbers = np.array(HUMAN.symbols[:300]), np.random.default_rng(0).integers(0, 300, (50_000, 2))
    frame = pd.DataFrame(symbols[numbers], columns=["gene_a", "gene_b"])
    frame.to_csv(tmp_path / name, index=False) if name == "x.csv" else frame.to_parquet(tmp_path / name)
    read_edges(tmp_path / name)  # what is imported and cached on the way does not count
    tracemalloc.start()
    try:
        rows = open_table(tmp_path / name).read(["gene_a", "gene_b"])
        read_pairs(rows, "gene_a", "gene_b", HUMAN, name)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most / len(frame) < 40  # bytes a row: some 20 of codes and positions, and 90 with objects


@pytest.mark.parametrize(
    "names",
    [
        ("gene1", "gene2", "score"),
        ("Gene_A", "Gene_B", "Weight"),
        ("symbol_a", "symbol_b", "combined_score"),
        ("protein1", "protein2", "combined_score"),
        ("source", "target", "weight"),
        ("node1", "node2", "confidence"),
        ("#node1", "node2", "score"),
        ("preferredName_A", "preferredName_B", "score"),
        ("Official Symbol Interactor A", "Official Symbol Interactor B", "Score"),
        ("source_genesymbol", "target_genesymbol", "score"),
        ("from", "to", "edge_weight"),
    ],
)
def test_usual_names_of_columns_are_found(tmp_path, names):
    table(names=names).to_csv(tmp_path / "x.tsv", sep="\t", index=False)
    assert named(read_edges(tmp_path / "x.tsv")) == EXPECTED


def test_names_of_genes_come_before_those_of_a_graphs_ends_so_that_a_column_of_sources_does_not_confuse(tmp_path):
    table().assign(source="anat", target=1, score_ntm=0.1, full800=True).to_csv(tmp_path / "x.csv", index=False)
    assert named(read_edges(tmp_path / "x.csv")) == EXPECTED


def test_other_names_are_refused_with_the_list_of_columns_and_read_when_named(tmp_path):
    table(names=("left", "right", "score")).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(InputError, match=r"it has 'left', 'right', 'score'\. Say which: gene_a= and gene_b= \(--"):
        read_edges(tmp_path / "x.csv")
    assert named(read_edges(tmp_path / "x.csv", gene_a="left", gene_b="right")) == EXPECTED


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gene_a": "gene_a"}, "gene_a is 'gene_a' and gene_b missing. Name both"),
        ({"gene_a": "gene_a", "gene_b": "gene_a"}, "two different columns"),
        ({"gene_a": "gene_a", "gene_b": "other"}, "there is no column 'other'. It has 'gene_a', 'gene_b', 'score'"),
        ({"score": "other"}, "there is no column 'other'"),
        ({"score": "score", "no_scores": True}, "but no scores are wanted"),
        ({"full_score": 0}, "full_score is 0"),
        ({"full_score": 0.5}, r"2 of 3 scores in 'score' are over full_score \(0.5\) \(the first: line 2\)"),
        ({"min_score": 2}, "min_score is 2"),
        ({"min_score": 0.95}, "none of its 3 interactions is left"),
    ],
)
def test_options_that_do_not_fit_the_file_are_refused(tmp_path, options, said):
    table().to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(InputError, match=said):
        read_edges(tmp_path / "x.csv", **options)


def test_two_pairs_that_may_be_the_genes_are_refused(tmp_path):
    table().assign(gene_1="A1BG", gene_2="A2M").to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(InputError, match="gene_1, gene_2 or gene_a, gene_b"):
        read_edges(tmp_path / "x.csv")


@pytest.mark.parametrize("other", ["Gene A", "GENE_B"])
def test_two_columns_of_names_that_differ_in_case_and_punctuation_alone_are_refused(tmp_path, other):
    table().assign(**{other: "A1BG"}).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(InputError, match="several pairs of columns may be the genes: gene_a, gene_b or ") as caught:
        read_edges(tmp_path / "x.csv")
    assert other in caught.value.found
    assert named(read_edges(tmp_path / "x.csv", gene_a="gene_a", gene_b="gene_b")) == EXPECTED


@pytest.mark.parametrize(
    ("scores", "options", "said"),
    [
        ([1, 1, 1], {"gene_a": "gene_a"}, ["gene_a= and gene_b= (--gene-a, --gene-b)"]),
        ([1, 1, 1], {"score": "score", "no_scores": True}, ["score= (--score)", "no_scores=True (--no-scores)"]),
        ([1, 1, "x"], {}, ["score= (--score)", "no_scores=True (--no-scores)"]),
        ([1, 1, -1], {}, ["no_scores=True (--no-scores)"]),
        ([1, 1, 7], {}, ["full_score= (--full-score)", "no_scores=True (--no-scores)"]),
        ([1, 1, 1], {"full_score": 0}, ["full_score= (--full-score)"]),
        ([1, 1, 1], {"min_score": 2}, ["min_score (--min-score)"]),
        ([0, 0, 0], {}, ["min_score (--min-score)"]),
    ],
)
def test_remedies_name_the_options_of_python_and_of_the_command_line(tmp_path, scores, options, said):
    table().assign(score=scores).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(InputError) as caught:
        read_edges(tmp_path / "x.csv", **options)
    assert all(text in caught.value.fix for text in said)


def test_two_columns_of_one_name_are_refused(tmp_path):
    text(tmp_path / "x.csv", "gene_a,gene_b,score,score\nTP53,MDM2,1,1\n")
    with pytest.raises(InputError, match="called 'score'"):
        read_edges(tmp_path / "x.csv")


@pytest.mark.parametrize("score", ["0.9", "900", None])
def test_a_table_without_names_is_read_if_its_first_line_is_two_genes(tmp_path, score):
    content = "TP53 MDM2" + (f" {score}\nCD3D CD3E {score}\n" if score else "\nCD3D CD3E\n")
    network = read_edges(text(tmp_path / "x.txt", content))
    assert named(network) == dict.fromkeys([frozenset(row[:2]) for row in ROWS[:2]], 0.9 if score else 1)
    assert any("have no names" in note for note in network.notes)


@pytest.mark.parametrize("kind", ["symbol", "ensembl", "version", "former", "alias", "mixed"])
def test_genes_are_found_by_any_of_their_names(tmp_path, kind):
    identifier = HUMAN.ensembl[HUMAN.index("TP53")]
    names = {
        "symbol": "TP53",
        "ensembl": identifier,
        "version": f"{identifier}.18",
        "former": "TP53",
        "alias": "p53",
        "mixed": f"TP53|{identifier}",
    }
    other = "MARCH1" if kind == "former" else "MDM2"
    text(tmp_path / "x.csv", f"gene_a,gene_b\n{names[kind]},{other}\n")
    assert named(read_edges(tmp_path / "x.csv")) == {
        frozenset(("TP53", "MARCHF1" if kind == "former" else "MDM2")): 1,
    }


def test_two_names_of_one_gene_are_one_gene(tmp_path):
    rows = [("TP53", "MDM2", 0.3), ("P53", "MDM2", 0.7), ("TP53", "P53", 0.9)]
    table(rows).to_csv(tmp_path / "x.csv", index=False)
    network = read_edges(tmp_path / "x.csv")
    assert named(network) == {frozenset(("TP53", "MDM2")): 0.7}
    assert "1 pairs of a gene with itself were dropped" in network.notes


def test_genes_that_are_not_in_the_vocabulary_are_counted_and_left_out(tmp_path):
    rows = [*ROWS, ("TP53", "MALAT1", 0.5), ("NOTAGENE", "TP53", 0.5), ("", "TP53", 0.5)]
    table(rows).to_csv(tmp_path / "x.csv", index=False)
    network = read_edges(tmp_path / "x.csv")
    assert named(network) == EXPECTED
    notes = "\n".join(network.notes)
    assert "3 of 6 rows have a gene that is not in the vocabulary" in notes
    assert "1 non-coding" in notes


def test_another_vocabulary_can_be_asked_for(tmp_path):
    few = Vocabulary(("CD3D", "CD3E", "MDM2", "TP53"), ("",) * 4)
    table().to_csv(tmp_path / "x.csv", index=False)
    network = read_edges(tmp_path / "x.csv", vocabulary=few)
    assert network.vocabulary is few
    assert len(network) == 2


@pytest.mark.parametrize("scale", [1, 1000])
def test_scores_of_one_and_of_strings_thousand_are_the_same(tmp_path, scale):
    frame = table()
    frame["score"] = (frame["score"] * scale).astype(float if scale == 1 else int)
    frame.to_csv(tmp_path / "x.csv", index=False)
    assert named(read_edges(tmp_path / "x.csv")) == EXPECTED


@pytest.mark.parametrize("scores", [[0.5, 7.5, 3.0], [10, 50, 100], [100, 2000, 3], [0.5, 1.5, 900.5]])
def test_scores_of_an_unknown_scale_are_refused_and_read_with_full_score(tmp_path, scores):
    frame = table().assign(score=scores)
    frame.to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(InputError, match=f"reach {max(scores):g}: neither .* full_score= \\(--full-score\\)"):
        read_edges(tmp_path / "x.csv")
    best = max(read_edges(tmp_path / "x.csv", full_score=2 * max(scores)).score)
    assert best == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("-0.5", r"1 of 3 scores in 'score' are negative \(the first: line 3\)"),
        ("nan", r"1 of 3 scores in 'score' are missing or no finite numbers \(the first: line 3\)"),
        ("", r"1 of 3 scores in 'score' are missing .*line 3"),
        ("inf", r"1 of 3 scores in 'score' are missing or no finite .*line 3"),
        ("high", r"1 of 3 scores in 'score' are no numbers \(the first: 'high', line 3\)"),
    ],
)
@pytest.mark.parametrize("blank", ["", "\n\n"])
def test_scores_that_are_none_are_refused_with_their_count_and_line(tmp_path, bad, said, blank):
    text(tmp_path / "x.csv", f"gene_a,gene_b,score\nTP53,MDM2,0.5\nCD3D,CD3E,{bad}\n{blank}EGFR,GRB2,0.5\n")
    with pytest.raises(InputError, match=said):
        read_edges(tmp_path / "x.csv")
    assert set(read_edges(tmp_path / "x.csv", no_scores=True).score) == {1.0}


def test_lines_are_counted_with_comments_and_blank_ones(tmp_path):
    text(tmp_path / "x.tsv", "## a comment\n\ngene_a\tgene_b\tscore\n\nTP53\tMDM2\t0.5\n\nCD3D\tCD3E\t-1\n")
    with pytest.raises(InputError, match="line 7"):
        read_edges(tmp_path / "x.tsv")


def test_scores_of_parquet_are_refused_by_row(tmp_path):
    table().assign(score=[0.1, np.nan, 0.2]).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="the first: row 2"):
        read_edges(tmp_path / "x.parquet")


def test_a_flag_is_no_score(tmp_path):
    table().assign(score=True).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="holds bool"):
        read_edges(tmp_path / "x.parquet")


def test_without_a_column_of_scores_every_edge_has_score_one_and_a_note_says_so(tmp_path):
    table()[["gene_a", "gene_b"]].assign(year=2020).to_csv(tmp_path / "x.csv", index=False)
    network = read_edges(tmp_path / "x.csv")
    assert set(network.score) == {1.0}
    assert "without scores: every edge has score 1" in network.notes


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"weight": 1}, "2 columns may be the score: 'score', 'weight'"),
        ({"score": None, "string_score": 1}, "this column may be the score: 'string_score'"),
    ],
)
def test_columns_that_may_be_the_score_are_listed_not_guessed(tmp_path, extra, said):
    table().assign(**extra).dropna(axis=1).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(InputError, match=said):
        read_edges(tmp_path / "x.csv")


def test_edges_of_no_or_low_score_are_left_out_and_counted(tmp_path):
    table([*ROWS, ("EGFR", "TP53", 0.0)]).to_csv(tmp_path / "x.csv", index=False)
    network = read_edges(tmp_path / "x.csv", min_score=0.8)
    assert named(network) == {frozenset(row[:2]): row[2] for row in ROWS[:2]}
    assert "1 of 4 rows have score 0, and were left out" in network.notes
    assert "1 of 4 rows have a score under 0.8, and were left out" in network.notes


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["TP53", "P53", "MDM2", "CD3D", "CD3E", "EGFR", "GRB2", "MALAT1"]),
            st.sampled_from(["TP53", "MDM2", "CD3D", "EGFR"]),
            st.sampled_from([0.25, 0.5, 1.0]),
        ),
        min_size=1,
    ).filter(lambda rows: any({"P53": "TP53"}.get(a, a) != b and a != "MALAT1" for a, b, _ in rows)),
    st.randoms(),
)
def test_the_order_of_rows_and_of_the_two_genes_does_not_matter(tmp_path, rows, random):
    table(rows).to_csv(tmp_path / "a.csv", index=False)
    shuffled = [(b, a, s) if random.random() < 0.5 else (a, b, s) for a, b, s in rows]
    random.shuffle(shuffled)
    table(shuffled).to_csv(tmp_path / "b.csv", index=False)
    one, two = read_edges(tmp_path / "a.csv"), read_edges(tmp_path / "b.csv")
    assert one.hash == two.hash
    assert sorted(one.notes) == sorted(two.notes)


BAD = {
    "empty.csv": (b"", "it is empty"),
    "blank.csv": (b"\n\n", "it is empty"),
    "self.csv": (b"gene_a,gene_b\nTP53,TP53\n", "none of its 1 interactions is left"),
    "zero.csv": (b"gene_a,gene_b,score\nTP53,MDM2,1e-60\n", "1 of 1 rows have score 0"),
    "aligned.txt": (b"gene_a   gene_b\nTP53     MDM2\n", "apart by several spaces"),
    "wide.csv": ("gene_a,gene_b\nTP53,MDM2\n".encode("utf-16"), "text in UTF-8"),
    "header.csv": (b"gene_a,gene_b,score\n", "it has no interactions"),
    "single.csv": (b"gene\nTP53\n", "a single column, 'gene'"),
    "ragged.csv": (b"gene_a,gene_b\nTP53,MDM2\nTP53\nCD3D,CD3E,1\n", "2 rows have more or fewer .* line 3 has 1 of 2"),
    "binary.csv": (bytes(range(256)) * 4, "it is binary"),
    "book.xlsx": (b"PK\x03\x04" + bytes(60), "Excel workbook"),
    "cut.csv.gz": (gzip.compress(table(ROWS * 9000).to_csv(index=False).encode(), 1)[:-200], "it cannot be read"),
    "short.csv.gz": (gzip.compress(table().to_csv(index=False).encode())[:-9], "it cannot be read"),
    "bad.parquet": (b"PAR1" + bytes(40) + b"PAR1", "it cannot be read"),
    "latin.csv": ("gene_a,gene_b\nTP53,MDM2\nCÄ3,CD3E\n".encode("latin-1"), "it cannot be read"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path, name):
    content, said = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        read_edges(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert caught.value.fix


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_edges(tmp_path / "x.csv")
    with pytest.raises(InputError, match="it is a folder"):
        read_edges(tmp_path)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ("Cd3d", "Cd3e", "mouse or rat. cell-lm reads human genes"),
        ("ENSMUSG00000032094", "ENSMUSG00000032093", "Ensembl ids of mouse"),
        ("9606.ENSP00000000233", "9606.ENSP00000356607", "read_string"),
        ("1234", "99", "numbers, not gene names.*gene_a= and gene_b= \\(--gene-a, --gene-b\\) name their columns"),
        ("P04637", "Q00987", "gene_a= and gene_b= \\(--gene-a, --gene-b\\) name their columns"),
    ],
)
def test_names_that_are_no_human_genes_are_refused_with_what_to_do(tmp_path, a, b, said):
    text(tmp_path / "x.csv", f"gene_a,gene_b\n{a},{b}\n")
    with pytest.raises(GeneError, match=said) as caught:
        read_edges(tmp_path / "x.csv")
    assert "adata" not in str(caught.value)
