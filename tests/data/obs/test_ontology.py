from __future__ import annotations

import csv
import re

import numpy as np
import pytest

from cell_lm.data.obs import ontology
from cell_lm.data.obs.ontology import ontology_column, ontology_ids, ontology_name


@pytest.mark.parametrize(
    ("label", "identifier"),
    [
        ("B cell", "CL:0000236"),
        ("B_cells", "CL:0000236"),
        ("NK", "CL:0000623"),
        ("natural killer cells", "CL:0000623"),
        ("CD4+ T cell", "CL:0000624"),
        ("CD14+ Monocytes", "CL:0001054"),
        ("FCGR3A+ Mono", "CL:0002396"),
        ("CD4-positive, alpha-beta T cell", "CL:0000624"),
        ("Endothelial", "CL:0000115"),
    ],
)
def test_names_as_people_write_them(label, identifier):
    assert ontology_ids([label]) == {label: identifier}


@pytest.mark.parametrize("label", ["CD4- T cell", "type 0", "B", "alpha", "T reg of nobody", "", "7"])
def test_what_is_not_known_has_no_id(label):
    assert ontology_ids([label]) == {}


def test_ambiguous_names_count_among_types_of_their_tissue_only():
    assert ontology_ids(["A", "B", "C", "T"]) == {}
    assert ontology_ids(["B", "NK", "CD8 T"])["B"] == "CL:0000236"
    assert ontology_ids(["alpha", "beta"]) == {}
    assert ontology_ids(["alpha", "beta", "acinar"])["alpha"] == "CL:0000171"


def test_every_label_set_of_common_references_is_covered():
    zheng = [
        "CD19+ B",
        "CD34+",
        "CD56+ NK",
        "CD8+ Cytotoxic T",
        "CD4+ T Helper2",
        "CD4+/CD45RO+ Memory",
        "CD14+ Monocyte",
    ]
    zheng += ["CD8+/CD45RA+ Naive Cytotoxic", "CD4+/CD25 T Reg", "CD4+/CD45RA+/CD25- Naive T"]
    assert set(ontology_ids(zheng)) == set(zheng)
    assert len(set(ontology_ids(zheng).values())) == 10


def test_the_table_holds_one_meaning_for_each_name():
    seen: dict[str, str] = {}
    with ontology._TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert re.fullmatch(r"CL:\d{7}", row["id"])
        for name in (row["name"], *filter(None, row["synonyms"].split(";"))):
            assert seen.setdefault(ontology._key(name), row["id"]) == row["id"], name
    assert len({row["id"] for row in rows}) == len(rows)
    assert ontology_name("CL:0000236") == "B cell"
    assert ontology_name("CL:9999999") == ""


def test_a_column_of_ids_is_missing_where_nothing_is_known():
    column = ontology_column(["B cell", "odd", "NK"], np.array([0, 1, 2, 0, -1]))
    assert column.astype(object).tolist()[:1] == ["CL:0000236"]
    assert column.codes.tolist() == [0, -1, 1, 0, -1]
    assert ontology_column(["odd"], np.array([0])) is None
