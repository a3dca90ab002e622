from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cell_lm.genes.spelling import (
    as_text,
    before_the_date,
    compound,
    human_prefix,
    made_unique_from,
    other_prefix,
    plainly_human,
)


@pytest.mark.parametrize("missing", [None, float("nan"), np.nan, pd.NA, pd.NaT, ""])
def test_missing_names_are_empty_text(missing: object) -> None:
    assert as_text(missing) == ""


@pytest.mark.parametrize(
    ("name", "text"), [("CD3D", "CD3D"), (b"CD3D", "CD3D"), (b"\xff", "\ufffd"), (7, "7"), (np.str_("CD4"), "CD4")]
)
def test_names_of_any_type_become_text(name: object, text: str) -> None:
    assert as_text(name) == text


@pytest.mark.parametrize(
    ("name", "ensembl", "rest"),
    [
        ("ENSG00000167286", "ENSG00000167286", ""),
        ("ENSG00000167286.12", "ENSG00000167286", ""),
        ("ENSG00000182378.14_PAR_Y", "ENSG00000182378", ""),
        ("ENSG00000182378_PAR_Y", "ENSG00000182378", ""),
        ("CD3D|ENSG00000167286", "ENSG00000167286", "CD3D"),
        ("ENSG00000167286_CD3D", "ENSG00000167286", "CD3D"),
        ("ENSG00000167286.9_HLA-A", "ENSG00000167286", "HLA-A"),
        ("HLA-A-ENSG00000167286", "ENSG00000167286", "HLA-A"),
    ],
)
def test_an_ensembl_id_is_found_with_what_is_glued_to_it(name: str, ensembl: str, rest: str) -> None:
    assert compound(name) == (ensembl, rest)


@pytest.mark.parametrize(
    "name", ["CD3D", "ENSMUSG00000032094", "ENSG0000016728", "ENST00000167286", "XENSG00000167286"]
)
def test_what_holds_no_human_gene_id_is_no_compound(name: str) -> None:
    assert compound(name) is None


@pytest.mark.parametrize(
    ("date", "names"),
    [
        ("2-Sep", ("SEPT2", "SEP2")),
        ("02-sep", ("SEPT2", "SEP2")),
        ("Sep-02", ("SEPT2", "SEP2")),
        ("2021-09-02", ("SEPT2", "SEP2")),
        ("2021-09-02 00:00:00", ("SEPT2", "SEP2")),
        ("1-Mar", ("MARCH1", "MARC1", "MAR1")),
        ("1-Dec", ("DEC1",)),
    ],
)
def test_a_date_is_read_as_the_names_it_may_have_been(date: str, names: tuple[str, ...]) -> None:
    assert before_the_date(date) == names


@pytest.mark.parametrize(
    "name", ["SEPT2", "SEPTIN2", "MARCH1", "32-Sep", "0-Sep", "2-Sept", "1-Foo", "DEC1", "2021-13-01"]
)
def test_what_is_no_date_is_left_alone(name: str) -> None:
    assert before_the_date(name) == ()


def test_prefixes_of_human_and_of_other_genomes_are_told_apart() -> None:
    assert [
        human_prefix(name) for name in ("GRCh38_CD3D", "hg19_CD3D", "GRCh38___CD3D", "hg19-CD3D", "CD3D", "hg19_")
    ] == [
        "GRCh38_",
        "hg19_",
        "GRCh38___",
        "hg19-",
        "",
        "",
    ]
    assert [other_prefix(name) for name in ("mm10___Cd3d", "GRCm39_Cd3d", "hg19_CD3D", "MMP9")] == [
        "mm10___",
        "GRCm39_",
        "",
        "",
    ]


def test_numbers_of_duplicates_are_taken_off_but_not_parts_of_names() -> None:
    names = ("CD3D.1", "CD3D-12", "HLA-A", "RP11-34P13.7", "CD3D.0", "CD3D-201", "CD3D")
    assert [made_unique_from(name) for name in names] == ["CD3D", "CD3D", "", "RP11-34P13", "", "", ""]


def test_only_capitals_and_reading_frames_are_plainly_human() -> None:
    assert all(map(plainly_human, ("C1ORF112", "c1orf112", "CXorf21", "HLA.A")))
    assert not any(map(plainly_human, ("Cd3d", "mt-Co1", "cd3d", "Hla-a")))
