from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cell_lm
from cell_lm.errors import GeneError, InputError, ModelError
from cell_lm.genes import GeneVectors, Vocabulary
from cell_lm.genes import vectors as module

SYMBOLS = ("CD19", "CD2", "CD3D", "CD3E", "MS4A1", "TP53")
VOCABULARY = Vocabulary(SYMBOLS, ("", "", "ENSG00000167286", "", "", ""))
KNOWN = np.array([True, True, True, True, True, False])
VALUES = np.array([[0, 2, 0], [3, 1, 0], [4, 0.5, 0], [4, 0.25, 0], [0, 3, 1], [7, 7, 7]], np.float32)


def make(values: np.ndarray = VALUES, vocabulary: Vocabulary = VOCABULARY, known: np.ndarray = KNOWN) -> GeneVectors:
    return GeneVectors.from_values(values, known, vocabulary, source="a\n test", about={"width": 3})


def make_human(width: int = 8) -> GeneVectors:
    human = Vocabulary.human()
    values = np.random.default_rng(0).normal(size=(len(human), width)).astype(np.float32)
    return GeneVectors.from_values(values, np.arange(len(human)) % 10 > 0, human, source="numbers")


def test_unknown_genes_have_zeros_and_the_source_is_one_line() -> None:
    vectors = make()
    assert not vectors.values[5].any()
    assert (len(vectors), vectors.width, vectors.source) == (5, 3, "a test")
    assert repr(vectors) == "GeneVectors(5 of 6 genes, width 3: a test)"
    assert VALUES[5].any()  # what was passed is left as it was


@pytest.mark.parametrize(
    ("values", "known", "found"),
    [
        (VALUES[:5], KNOWN, "vectors of shape"),
        (VALUES[:, :0], KNOWN, "vectors of shape"),
        (VALUES[:, 0], KNOWN, "vectors of shape"),
        (VALUES, KNOWN[:5], "known is bool"),
        (VALUES, KNOWN.astype(int), "known is int64"),
        (VALUES, ~np.ones(6, bool), "0 true"),
        (np.where(VALUES == 3, np.nan, VALUES), KNOWN, "CD2: 2 genes have numbers that are not finite"),
    ],
)
def test_what_does_not_fit_is_refused(values: np.ndarray, known: np.ndarray, found: str) -> None:
    with pytest.raises(InputError, match=found):
        make(values, known=known)


def test_numbers_beyond_single_precision_are_refused_without_a_warning() -> None:
    with pytest.raises(InputError, match="CD19: 5 genes have numbers that are not finite"):
        make(np.full(VALUES.shape, 1e39))


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {1, 2}, np.float32(1)])
def test_an_account_that_is_no_json_is_refused_before_it_is_saved(value: object) -> None:
    with pytest.raises(InputError, match="about is no JSON"):
        GeneVectors.from_values(VALUES, KNOWN, VOCABULARY, source="x", about={"value": value})  # type: ignore[dict-item]


def test_a_number_of_an_unknown_gene_may_be_anything() -> None:
    values = VALUES.copy()
    values[5] = np.nan
    assert not make(values).values[5].any()


@pytest.mark.parametrize("make_them", [make, make_human])
def test_saved_vectors_load_as_they_were_in_half_precision(tmp_path: Path, make_them: type) -> None:
    vectors, path = make_them(), tmp_path / "vectors.safetensors"
    vectors.save(path)
    loaded = GeneVectors.load(path)
    assert loaded.vocabulary == vectors.vocabulary
    assert np.array_equal(loaded.values, vectors.values.astype(np.float16).astype(np.float32))
    assert np.array_equal(loaded.known, vectors.known)
    assert (loaded.source, loaded.about) == (vectors.source, vectors.about)
    assert loaded.values.dtype == np.float32
    assert [file.name for file in tmp_path.iterdir()] == ["vectors.safetensors"]


def test_vectors_of_all_human_genes_of_width_512_stay_under_20_mb(tmp_path: Path) -> None:
    human = Vocabulary.human()
    values = np.random.default_rng(0).standard_normal((len(human), 512), np.float32)
    known = np.arange(len(human)) < 18_500
    GeneVectors.from_values(values, known, human, source="numbers").save(tmp_path / "v.safetensors")
    assert (tmp_path / "v.safetensors").stat().st_size < 20_000_000


@pytest.mark.parametrize("factor", [1e6, 1e-9])
def test_numbers_that_half_precision_cannot_hold_are_refused(tmp_path: Path, factor: float) -> None:
    with pytest.raises(InputError, match="do not fit half precision"):
        make(VALUES * np.float32(factor)).save(tmp_path / "v.safetensors")
    assert not list(tmp_path.iterdir())


