"""An interrupted fit goes on from the parts that are done, to the same bits, and from nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from anndata import AnnData

from cell_lm.data.response import ResponseTable
from cell_lm.errors import CellLMError, ConfigError, InputError, ModelError
from cell_lm.files import held
from cell_lm.tasks import DrugResponseRegressor
from cell_lm.tasks.response import graphs, network, unfinished
from planted_response import READ, lines, responses

SETTINGS: dict[str, Any] = {"members": 1, "trees": 4, "folds": 2, "graphs": True}
PARTS = 5
NAMES = ["fold-0", "fold-1", "lines", "intervals", *(f"drug-fold-{fold}" for fold in range(5)), "graphs"]


class Made(NamedTuple):
    lines: AnnData
    table: ResponseTable


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def made() -> Made:
    adata, latent = lines(20)
    table = responses(adata, latent)
    return Made(adata, table.keep(table.pairs["drug"].str.endswith(("-1", "-2", "-3", "-4")).to_numpy()))


@pytest.fixture(autouse=True, scope="module")
def short() -> Iterator[None]:
    """Train both networks for a few steps."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (network, graphs):
            patched.setattr(module, "SETTINGS", replace(module.SETTINGS, steps=5))
        yield


@pytest.fixture(scope="module")
def whole(made: Made) -> DrugResponseRegressor:
    return DrugResponseRegressor(**SETTINGS).fit(made.lines, made.table, **READ)


def stop_after(parts: int) -> Callable[[int], None]:
    left = [parts]

    def progress(done: int) -> None:
        left[0] -= done
        if left[0] == 0:
            raise StoppedError

    return progress


def fit(made: Made, folder: Path, **given: Any) -> DrugResponseRegressor:
    return DrugResponseRegressor(**SETTINGS).fit(made.lines, made.table, checkpoint=folder, **given, **READ)


def interrupt(made: Made, folder: Path, parts: int = 1, **given: Any) -> None:
    with pytest.raises(StoppedError):
        fit(made, folder, progress=stop_after(parts), **given)


def bits(regressor: DrugResponseRegressor, data: AnnData) -> list[bytes]:
    """All arrays of the fit, and predictions for new lines and drugs."""
    fitted = regressor._fitted()
    table = regressor.predict(data[:3], new_drugs={"mine": "CCOc1ccccc1"}, **READ)
    arrays = [np.ascontiguousarray(fitted.arrays[name]).tobytes() for name in sorted(fitted.arrays)]
    return [str(fitted.values).encode(), *arrays, table.to_csv().encode()]


def test_a_fit_that_is_interrupted_after_every_part_has_the_same_bits(
    made: Made, whole: DrugResponseRegressor, tmp_path: Path
) -> None:
    folder = tmp_path / "parts"
    for number in range(1, PARTS + 1):
        interrupt(made, folder, number, resume=True)
    assert unfinished.parts_done(folder) == len(NAMES)
    went_on = fit(made, folder, resume=True)
    other, _ = lines(5, seed=4)
    assert bits(went_on, other) == bits(whole, other)
    went_on.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert bits(DrugResponseRegressor.load(tmp_path / "model"), other)[:-1] == bits(whole, other)[:-1]


