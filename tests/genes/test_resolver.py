from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell_lm.genes import GeneAudit, Vocabulary, resolve_genes
from cell_lm.genes.nomenclature import Nomenclature

HUMAN = Vocabulary.human()
HUMAN_NAMES = Nomenclature.human()
PLAIN = HUMAN.symbols[-100:]


def resolve(*names: object) -> GeneAudit:
    """Resolve a few names, after enough plain ones to make a human input of them."""
    return resolve_genes([*PLAIN, *names], min_overlap=1)


def row(name: object, *others: object) -> tuple[str, str, str]:
    """Return status, symbol and how of one name, in an input with some others."""
    last = resolve(*others, name).table.iloc[-1]
    assert (last["index"] >= 0) == (last["status"] in ("matched", "renamed", "merged"))
    assert last["index"] == (HUMAN.index(last["symbol"]) if last["index"] >= 0 else -1)
    return last["status"], last["symbol"], last["how"]


@pytest.mark.parametrize(
    ("name", "status", "symbol", "how"),
    [
        ("CD3D", "matched", "CD3D", "approved symbol"),
        ("HLA-A", "matched", "HLA-A", "approved symbol"),
        (" CD3D\t", "matched", "CD3D", "approved symbol"),
        ("H1-0", "matched", "H1-0", "approved symbol"),
        ("ENSG00000167286", "renamed", "CD3D", "Ensembl id"),
        ("ENSG00000167286.12", "renamed", "CD3D", "Ensembl id"),
        ("ENSG00000182378.14_PAR_Y", "renamed", "PLCXD1", "Ensembl id"),
        ("CD3D|ENSG00000167286", "renamed", "CD3D", "Ensembl id"),
        ("ENSG00000167286_CD3D", "renamed", "CD3D", "Ensembl id"),
        ("MUM1|ENSG00000160953", "renamed", "PWWP3A", "Ensembl id"),
        ("CD3D|ENSG99999999999", "matched", "CD3D", "approved symbol"),
        ("C1orf112", "renamed", "FIRRM", "previous symbol"),
        ("p53", "renamed", "TP53", "alias"),
        ("SEP15", "renamed", "SELENOF", "alias"),
        ("SEPT2", "renamed", "SEPTIN2", "previous symbol (a weaker name of SEPTIN6)"),
        ("ABLL", "renamed", "ABL2", "previous symbol"),
        ("GRCh38_CD3D", "matched", "CD3D", "approved symbol; prefix GRCh38_"),
        ("hg19-C1orf112", "renamed", "FIRRM", "previous symbol; prefix hg19-"),
        ("C1ORF112", "renamed", "FIRRM", "previous symbol, spelled otherwise"),
        ("C10ORF105", "renamed", "C10orf105", "approved symbol, spelled otherwise"),
        ("HLA.A", "renamed", "HLA-A", "approved symbol, spelled otherwise"),
        ("NKX6.1", "renamed", "NKX6-1", "approved symbol, spelled otherwise"),
        ("C4B-2", "renamed", "C4B_2", "approved symbol, spelled otherwise"),
        ("3-Mar", "renamed", "MARCHF3", None),
        ("2-Sep", "renamed", "SEPTIN2", None),
        ("Sep-02", "renamed", "SEPTIN2", None),
        ("MALAT1", "non-coding", "MALAT1", "approved symbol; locus type: RNA, long non-coding"),
        ("TRAC", "non-coding", "TRAC", "approved symbol; locus type: T cell receptor gene"),
        ("DEC1", "non-coding", "DELEC1", None),
        ("MUM1", "ambiguous", "", "previous symbol of IRF4, PWWP3A"),
        ("1-Mar", "ambiguous", "", None),
        ("CD4|ENSG00000167286", "ambiguous", "", "CD3D (Ensembl id) or CD4 (approved symbol)"),
        ("Met", "ambiguous", "", None),
        ("Cd3d", "unknown", "", ""),
        ("RP11-34P13.7", "unknown", "", ""),
        ("CD3D.1", "renamed", "CD3D", "approved symbol, with the number of a duplicate whose twin is not there"),
        ("UQCR11.1", "renamed", "UQCR11", "approved symbol, with the number of a duplicate whose twin is not there"),
        ("CD3D-1", "unknown", "", ""),
        ("LINC.1", "unknown", "", ""),
        ("AC000012.1", "unknown", "", ""),
        ("ENSG99999999999", "unknown", "", "Ensembl id that HGNC does not list"),
        ("ENSMUSG00000032094", "unknown", "", ""),
        ("mm10___Cd3d", "unknown", "", "gene of another genome (mm10___)"),
        ("WT2", "unknown", "", "withdrawn by HGNC, without successor"),
        ("31-Jan", "unknown", "", "a date, of no known gene"),
        ("", "unknown", "", "no name"),
        (None, "unknown", "", "no name"),
        (float("nan"), "unknown", "", "no name"),
        ("nan", "unknown", "", "no name"),
        (42, "unknown", "", ""),
    ],
)
def test_a_name_is_read_and_the_audit_says_how(name: object, status: str, symbol: str, how: str | None) -> None:
    found = row(name)
    assert found[:2] == (status, symbol)
    assert how is None or found[2] == how


def test_a_date_that_may_be_two_genes_is_ambiguous_and_lists_them() -> None:
    assert "MARCHF1, MTARC1" in row("1-Mar")[2]
    assert "SEPT2" in row("2-Sep")[2]