def test_aligned_by_symbol_genes_of_another_vocabulary_keep_their_vectors() -> None:
    other = Vocabulary(("XYZ", "CD3E", "TP53", "CD19"), ("", "", "", ""))
    aligned = make().align(other)
    assert aligned.vocabulary is other
    assert aligned.known.tolist() == [False, True, False, True]
    assert np.array_equal(aligned.values, VALUES[[5, 3, 5, 0]] * aligned.known[:, None])
    assert make().align(VOCABULARY).known.sum() == 5


def test_a_vocabulary_without_any_of_the_genes_is_refused() -> None:
    with pytest.raises(ModelError, match="none of 2 genes has one of these 5 vectors"):
        make().align(Vocabulary(("TP53", "XYZ"), ("", "")))


def test_a_projection_keeps_the_geometry_and_has_unit_spread() -> None:
    vectors = make_human(8)
    known = vectors.known
    projected = vectors.project(8)
    assert projected.dtype == np.float32
    assert not projected[~known].any()
    assert np.isclose(projected[known].std(), 1.0, atol=1e-5)
    assert np.allclose(projected[known].mean(axis=0), 0.0, atol=1e-4)
    centred = vectors.values[known] - vectors.values[known].mean(axis=0)
    scale = np.linalg.norm(projected[known][0]) / np.linalg.norm(centred[0])
    assert np.allclose(
        projected[known][:50] @ projected[known][:50].T, scale**2 * centred[:50] @ centred[:50].T, atol=1e-3
    )
    assert (np.diff(projected[known].var(axis=0)) <= 0).all()


def test_a_narrower_projection_keeps_the_main_components_and_a_wider_one_adds_zeros() -> None:
    whole, narrow, wide = make().project(3), make().project(2), make().project(5)
    assert np.allclose(narrow / narrow[0, 0], whole[:, :2] / whole[0, 0], atol=1e-5)
    assert not wide[:, 3:].any()
    assert all(np.isclose(made[KNOWN].std(), 1.0, atol=1e-5) for made in (whole, narrow, wide))


def test_vectors_that_are_all_the_same_cannot_be_projected() -> None:
    with pytest.raises(ModelError, match="all 5 known genes have the same vector"):
        make(np.full_like(VALUES, 0.3)).project(2)


def test_similar_genes_are_those_of_large_cosine_the_mean_taken_off() -> None:
    table = make().similar("CD3D", k=10)
    assert table.columns.tolist() == ["gene", "cosine"]
    assert table["gene"].tolist() == ["CD3E", "CD2", "MS4A1", "CD19"]
    centred = VALUES[:5] - VALUES[:5].mean(axis=0)
    expected = centred[2] @ centred[3] / np.linalg.norm(centred[2]) / np.linalg.norm(centred[3])
    assert np.isclose(table["cosine"][0], expected, atol=1e-6)
    assert make().similar("CD3D", k=1)["gene"].tolist() == ["CD3E"]


@pytest.mark.parametrize(
    "name", ["CD20", "ENSG00000156738", "MS4A1", " MS4A1 ", "MS4A1.1|ENSG00000156738.4", "GRCh38_MS4A1"]
)
def test_any_name_of_a_gene_is_read(name: str) -> None:
    vectors = make_human()
    assert vectors.position(name) == Vocabulary.human().index("MS4A1")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("CD3X", "gene 'CD3X': it is no gene of 6 .*Close symbols: .*CD3"),
        ("Cd3d", "Close symbols: CD3D"),
        ("TP53", "TP53 has no vector: it is none of these 5 genes"),
        ("MALAT1", "non-coding|long non-coding"),
        ("", "no name"),
        ("q", "Use an HGNC symbol"),
    ],
)
def test_an_unknown_gene_is_refused_and_close_symbols_are_named(name: str, found: str) -> None:
    with pytest.raises(GeneError, match=found):
        make().similar(name)


@pytest.mark.parametrize("k", [0, -3, 2.5, float("nan"), "3", None])
def test_what_is_no_number_of_genes_is_refused(k: int) -> None:
    with pytest.raises(InputError, match=f"k is {k}"):
        make().similar("CD3D", k=k)


def test_the_number_of_genes_may_be_of_numpy() -> None:
    assert len(make().similar("CD3D", k=np.int64(2))) == 2  # type: ignore[arg-type]


def test_the_function_of_the_package_asks_the_given_vectors() -> None:
    assert cell_lm.genes.similar("CD3D", k=2, vectors=make()).equals(make().similar("CD3D", k=2))


def test_without_the_packaged_file_the_error_says_how_to_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGED", "not_there.safetensors")
    with pytest.raises(ModelError, match=r"comes without gene vectors.*cell-lm genes pretrain"):
        module.packaged_path()
