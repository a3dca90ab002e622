from __future__ import annotations

import time

from cell_lm.genes.nomenclature import ALIAS, APPROVED, CODING, ENSEMBL, PREVIOUS, WITHDRAWN, Nomenclature, Reading


def small() -> Nomenclature:
    types = {"AAA1": CODING, "BBB1": CODING, "CCC1": "pseudogene", "DdD1": CODING}
    return Nomenclature(
        types,
        {
            APPROVED: {symbol: symbol for symbol in types},
            ENSEMBL: {"ENSG00000000001": "AAA1"},
            PREVIOUS: {"OLD": "AAA1", "BOTH": "AAA1|CCC1", "CCC1": "BBB1"},
            WITHDRAWN: {"GONE": "", "GONE2": "", "MOVED": "BBB1", "OLD": "BBB1"},
            ALIAS: {"OLD": "CCC1", "GONE2": "AAA1", "x-1": "BBB1", "y.1": "AAA1", "Y-1": "BBB1"},
        },
    )


def test_the_strongest_kind_decides_and_the_weaker_genes_are_remembered() -> None:
    assert small().read("OLD") == Reading(PREVIOUS, ("AAA1",), ("BBB1", "CCC1"))
    assert small().read("CCC1") == Reading(APPROVED, ("CCC1",), ("BBB1",))


def test_a_name_of_several_genes_keeps_them_all() -> None:
    assert small().read("BOTH") == Reading(PREVIOUS, ("AAA1", "CCC1"))


def test_a_withdrawn_entry_without_successor_does_not_hide_an_alias() -> None:
    assert small().read("GONE") == Reading(WITHDRAWN, ())
    assert small().read("GONE2") == Reading(ALIAS, ("AAA1",))


def test_a_name_that_is_none_reads_as_none() -> None:
    assert small().read("ZZZ9") is None
    assert small().read_any_spelling("ZZZ9") is None


def test_other_spellings_are_read_only_where_they_are_one_gene() -> None:
    assert small().read_any_spelling("X.1") == Reading(ALIAS, ("BBB1",))
    assert small().read_any_spelling("Y_1") is None
    assert small().approved_spelling("DDD1") == "DdD1"
    assert small().approved_spelling("x-1") is None


def test_packaged_names_are_all_of_hgnc_and_load_fast() -> None:
    Nomenclature.human.cache_clear()  # type: ignore[attr-defined]
    start = time.process_time()
    names = Nomenclature.human()
    assert time.process_time() - start < 1.0  # 0.1 s on an idle machine
    assert len(names.types) == 43_837
    assert sum(locus == CODING for locus in names.types.values()) == 19_281
    targets = {symbol for kind in names.names.values() for joined in kind.values() for symbol in joined.split("|")}
    assert targets - {""} <= set(names.types)
