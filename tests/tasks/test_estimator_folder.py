from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cell_lm import model_folder
from cell_lm.errors import InputError, ModelError, OutputError
from cell_lm.files import sha256, with_checksum
from cell_lm.tasks import CellTypeClassifier, Classifier, Estimator, MajorityBaseline, folder
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
    assert loaded.weights_ == fitted.weights_
    assert loaded.learned_from_ == fitted.learned_from_
    assert loaded.cross_validation_.macro_f1 == fitted.cross_validation_.macro_f1
    assert (loaded.cross_validation_.scores.confusion == fitted.cross_validation_.scores.confusion).all()
    assert loaded.seed == fitted.seed == 3
    assert loaded.cells_per_class_ == fitted.cells_per_class_
    for name in ("name", "label", "groups", "cells", "unlabelled", "vocabulary"):
        assert getattr(loaded.reference_, name) == getattr(fitted.reference_, name)
    assert (loaded.reference_.genes == fitted.reference_.genes).all()


def test_the_folder_holds_plain_data_only(saved):
    names = sorted(str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file())
    assert names == [
        "arrays.safetensors",
        "estimator.json",
        "model/README.md",
        "model/config.json",
        "model/model.safetensors",
        "model/vocabulary.json",
    ]


def test_a_classifier_is_replaced_by_another_one(fitted, saved, model, reference_cells):
    other = CellTypeClassifier(model).fit(reference_cells, "donor")
    other.save(saved)
    assert CellTypeClassifier.load(saved).classes_.tolist() == ["d1", "d2"]
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
    with pytest.raises(InputError, match="something else than an estimator"):
        fitted.save(place)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_write_that_fails_leaves_the_classifier_before(fitted, saved, model, reference_cells, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "write_json", full)
    other = CellTypeClassifier(model).fit(reference_cells, "donor")
    with pytest.raises(OutputError, match="No space left on device"):
        other.save(saved)
    assert CellTypeClassifier.load(saved).classes_.tolist() == fitted.classes_.tolist()
    assert sorted(path.name for path in saved.parent.iterdir()) == ["ann"]


