from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cell_lm import model_folder
from cell_lm.errors import InputError, ModelError
from cell_lm.tasks import CellTypeClassifier, classifier_folder
from typed_cells import tiny_model


@pytest.fixture
def saved(fitted: CellTypeClassifier, tmp_path: Path) -> Path:
    fitted.save(tmp_path / "ann")
    return tmp_path / "ann"


def test_a_loaded_classifier_gives_the_same_probabilities(fitted, saved, query_cells):
    loaded = CellTypeClassifier.load(str(saved))
    pd.testing.assert_frame_equal(
        loaded.predict_proba(query_cells), fitted.predict_proba(query_cells), rtol=0, atol=1e-6
    )
    pd.testing.assert_series_equal(loaded.predict(query_cells), fitted.predict(query_cells))


def test_everything_that_is_known_comes_back(fitted, saved):
    loaded = CellTypeClassifier.load(saved)
    assert loaded.head_.selection == fitted.head_.selection
    assert loaded.seed == fitted.seed == 3
    for name in ("name", "label", "groups", "cells_per_class", "unlabelled", "vocabulary"):
        assert getattr(loaded.reference_, name) == getattr(fitted.reference_, name)
    assert (loaded.reference_.genes == fitted.reference_.genes).all()


def test_the_folder_holds_plain_data_only(saved):
    names = sorted(str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file())
    assert names == [
        "classifier.json",
        "head.safetensors",
        "model/README.md",
        "model/config.json",
        "model/model.safetensors",
        "model/vocabulary.json",
    ]


def test_a_classifier_is_replaced_by_another_one(fitted, saved, model, reference_cells):
    other = CellTypeClassifier(model).fit(reference_cells, "donor")
    other.save(saved)
    assert CellTypeClassifier.load(saved).classes_ == ("d1", "d2")
    assert sorted(path.name for path in saved.parent.iterdir()) == ["ann"]


@pytest.mark.parametrize("kind", ["folder", "file", "model"])
def test_anything_else_is_never_replaced(fitted, tmp_path, kind):
    place = tmp_path / "precious"
    if kind == "folder":
        place.mkdir()
        (place / "data.h5ad").write_bytes(b"years of work")
    elif kind == "file":
        place.write_bytes(b"years of work")
    else:
        fitted.model.save_pretrained(place)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="something else than a classifier"):
        fitted.save(place)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_write_that_fails_leaves_the_classifier_before(fitted, saved, model, reference_cells, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(classifier_folder, "write_json", full)
    other = CellTypeClassifier(model).fit(reference_cells, "donor")
    with pytest.raises(InputError, match="No space left on device"):
        other.save(saved)
    assert CellTypeClassifier.load(saved).classes_ == fitted.classes_
    assert sorted(path.name for path in saved.parent.iterdir()) == ["ann"]


def edit(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def apply(saved: Path) -> None:
        values = json.loads((saved / "classifier.json").read_text())
        change(values)
        (saved / "classifier.json").write_text(json.dumps(values))

    return apply


def cut(name: str) -> Callable[[Path], None]:
    return lambda saved: (saved / name).write_bytes((saved / name).read_bytes()[:-20])


def drop(name: str) -> Callable[[Path], None]:
    return lambda saved: (saved / name).unlink()


def flip(name: str) -> Callable[[Path], None]:
    def apply(saved: Path) -> None:
        content = bytearray((saved / name).read_bytes())
        content[-5] ^= 1
        (saved / name).write_bytes(content)

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop("classifier.json"), "holds no classifier"),
        (drop("head.safetensors"), "head.safetensors: is missing"),
        (drop("model/config.json"), "config.json: is missing"),
        (drop("model/model.safetensors"), "model.safetensors: is missing"),
        (drop("model/vocabulary.json"), "vocabulary.json: is missing"),
        (cut("classifier.json"), "cannot be read as JSON"),
        (cut("head.safetensors"), "head.safetensors: its SHA-256"),
        (flip("head.safetensors"), "head.safetensors: its SHA-256"),
        (flip("model/model.safetensors"), "model.safetensors: its SHA-256"),
        (flip("model/config.json"), "config.json: its SHA-256"),
        (cut("model/vocabulary.json"), "vocabulary.json"),
        (lambda saved: (saved / "classifier.json").write_text("[]"), "does not describe"),
        (lambda saved: (saved / "classifier.json").write_bytes(b"\xff\xfe"), "cannot be read as JSON"),
        (edit(lambda values: values.update(format=2)), "has format 2.*Upgrade cell-lm"),
        (edit(lambda values: values.update(kind="something")), "does not describe a cell-lm classifier"),
        (edit(lambda values: values.update(new_key=1)), "'new_key'"),
        (edit(lambda values: values.pop("C")), "'C'"),
        (edit(lambda values: values["cells_per_class"].popitem()), "does not fit 3 classes"),
        (
            edit(lambda values: values["cells_per_class"].update(alpha=values["cells_per_class"].pop("alpha"))),
            "not what",
        ),
        (edit(lambda values: values.update(vocabulary="0" * 64)), "another vocabulary"),
        (edit(lambda values: values.update(genes=3)), "'genes' does not fit"),
        (shutil.rmtree, "does not exist"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(saved, damage, message, monkeypatch):
    monkeypatch.setattr(model_folder, "_download", lambda name: pytest.fail(f"looked for {name} on the hub"))
    damage(saved)
    with pytest.raises(ModelError, match=message) as caught:
        CellTypeClassifier.load(saved)
    assert "\n" not in str(caught.value)
    assert str(saved) in str(caught.value)


def test_a_head_of_another_classifier_is_found_out(saved, model, reference_cells, tmp_path):
    CellTypeClassifier(model).fit(reference_cells, "donor").save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "head.safetensors", saved / "head.safetensors")
    with pytest.raises(ModelError, match=r"head.safetensors.*of another classifier"):
        CellTypeClassifier.load(saved)


def test_a_model_other_than_that_of_the_fit_is_found_out(saved):
    tiny_model(seed=5).save_pretrained(saved / "model")
    with pytest.raises(ModelError, match=r"config.json.*of another classifier"):
        CellTypeClassifier.load(saved)


def test_a_relative_path_with_one_slash_is_no_repository_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_folder, "_download", lambda name: pytest.fail(f"looked for {name} on the hub"))
    with pytest.raises(ModelError, match="somewhere/ann: does not exist"):
        CellTypeClassifier.load("somewhere/ann")