def test_an_approved_noncoding_symbol_is_not_captured_as_another_name_of_a_coding_gene() -> None:
    others = {**HUMAN_NAMES.names["alias"], **HUMAN_NAMES.names["previous symbol"]}
    noncoding = [n for n, s in others.items() if s in HUMAN and n in HUMAN_NAMES.types and n not in HUMAN]
    assert len(noncoding) > 10
    table = resolve(*noncoding).table.iloc[len(PLAIN) :]
    assert set(table["status"]) == {"non-coding"}
    assert list(table["symbol"]) == noncoding


def test_every_approved_symbol_and_ensembl_id_of_the_vocabulary_is_found_as_itself() -> None:
    assert resolve_genes(HUMAN.symbols).counts()["matched"] == len(HUMAN)
    identified = [i for i, identifier in enumerate(HUMAN.ensembl) if identifier]
    audit = resolve_genes([HUMAN.ensembl[i] for i in identified])
    assert audit.columns.tolist() == identified
    assert audit.counts()["renamed"] == len(identified)


@pytest.mark.parametrize("suffix", [".1", "-1", ".12"])
def test_a_number_after_a_name_that_is_there_marks_a_duplicate(suffix: str) -> None:
    alone = row(f"CD3D{suffix}")[:2]  # without the bare name a point is R's, a hyphen may belong to another name
    assert alone == (("unknown", "") if suffix == "-1" else ("renamed", "CD3D"))
    status, symbol, how = row(f"CD3D{suffix}", "CD3D")
    assert (status, symbol) == ("merged", "CD3D")
    assert how == "approved symbol; made unique from CD3D"


def test_a_real_name_that_ends_in_a_number_is_not_taken_for_a_duplicate() -> None:
    # KRTAP1-1 is a gene; AIP-1 is an alias of ABI2, and also what AnnData makes of a second AIP.
    assert row("KRTAP1-1", "KRTAP1")[:2] == ("matched", "KRTAP1-1")
    assert row("C4B-2", "C4B")[:2] == ("renamed", "C4B_2")
    assert row("AIP-1")[:2] == ("renamed", "ABI2")
    assert row("AIP-1", "AIP")[0] == "ambiguous"


def test_two_names_of_one_gene_are_both_merged_and_keep_how_they_were_found() -> None:
    table = resolve("FIRRM", "CD3D", "C1orf112").table.iloc[len(PLAIN) :]
    assert list(table["status"]) == ["merged", "matched", "merged"]
    assert list(table["how"]) == ["approved symbol", "approved symbol", "previous symbol"]
    assert table["index"].iloc[0] == table["index"].iloc[2]


def test_a_vocabulary_of_its_own_is_resolved_by_its_own_symbols_and_by_those_of_today() -> None:
    # FIRRM was C1orf112 until 2022: a model of that year has the old symbol in its vocabulary.
    old = Vocabulary(("C1orf112", "G1", "CD3D"), ("", "ENSG00000000099", ""))
    table = resolve_genes(["FIRRM", "G1", "ENSG00000000099.1", "TP53", "ENSG00000167286"], old, min_overlap=1).table
    assert list(table["index"]) == [0, 1, 1, -1, 2]
    assert list(table["symbol"]) == ["C1orf112", "G1", "G1", "TP53", "CD3D"]
    assert table["how"].iloc[3] == "approved symbol; protein-coding, but not in this vocabulary"


def test_the_table_has_a_row_for_every_name_as_given() -> None:
    names = ["CD3D", " cd4 ", "", "x" * 10_000, "CD3D"]
    table = resolve(*names).table
    assert list(table["gene"]) == [*PLAIN, *names]
    assert list(table.columns) == ["gene", "symbol", "index", "status", "how"]
    assert table["how"].iloc[-2] == "too long for the name of a gene: 10,000 characters"


ODD = st.one_of(
    st.text(),
    st.binary(),
    st.integers(),
    st.floats(),
    st.none(),
    st.tuples(st.text()),
    st.from_regex(r"(GRCh38_|mm10_)?(CD3D|ENSG00000167286|2-Sep|Cd3d)([.\-_|][0-9A-Z]{0,3})?", fullmatch=True),
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(ODD, max_size=20))
def test_no_name_whatever_it_is_makes_it_fail(names: list[object]) -> None:
    audit = resolve_genes([*HUMAN.symbols[:1000], *names])
    assert len(audit) == 1000 + len(names)
    assert sum(audit.counts().values()) == len(audit)
    assert ((audit.columns >= 0) == audit.table["status"].isin(["matched", "renamed", "merged"])).all()


def test_hostile_names_take_no_time() -> None:
    hostile = [
        "." * 10_000 + "ENSG00000167286",
        "ENSG" * 2_500,
        "human_" * 33,
        "A-1" * 60,
        "A" + "-1" * 90,
        "ACGT" * 45,
    ]
    start = time.process_time()
    resolve(*hostile * 5)
    assert time.process_time() - start < 1.0


def test_thirty_thousand_names_are_resolved_in_half_a_second() -> None:
    names = [*HUMAN.symbols, *(f"RP11-{i}P{i % 17}.{i % 7}" for i in range(30_000 - len(HUMAN)))]
    resolve_genes(names)
    start = time.process_time()
    resolve_genes(names)
    assert time.process_time() - start < 1.5  # 0.3 s on an idle machine
