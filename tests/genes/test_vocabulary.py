from __future__ import annotations

import json
from pathlib import Path

import pytest

from cell_lm.errors import GeneError, ModelError
from cell_lm.genes import Vocabulary

HASH = "db9497f827e0"


def test_human_vocabulary_is_the_protein_coding_genes_of_hgnc_sorted_by_symbol() -> None:
    human = Vocabulary.human()
    assert len(human) == len(human.symbols) == len(human.ensembl) == 19_281
    assert list(human.symbols) == sorted(set(human.symbols))
    assert human.symbols[0] == "A1BG"
    assert human.ensembl[human.index("CD3D")] == "ENSG00000167286"
    assert "MALAT1" not in human
    assert Vocabulary.human() is human


def test_order_and_content_of_the_human_vocabulary_never_change_unnoticed() -> None:
    # Every pretrained model depends on it: another hash needs another vocabulary file, not another number here.
    assert Vocabulary.human().hash.startswith(HASH)


def test_index_is_the_position_and_an_unknown_symbol_is_an_error() -> None:
    human = Vocabulary.human()
    assert all(human.index(human.symbols[i]) == i for i in (0, 9_999, 19_280))
    assert human.find("Cd3d") == -1
    with pytest.raises(GeneError, match="'Cd3d' is not in the vocabulary of 19,281 genes"):
        human.index("Cd3d")


def test_hash_depends_on_symbols_identifiers_and_order() -> None:
    variants = [
        Vocabulary(("A", "B"), ("1", "2")),
        Vocabulary(("B", "A"), ("2", "1")),
        Vocabulary(("A", "C"), ("1", "2")),
        Vocabulary(("A", "B"), ("1", "3")),
    ]
    assert len({vocabulary.hash for vocabulary in variants}) == len(variants)
    assert variants[0].hash == Vocabulary(("A", "B"), ("1", "2")).hash


@pytest.mark.parametrize(("symbols", "ensembl"), [(("A", "A"), ("", "")), (("A", "B"), ("",))])
def test_a_vocabulary_with_a_gene_twice_or_ragged_is_refused(
    symbols: tuple[str, ...], ensembl: tuple[str, ...]
) -> None:
    with pytest.raises(GeneError):
        Vocabulary(symbols, ensembl)


def test_saved_vocabulary_loads_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    Vocabulary.human().save(path)
    loaded = Vocabulary.load(path)
    assert loaded == Vocabulary.human()
    assert loaded.hash == Vocabulary.human().hash
    assert [file.name for file in tmp_path.iterdir()] == ["vocabulary.json"]


def _damage(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"symbols": ["B", "A"]},
        {"symbols": ["A"]},
        {"symbols": ["A", "A"]},
        {"symbols": [1, 2]},
        {"symbols": "AB"},
        {"ensembl": None},
        {"hash": "0"},
        {"format": 99},
    ],
)
def test_a_damaged_vocabulary_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "vocabulary.json"
    Vocabulary(("A", "B"), ("ENSG1", "")).save(path)
    _damage(path, **changes)
    with pytest.raises(ModelError, match=r"vocabulary\.json"):
        Vocabulary.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"null"])
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"vocabulary\.json"):
        Vocabulary.load(path)


def test_a_missing_vocabulary_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no vocabulary"):
        Vocabulary.load(tmp_path / "vocabulary.json")
