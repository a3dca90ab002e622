from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from cell_lm.errors import ModelError
from cell_lm.genes import GeneVectors, Vocabulary
from cell_lm.genes.vectors_file import _digest

VOCABULARY = Vocabulary(("A", "B", "C"), ("", "", ""))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    path = tmp_path / "v.safetensors"
    GeneVectors.from_values(values, np.array([True, False, True]), VOCABULARY, source="test").save(path)
    return path


def content(path: Path) -> tuple[dict[str, str], np.ndarray]:
    with safe_open(path, framework="numpy") as file:
        return file.metadata(), file.get_tensor("vectors")


def rewrite(path: Path, half: np.ndarray | None = None, **changes: str | None) -> None:
    """Write the file with changes and a hash that fits them."""
    texts, kept = content(path)
    half = kept if half is None else half
    texts = {name: text for name, text in (texts | changes).items() if text is not None and name != "sha256"}
    save_file({"vectors": half}, path, metadata=texts | {"sha256": _digest(texts, half)})


def test_the_file_holds_half_precision_of_the_known_genes_and_says_of_which(path: Path) -> None:
    texts, half = content(path)
    assert half.dtype == np.float16
    assert half.tolist() == [[0.0, 1.0], [4.0, 5.0]]
    assert json.loads(texts["symbols"]) == ["A", "C"]
    assert texts["vocabulary_hash"] == VOCABULARY.hash
    assert texts["format"] == "1"


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(path: Path, cut: int) -> None:
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match=r"v\.safetensors: it cannot be read.*Copy the file again"):
        GeneVectors.load(path)


def test_a_flipped_bit_anywhere_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 2
        path.write_bytes(bytes(damaged))
        with pytest.raises(ModelError, match=r"v\.safetensors"):
            GeneVectors.load(path)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"format": "2"}, "format '2', this cell-lm reads format 1"),
        ({"source": None}, "no source in its metadata"),
        ({"symbols": '["A"]'}, "2 vectors for 1 genes"),
        ({"symbols": '["A", "A"]'}, "2 vectors for 1 genes"),
        ({"symbols": '["A", "X"]'}, "1 not in its vocabulary"),
        ({"symbols": "{}"}, "metadata cannot be read"),
        ({"symbols": '["A", []]'}, "1 not in its vocabulary"),
        ({"symbols": "[" * 50_000}, "metadata cannot be read"),
        ({"about": "[]"}, "metadata cannot be read"),
        ({"vocabulary": '[["A", "C"], ["", ""]]'}, "not the one that its hash names"),
        ({"vocabulary": "7"}, "metadata cannot be read"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(path: Path, changes: dict[str, str | None], found: str) -> None:
    rewrite(path, **changes)
    with pytest.raises(ModelError, match=found):
        GeneVectors.load(path)


@pytest.mark.parametrize(
    ("half", "found"),
    [
        (np.zeros((2, 2), np.float32), "float32 of shape"),
        (np.zeros(2, np.float16), "of shape"),
        (np.full((2, 2), np.inf, np.float16), "4 of its numbers are not finite"),
        (np.zeros((3, 2), np.float16), "3 vectors for 2 genes"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(path: Path, half: np.ndarray, found: str) -> None:
    rewrite(path, half)
    with pytest.raises(ModelError, match=found):
        GeneVectors.load(path)


def test_another_safetensors_file_is_refused(path: Path) -> None:
    save_file({"weight": np.zeros(2, np.float32)}, path)
    with pytest.raises(ModelError, match="it holds the tensors weight"):
        GeneVectors.load(path)


def test_a_missing_file_or_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"x\.safetensors: there are no gene vectors.*cell-lm genes pretrain"):
        GeneVectors.load(tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="it is no file"):
        GeneVectors.load(tmp_path)


def test_the_packaged_vocabulary_of_another_release_gives_a_vocabulary_of_the_genes_with_a_vector(path: Path) -> None:
    rewrite(path, vocabulary=None, vocabulary_hash="0" * 64)
    loaded = GeneVectors.load(path)
    assert loaded.vocabulary.symbols == ("A", "C")
    assert loaded.align(VOCABULARY).known.tolist() == [True, False, True]


def test_a_failed_save_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("cell_lm.genes.vectors_file.save_file", full)
    with pytest.raises(OSError, match="no space"):
        GeneVectors.load(path).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
