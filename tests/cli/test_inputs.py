from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cell_lm.cli.console import Messages
from cell_lm.cli.inputs import Inputs, describe_malignancy, read_malignancy_options
from cell_lm.data import NORMAL, TUMOUR, UNKNOWN, MalignancyColumn, ReadOptions
from cell_lm.errors import ConfigError, InputError

MakeFile = Callable[..., Path]
READING = ReadOptions(min_genes=1)


@pytest.fixture
def two(make_file: MakeFile) -> tuple[Path, Path]:
    """Two files; the second has no column ``malignant``."""
    return make_file("a.h5ad", cells=12), make_file("b.h5ad", cells=6, change=lambda adata: adata.obs.pop("malignant"))


def test_values_are_parted_by_commas_unless_quoted() -> None:
    typed = {"tumour": ['yes, "Tumor, primary"', "putative"], "normal": ["no"], "unknown": []}
    column = read_malignancy_options("malignant", typed)
    assert column is not None
    assert column.column == "malignant"
    assert column.values == {"yes": "tumour", "Tumor, primary": "tumour", "putative": "tumour", "no": "normal"}
    assert read_malignancy_options(None, {}) is None


def test_a_value_of_two_meanings_or_of_no_column_is_refused() -> None:
    with pytest.raises(ConfigError, match="'yes' is given two meanings, tumour and normal"):
        read_malignancy_options("malignant", {"tumour": ["yes"], "normal": ["no,yes"]})
    with pytest.raises(ConfigError, match="--malignancy-column"):
        read_malignancy_options(None, {"tumour": ["yes"]})


def test_the_column_tells_the_state_and_a_file_without_it_is_unknown_and_said_so(
    two: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    column = MalignancyColumn("malignant", {"putative": "tumour"})
    first, second = Inputs.gather(two, [], [], column).read(READING, Messages())
    assert np.array_equal(first.malignancy == TUMOUR, first.obs["malignant"] == "putative")
    assert np.array_equal(first.malignancy == NORMAL, first.obs["malignant"] == "no")
    assert set(second.malignancy) == {UNKNOWN}
    said = capfd.readouterr().err
    assert said.count("no obs column 'malignant'") == 1
    assert describe_malignancy(first) == "4 tumour, 8 normal"
    assert describe_malignancy(second) == "6 of unknown malignancy"


def test_a_column_that_no_file_has_is_refused(two: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match=r"obs has no column 'malignnat'.*malignant"):
        Inputs.gather(two, [], [], MalignancyColumn("malignnat")).read(READING, Messages())


def test_a_whole_file_may_be_tumour_or_normal_whether_or_not_it_is_named_plainly(two: tuple[Path, Path]) -> None:
    first, second = two
    column = MalignancyColumn("malignant", {"putative": "tumour"})
    inputs = Inputs.gather([first], [second], [], column)
    assert inputs.files == (first, second)
    datasets = inputs.read(READING, Messages())
    assert set(datasets[1].malignancy) == {TUMOUR}
    assert set(datasets[0].malignancy) == {TUMOUR, NORMAL}
    (first.parent / "x").mkdir()
    again = first.parent / "x" / ".." / "a.h5ad"
    inputs = Inputs.gather([second, first], [], [again], None)
    assert [path.name for path in inputs.files] == ["b.h5ad", "a.h5ad"]
    assert {path.name: malignancy for path, malignancy in inputs.whole.items()} == {"a.h5ad": "normal"}
    assert set(inputs.read(READING, Messages())[1].malignancy) == {NORMAL}


def test_the_word_on_a_whole_file_goes_over_the_column(two: tuple[Path, Path]) -> None:
    column = MalignancyColumn("malignant", {"putative": "tumour"})
    datasets = Inputs.gather(two, [], [two[0]], column).read(READING, Messages())
    assert set(datasets[0].malignancy) == {NORMAL}


def test_a_state_column_that_no_file_has_is_refused_even_where_none_would_be_read(two: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="no malignancy column is read"):
        Inputs.gather([], [two[0]], [two[1]], MalignancyColumn("absent")).read(READING, Messages())


@pytest.mark.parametrize("kind", ["files", "tumour", "normal"])
def test_a_file_named_twice_would_count_double_and_is_refused(two: tuple[Path, Path], kind: str) -> None:
    named: dict[str, list[Path]] = {"files": [], "tumour": [], "normal": []} | {kind: [two[0], two[0]]}
    with pytest.raises(ConfigError, match="named twice"):
        Inputs.gather(**named, column=None)


def test_a_file_that_is_tumour_and_normal_is_refused(two: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="as tumour and as normal"):
        Inputs.gather([], [two[0]], [two[0]], None)


def test_dropped_cells_and_meanings_of_no_cell_are_reported(
    two: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    column = MalignancyColumn("malignant", {"putative": "tumour", "putatve": "tumour"})
    inputs = Inputs.gather(two[:1], [], [], column)
    genes = sorted(inputs.read(READING, Messages())[0].genes_per_cell)
    capfd.readouterr()
    kept = inputs.read(ReadOptions(min_genes=int(genes[3])), Messages())[0]
    said = capfd.readouterr().err
    assert len(kept) == len([number for number in genes if number >= genes[3]])
    assert f"{kept.dropped} cells left out" in said
    assert "no cell has 'putatve' in obs column 'malignant'" in said
    assert "'putative'" not in said