def test_parts_that_are_done_are_not_computed_again(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(made, tmp_path / "parts", PARTS)
    computed, plain = list[str](), unfinished.Parts.part

    def counted(parts: unfinished.Parts, name: str, compute: Callable[[], Any]) -> Any:
        computed.append(name)
        return plain(parts, name, compute)

    monkeypatch.setattr(unfinished.Parts, "part", counted)
    fit(made, tmp_path / "parts", resume=True)
    assert computed == []
    fit(made, tmp_path / "other", resume=True)  # nothing to go on with: it is begun
    assert computed == NAMES


def other_response(made: Made) -> Made:
    pairs = made.table.pairs.assign(response=made.table.pairs["response"].where(made.table.pairs.index != 7, 0.5))
    return made._replace(table=replace(made.table, pairs=pairs))


def other_expression(made: Made) -> Made:
    changed = made.lines.copy()
    changed.X[3, 3] += 0.5
    return made._replace(lines=changed)


def other_structure(made: Made) -> Made:
    return made._replace(table=made.table.with_smiles({**made.table.smiles(), "drug0-1": "CCOCC"}))


def fewer_lines(made: Made) -> Made:
    return made._replace(lines=made.lines[1:])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (other_response, "was begun with other responses."),
        (other_expression, "was begun with other expression."),
        (other_structure, "was begun with other structures."),
        (fewer_lines, "was begun with other lines and expression and responses."),
    ],
)
def test_other_data_are_refused(made: Made, tmp_path: Path, change: Callable[[Made], Made], says: str) -> None:
    interrupt(made, tmp_path / "parts")
    with pytest.raises(InputError, match=says) as told:
        fit(change(made), tmp_path / "parts", resume=True)
    assert "Give what it was begun with, or begin anew: remove the folder" in str(told.value)


def test_other_settings_and_versions_are_refused(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(made, tmp_path / "parts")
    other = DrugResponseRegressor(**{**SETTINGS, "seed": 1})
    with pytest.raises(InputError, match="was begun with seed=0, not 1"):
        other.fit(made.lines, made.table, checkpoint=tmp_path / "parts", resume=True, **READ)
    monkeypatch.setattr(unfinished, "version", lambda name: "0.1")
    with pytest.raises(InputError, match=r"was begun with numpy='[^']+', not '0.1'"):
        fit(made, tmp_path / "parts", resume=True)


def test_what_is_not_to_go_on_is_refused_before_anything_is_read(made: Made, tmp_path: Path) -> None:
    interrupt(made, tmp_path / "parts", 2)
    nothing = DrugResponseRegressor()
    with pytest.raises(InputError, match=r"not finished \(2 parts are done\)\. Go on with it by resume=True"):
        nothing.fit("missing.h5ad", made.table, checkpoint=tmp_path / "parts")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    for resume in (False, True):
        with pytest.raises(InputError, match="something else than an unfinished fit"):
            nothing.fit("missing.h5ad", made.table, checkpoint=tmp_path / "mine", resume=resume)
    with pytest.raises(ConfigError, match="without a checkpoint"):
        nothing.fit("missing.h5ad", made.table, resume=True)
    with held(tmp_path / "parts", InputError("")), pytest.raises(InputError, match="another process"):
        fit(made, tmp_path / "parts", resume=True)


def truncated(folder: Path) -> None:
    path = folder / "parts" / "fold-0.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def missing(folder: Path) -> None:
    (folder / "parts" / "fold-0.safetensors").unlink()


def edited(folder: Path) -> None:
    path = folder / "unfinished.json"
    path.write_text(path.read_text().replace('"folds": 2', '"folds": 3'))


def emptied(folder: Path) -> None:
    (folder / "unfinished.json").write_text("")


@pytest.mark.parametrize("damage", [truncated, missing, edited, emptied])
def test_a_damaged_folder_is_refused_in_one_line(made: Made, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    interrupt(made, tmp_path / "parts")
    damage(tmp_path / "parts")
    with pytest.raises(ModelError, match=r"it is damaged .* Begin anew: remove the folder") as told:
        fit(made, tmp_path / "parts", resume=True)
    assert "\n" not in str(told.value)


def test_a_part_that_was_half_written_is_computed_again(
    made: Made, whole: DrugResponseRegressor, tmp_path: Path
) -> None:
    interrupt(made, tmp_path / "parts")
    (tmp_path / "parts" / "parts" / "fold-1.safetensors").write_bytes(b"half")
    assert bits(fit(made, tmp_path / "parts", resume=True), made.lines) == bits(whole, made.lines)


def test_bad_input_leaves_no_folder(made: Made, tmp_path: Path) -> None:
    few = made._replace(lines=made.lines[:5])
    with pytest.raises(CellLMError, match="fewer than 10"):
        fit(few, tmp_path / "parts")
    assert not list(tmp_path.iterdir())
