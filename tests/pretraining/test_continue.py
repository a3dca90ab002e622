"""A run that begins from the weights of a model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cell_lm.errors import ConfigError, GeneError, InputError, ModelError
from cell_lm.files import sha256
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.pretraining import initial, pretrain
from toy_run import after, rows, same, tensors, toy_cells, toy_config

TABLE = "encoder.embedding.genes.weight"
MINE = [toy_cells(seed=3, name="mine")]


def run(
    path: Path, origin: Any = None, *, cells: Any = None, encoder: Any = None, objectives: Any = None, **more: Any
) -> Any:
    session = {name: more.pop(name) for name in ("resume", "stop") if name in more}
    config = toy_config(encoder, objectives, **more)
    return pretrain(cells or MINE, config, path, initial=origin, progress=False, **session)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "run"
    pretrain([toy_cells()], toy_config(), path, progress=False)
    return path


@pytest.fixture(scope="module")
def whole(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run from this model that was not interrupted."""
    path = tmp_path_factory.mktemp("whole") / "run"
    run(path, trained)
    return path


@pytest.fixture
def origin(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may take away."""
    return Path(shutil.copytree(trained, tmp_path / "origin"))


def notes(path: Path) -> list[str]:
    return [row["message"] for row in rows(path, "note")]


@pytest.mark.parametrize("encoder", ["full", "latent", "performer"])
def test_it_begins_with_the_weights_of_the_model_gene_vectors_too(tmp_path: Path, encoder: str) -> None:
    kind = {"attention": encoder}
    pretrain([toy_cells()], toy_config(kind), tmp_path / "origin", progress=False)
    run(tmp_path / "run", tmp_path / "origin", encoder=kind, learning_rate=1e-30, stop=after(1))
    before, now = (CellLM.from_pretrained(tmp_path / name) for name in ("origin", "run"))
    ours, theirs = dict(now.named_parameters()), dict(before.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name].detach(), theirs[name].detach()) for name in ours)
    assert all(np.array_equal(one, two) for one, two in zip(now.buffers(), before.buffers(), strict=True)) or (
        encoder == "performer"  # whose random features follow the seed of the run
    )
    assert now.reference is not None
    assert np.array_equal(now.reference.components, before.reference.components)
    assert not any(note.startswith("gene vectors") for note in notes(tmp_path / "run"))
    assert f"continued from {tmp_path / 'origin'}: all weights, gene vectors too" in notes(tmp_path / "run")


def test_the_optimiser_is_fresh_and_the_run_starts_at_step_0(tmp_path: Path, trained: Path) -> None:
    result = run(tmp_path / "run", trained, stop=after(1))
    assert (result.steps, result.resumed_from) == (1, None)
    steps = [x for name, x in tensors(tmp_path / "run", 1).items() if name.endswith("/step")]
    assert {float(x) for x in steps} == {1.0}
    curve = rows(tmp_path / "run", "valid")
    assert curve[0]["step"] == 0
    assert curve[0]["total"] < 0.8 * rows(trained, "valid")[0]["total"]


def test_path_and_hash_of_the_model_are_recorded_and_the_card_names_them(tmp_path: Path, trained: Path) -> None:
    run(tmp_path / "run", trained, stop=after(1))
    recorded = json.loads((tmp_path / "run" / "data.json").read_text())["initial"]
    digest = sha256(trained / "model" / "model.safetensors")
    assert (recorded["path"], recorded["hash"]) == (str(trained), digest)
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"Continued from `{trained}`, whose weights have the SHA-256 `{digest}`" in card


def test_a_model_in_memory_does_as_well_as_its_folder(tmp_path: Path, trained: Path) -> None:
    run(tmp_path / "folder", trained / "model")
    run(tmp_path / "memory", CellLM.from_pretrained(trained))
    assert same(tensors(tmp_path / "memory", 12), tensors(tmp_path / "folder", 12))
    described = [json.loads((tmp_path / name / "data.json").read_text())["initial"] for name in ("folder", "memory")]
    assert described[0]["hash"] == described[1]["hash"]
    assert described[1]["path"] is None


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("cut", [0, 5])
def test_it_goes_on_to_the_same_bits_though_the_model_is_gone(
    tmp_path: Path, origin: Path, whole: Path, cut: int, named: bool
) -> None:
    if cut:
        run(tmp_path / "run", origin, stop=after(cut))
    else:  # killed in its first step: only the checkpoint of step 0 stands
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", origin, stop=_kill)
    shutil.rmtree(origin)
    result = run(tmp_path / "run", origin if named else None, resume=True)
    assert result.resumed_from == cut
    assert same(tensors(tmp_path / "run", 12), tensors(whole, 12))
    assert rows(tmp_path / "run") == rows(whole)


def _kill() -> bool:
    raise KeyboardInterrupt


def test_without_any_checkpoint_it_begins_anew_from_the_recorded_model(
    tmp_path: Path, origin: Path, whole: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", origin, stop=_kill)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000000")
    shutil.copytree(tmp_path / "run", tmp_path / "lost")
    run(tmp_path / "run", resume=True)
    assert same(tensors(tmp_path / "run", 12), tensors(whole, 12))
    shutil.rmtree(origin)
    with pytest.raises(ModelError, match="does not exist"):
        run(tmp_path / "lost", resume=True)


def test_it_goes_on_only_as_the_run_it_is(tmp_path: Path, origin: Path, trained: Path) -> None:
    run(tmp_path / "run", origin, stop=after(5))
    pretrain([toy_cells()], toy_config(seed=9, steps=1), tmp_path / "other", progress=False)
    with pytest.raises(InputError, match=r"the weights of '.*other' are not those that the run was begun with"):
        run(tmp_path / "run", tmp_path / "other", resume=True)
    assert run(tmp_path / "run", trained, resume=True).steps == 12  # the same weights elsewhere
    plain = tmp_path / "plain"
    run(plain, stop=after(5))
    with pytest.raises(InputError, match="the weights of"):
        run(plain, trained, resume=True)


def test_a_projection_head_that_fits_is_kept_and_another_starts_at_random(tmp_path: Path, trained: Path) -> None:
    other = {"contrastive": {"projection": 24, "temperature": 0.2}, "discrimination": {"weight": 0.0}}
    run(tmp_path / "run", trained, objectives=other, learning_rate=1e-30, stop=after(1))
    before, now = (CellLM.from_pretrained(path).state_dict() for path in (trained, tmp_path / "run"))
    changed = {name for name in now if not np.array_equal(now[name], before[name])}
    assert changed
    assert all(name.startswith("projection_head.") for name in changed)
    head = "its projection head starts at random (width 24, was 128)"
    assert any(head in note for note in notes(tmp_path / "run"))
    none = {"contrastive": {"projection": 0}}
    run(tmp_path / "none", trained, objectives=none, stop=after(1))
    assert any("its projection head is left out (width 0, was 128)" in note for note in notes(tmp_path / "none"))


def test_frozen_gene_vectors_stay_those_of_the_model(tmp_path: Path, trained: Path) -> None:
    run(tmp_path / "run", trained, freeze_gene_vectors=True)
    before = CellLM.from_pretrained(trained).state_dict()[TABLE]
    assert np.array_equal(tensors(tmp_path / "run", 12)[TABLE], before)


def test_what_does_not_fit_the_model_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, trained: Path
) -> None:
    renamed = Vocabulary(tuple(f"OTHER{i}" for i in range(40)), ("",) * 40)
    for settings, kind, found in (
        ({"encoder": {"feedforward": 32}}, ConfigError, r"encoder\.feedforward is 32, and the model's is 16"),
        ({"gene_vectors": "random"}, ConfigError, "gene_vectors is 'random', and the model has gene vectors"),
        ({"cells": [replace(MINE[0], vocabulary=renamed)]}, GeneError, "mine: .*vocabulary=model.vocabulary"),
    ):
        with pytest.raises(kind, match=found) as error:
            run(tmp_path / "run", trained, **settings)
        assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match="does not exist"):
        run(tmp_path / "run", tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_the_comparison_would_see_gene_vectors_that_are_started_anew(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: weights that are copied without the gene vectors."""
    honest = initial.copy_weights

    def forget(model: CellLM, given: Any) -> str:
        table = model.encoder.embedding.genes.weight.detach().clone()
        said = honest(model, given)
        model.encoder.embedding.genes.weight.data.copy_(table)
        return said

    monkeypatch.setattr("cell_lm.pretraining.run.copy_weights", forget)
    run(tmp_path / "run", trained, freeze_gene_vectors=True, stop=after(1))
    before = CellLM.from_pretrained(trained).state_dict()[TABLE]
    assert not np.array_equal(tensors(tmp_path / "run", 1)[TABLE], before)


def test_the_model_records_what_its_discrimination_head_saw(tmp_path: Path, trained: Path) -> None:
    seen = CellLM.from_pretrained(trained).discriminated
    assert seen is not None
    training = json.loads((trained / "data.json").read_text())["training"]
    assert seen.tumour + seen.normal == training
    assert min(seen.tumour, seen.normal) > training // 4
    unlabelled = [toy_cells(seed=3, name="mine", malignancy="none")]
    run(tmp_path / "unlabelled", trained, cells=unlabelled, stop=after(1))
    run(tmp_path / "off", trained, objectives={"discrimination": {"weight": 0.0}}, stop=after(1))
    for name in ("unlabelled", "off"):  # CLS has changed and the head has not
        assert CellLM.from_pretrained(tmp_path / name).discriminated is None
    config = json.loads((trained / "model" / "config.json").read_text())
    assert config["discriminated"] == {"tumour": seen.tumour, "normal": seen.normal}