def edit(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def apply(saved: Path) -> None:
        values = json.loads((saved / "estimator.json").read_text())
        change(values)
        (saved / "estimator.json").write_text(json.dumps(values))

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


def forge(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Edit the settings, and their hash with them."""

    def apply(values: dict) -> None:
        change(values)
        values.update(with_checksum(values))

    return edit(apply)


def rename_label(values: dict) -> None:
    sizes = values["values"]["cells_per_class"]
    values["values"]["cells_per_class"] = {name.replace("beta", "bet`"): size for name, size in sizes.items()}


def reorder_labels(values: dict) -> None:
    sizes = values["values"]["cells_per_class"]
    values["values"]["cells_per_class"] = {name: sizes[name] for name in sorted(sizes, reverse=True)}


EDITS: tuple[Callable[[dict], object], ...] = (
    rename_label,
    lambda values: values.update(new_key=1),
    lambda values: values["reference"].update(label="tissue"),
    lambda values: values["params"].update(seed=4),
    lambda values: values["files"].pop("model/vocabulary.json"),
    lambda values: values["values"]["learned"]["weights"].update(genes=2.0),
)
FORGED: tuple[tuple[Callable[[dict], object], str], ...] = (
    (lambda values: values.update(new_key=1), "'new_key'"),
    (lambda values: values["reference"].pop("label"), "'reference.label'"),
    (lambda values: values["reference"].update(vocabulary="0" * 64), "another vocabulary"),
    (lambda values: values.update(estimator="OracleClassifier"), "holds a OracleClassifier, which is unknown here"),
    (lambda values: values["params"].update(depth=4), "do not fit together.*depth"),
    (lambda values: values["values"]["cells_per_class"].popitem(), "do not fit together.*'genes.coefficients'"),
    (reorder_labels, "do not fit together.*not two or more in order"),
    (lambda values: values["values"]["learned"].clear(), "do not fit together.*weights"),
)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop("estimator.json"), "holds no estimator"),
        (drop("arrays.safetensors"), "arrays.safetensors: it is missing"),
        (drop("model/config.json"), "config.json: it is missing"),
        (drop("model/model.safetensors"), "model.safetensors: it is missing"),
        (drop("model/vocabulary.json"), "vocabulary.json: it is missing"),
        (cut("estimator.json"), "estimator.json: it cannot be read"),
        (cut("arrays.safetensors"), "arrays.safetensors: its SHA-256"),
        (flip("arrays.safetensors"), "arrays.safetensors: its SHA-256"),
        (flip("model/model.safetensors"), "model.safetensors: its SHA-256"),
        (flip("model/config.json"), "config.json: its SHA-256"),
        (cut("model/vocabulary.json"), "vocabulary.json: its SHA-256"),
        (lambda saved: (saved / "estimator.json").write_text("[]"), "not a JSON object"),
        (lambda saved: (saved / "estimator.json").write_bytes(b"\xff\xfe"), "estimator.json: it cannot be read"),
        (edit(lambda values: values.update(format=3)), "has format 3.*Upgrade cell-lm"),
        (edit(lambda values: values.update(kind="something")), "does not describe a cell-lm estimator"),
        *((edit(change), "settings are not those of its checksum") for change in EDITS),
        *((forge(change), message) for change, message in FORGED),
        (shutil.rmtree, "does not exist"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(saved, damage, message, monkeypatch):
    monkeypatch.setattr(
        model_folder.Download, "fetch", lambda self, name, files: pytest.fail(f"looked for {name} on the hub")
    )
    damage(saved)
    with pytest.raises(ModelError, match=message) as caught:
        CellTypeClassifier.load(saved)
    assert "\n" not in str(caught.value)
    assert str(saved) in str(caught.value)


def test_arrays_of_another_estimator_are_found_out(saved, model, reference_cells, tmp_path):
    CellTypeClassifier(model).fit(reference_cells, "donor").save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "arrays.safetensors", saved / "arrays.safetensors")
    with pytest.raises(ModelError, match=r"arrays.safetensors.*of another estimator"):
        CellTypeClassifier.load(saved)


def test_a_model_other_than_that_of_the_fit_is_found_out(saved):
    tiny_model(seed=5).save_pretrained(saved / "model")
    with pytest.raises(ModelError, match=r"config.json.*of another estimator"):
        CellTypeClassifier.load(saved)


def test_a_relative_path_with_one_slash_is_no_repository_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        model_folder.Download, "fetch", lambda self, name, files: pytest.fail(f"looked for {name} on the hub")
    )
    with pytest.raises(ModelError, match="somewhere/ann: it does not exist"):
        CellTypeClassifier.load("somewhere/ann")


def test_a_folder_says_which_estimator_it_holds(saved, reference_cells, tmp_path):
    MajorityBaseline().fit(reference_cells, "cell_type").save(tmp_path / "majority")
    assert type(Estimator.load(saved)) is type(Classifier.load(saved)) is CellTypeClassifier
    assert type(Estimator.load(tmp_path / "majority")) is MajorityBaseline
    with pytest.raises(ModelError, match="it holds a MajorityBaseline, not a CellTypeClassifier"):
        CellTypeClassifier.load(tmp_path / "majority")


def test_every_file_of_the_folder_is_in_its_manifest(saved):
    files = json.loads((saved / "estimator.json").read_text())["files"]
    there = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    assert there == {*files, "estimator.json", "model/README.md"}


@pytest.mark.parametrize("change", [flip("model/README.md"), drop("model/README.md")])
@pytest.mark.parametrize("hashed", [False, True])
def test_the_card_of_the_model_may_be_edited(saved, change, hashed):
    if hashed:  # as earlier versions did
        forge(lambda values: values["files"].update({"model/README.md": sha256(saved / "model" / "README.md")}))(saved)
    change(saved)
    assert CellTypeClassifier.load(saved).classes_.size


@pytest.fixture
def packaged(fitted: CellTypeClassifier, tmp_path: Path, monkeypatch) -> Path:
    """A folder of packaged models that holds the encoder of the classifier."""
    place = tmp_path / "packaged"
    place.mkdir()
    fitted.model.save_pretrained(place / "tiny")
    monkeypatch.setattr(model_folder, "_PACKAGED", place)
    return place


def test_a_packaged_encoder_is_recorded_by_name_and_not_copied(fitted, packaged, query_cells, tmp_path):
    fitted.save(tmp_path / "ann", packaged_model="tiny")
    assert sorted(path.name for path in (tmp_path / "ann").iterdir()) == ["arrays.safetensors", "estimator.json"]
    record = json.loads((tmp_path / "ann" / "estimator.json").read_text())["packaged_model"]
    assert record == {"name": "tiny", "weights_sha256": sha256(packaged / "tiny" / "model.safetensors")}
    loaded = CellTypeClassifier.load(tmp_path / "ann")
    pd.testing.assert_frame_equal(
        loaded.predict_proba(query_cells), fitted.predict_proba(query_cells), rtol=0, atol=1e-6
    )


def test_another_version_of_the_packaged_encoder_is_refused(fitted, packaged, tmp_path):
    fitted.save(tmp_path / "ann", packaged_model="tiny")
    shutil.rmtree(packaged / "tiny")
    with pytest.raises(ModelError, match="packaged model 'tiny', which this release does not have"):
        CellTypeClassifier.load(tmp_path / "ann")
    tiny_model(seed=5).save_pretrained(packaged / "tiny")
    with pytest.raises(ModelError, match="another version of the packaged model 'tiny'"):
        CellTypeClassifier.load(tmp_path / "ann")


def test_only_a_packaged_encoder_is_recorded_by_name(fitted, packaged, tmp_path):
    with pytest.raises(ModelError, match=r"large: it is no model of the package. Choose one of: tiny"):
        fitted.save(tmp_path / "ann", packaged_model="large")
    shutil.rmtree(packaged / "tiny")
    tiny_model(seed=5).save_pretrained(packaged / "tiny")
    with pytest.raises(ModelError, match="tiny: the encoder is not this packaged model"):
        fitted.save(tmp_path / "ann", packaged_model="tiny")
    assert not (tmp_path / "ann").exists()
