"""What h5ad cannot hold is mended or refused before any work; what is mended can be written, and keeps its values."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from cell_lm.data.formats.writable import check_writable, make_writable
from cell_lm.errors import InputError


def small() -> AnnData:
    obs, var = pd.DataFrame(index=[f"c{i}" for i in range(4)]), pd.DataFrame(index=list("abc"))
    return AnnData(sparse.csr_matrix(np.arange(12, dtype=np.float32).reshape(4, 3)), obs=obs, var=var)


def written(adata: AnnData, folder: Path) -> AnnData:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adata.write_h5ad(folder / "a.h5ad")
    return anndata.read_h5ad(folder / "a.h5ad")


COLUMNS: dict[str, tuple[Any, list[Any], bool]] = {
    "numbers and text": ([1, "a", None, 2.5], ["1", "a", None, "2.5"], True),
    "truth and none": (np.array([True, None, False, True], object), [True, None, False, True], True),
    "all missing": (np.array([None] * 4, object), [None] * 4, True),
    "numbers as objects": (np.array([1.5, None, 2.0, 3.0], object), [1.5, None, 2.0, 3.0], True),
    "text and missing": (np.array(["a", None, "b", "c"], object), ["a", None, "b", "c"], False),
    "pandas text": (pd.array(["a", None, "b", "b"], dtype="string"), ["a", None, "b", "b"], False),
    "dates": (pd.to_datetime(["2020-01-01", None, "2020-01-02", "2020-01-02"]), ["2020-01-01", None], True),
    "intervals": (pd.cut([1, 2, 3, 4], 2), ["(0.997, 2.5]"], True),
    "mixed categories": (pd.Categorical([1, "a", 1, "a"]), ["1", "a", "1", "a"], True),
    "nullable floats": (pd.array([1.0, None, 2.0, 3.0], dtype="Float64"), [1.0, None, 2.0, 3.0], True),
    "null characters": (["a\0", "b", "c", "d"], ["a", "b", "c", "d"], True),
    "bytes that were no text": (["a\udce9", "b", "c", "d"], ["a\\udce9", "b", "c", "d"], True),
    "lists": ([[1], [2], [3], [4]], ["[1]", "[2]", "[3]", "[4]"], True),
    "whole numbers": (np.arange(4), [0, 1, 2, 3], False),
    "plain categories": (pd.Categorical(list("abab")), list("abab"), False),
}


@pytest.mark.parametrize(("values", "expected", "said"), COLUMNS.values(), ids=COLUMNS)
def test_a_column_of_any_kind_can_be_written(values: Any, expected: list[Any], said: bool, tmp_path: Path) -> None:
    adata = small()
    adata.obs["x"] = values
    notes = make_writable(adata)
    assert [("column 'x' of obs" in note) for note in notes] == [True] * said
    back = [None if pd.isna(value) else value for value in written(adata, tmp_path).obs["x"]]
    assert back[: len(expected)] == expected


def set_raw(adata: AnnData) -> None:
    var = pd.DataFrame({"_index": list("abcd")}, index=list("abcd"))
    adata.raw = AnnData(sparse.csr_matrix(np.ones((4, 4), np.float32)), obs=adata.obs, var=var)


NAMES: dict[str, tuple[Callable[[AnnData], object], str, Callable[[AnnData], object]]] = {
    "var": (lambda a: a.var.__setitem__("_index", list("abc")), "'index_'", lambda a: [*a.var] == ["index_"]),
    "raw": (set_raw, "raw.var", lambda a: [*a.raw.var] == ["index_"] and a.raw.X.sum() == 16),
    "obsm table": (
        lambda a: a.obsm.__setitem__("t", pd.DataFrame({"_index": range(4)}, index=a.obs_names)),
        "obsm['t']",
        lambda a: [*a.obsm["t"]] == ["index_"],
    ),
    "slash in obs": (lambda a: a.obs.__setitem__("a/b", 1), "'a_b'", lambda a: [*a.obs] == ["a_b"]),
    "slash in obsm": (lambda a: a.obsm.__setitem__("a/b", np.ones((4, 2))), "'a_b'", lambda a: "a_b" in a.obsm),
    "slash in layers": (lambda a: a.layers.__setitem__("a/b", a.X), "'a_b'", lambda a: "a_b" in a.layers),
    "slash in uns": (lambda a: a.uns.__setitem__("a/b", 1), "'a_b'", lambda a: a.uns["a_b"] == 1),
    "number": (lambda a: a.obs.__setitem__(0, 1), "column 0 of obs", lambda a: [*a.obs] == ["0"]),
    "pair": (lambda a: a.obs.__setitem__(("a", "b"), 1), "called 'a_b'", lambda a: [*a.obs] == ["a_b"]),
    "dot": (lambda a: a.obs.__setitem__(".", 1), "'._'", lambda a: [*a.obs] == ["._"]),
    "empty": (lambda a: a.obs.__setitem__("", 1), "'column_'", lambda a: [*a.obs] == ["column_"]),
}


@pytest.mark.parametrize(("spoil", "says", "holds"), NAMES.values(), ids=NAMES)
def test_a_name_that_h5ad_cannot_hold_is_changed_and_said(
    spoil: Callable[[AnnData], object], says: str, holds: Callable[[AnnData], object], tmp_path: Path
) -> None:
    adata = small()
    spoil(adata)
    notes = make_writable(adata)
    assert len(notes) == 1
    assert says in notes[0]
    assert holds(written(adata, tmp_path))


def test_columns_of_one_name_stay_apart(tmp_path: Path) -> None:
    adata = small()
    adata.obs = pd.DataFrame(np.arange(12).reshape(4, 3), columns=["x", "x", "x-1"], index=adata.obs_names)
    assert len(make_writable(adata)) == 1
    back = written(adata, tmp_path).obs
    assert {name: int(back[name].iloc[0]) for name in back} == {"x": 0, "x-2": 1, "x-1": 2}


def test_an_index_named_as_a_column_loses_its_name(tmp_path: Path) -> None:
    adata = small()
    adata.obs["n"], adata.obs.index.name = list("abcd"), "n"
    make_writable(adata)
    assert written(adata, tmp_path).obs_names.tolist() == ["c0", "c1", "c2", "c3"]


@pytest.mark.parametrize("value", [{1, 2}, object(), (1, 2), {1: 2}, [{"a": 1}]], ids=lambda v: type(v).__name__)
def test_what_cannot_be_mended_is_refused_by_name(value: object) -> None:
    adata = small()
    adata.uns["mine"] = value
    with pytest.raises(InputError, match=r"its uns\['mine'\] cannot be written .* \(del adata\.uns\['mine'\]\)"):
        make_writable(adata)


def test_what_cannot_be_written_is_found_without_a_change(tmp_path: Path) -> None:
    adata = small()
    adata.var["_index"], adata.obs["a/b"] = list("abc"), 1
    set_raw(adata)
    check_writable(adata)
    assert [*adata.var, *adata.obs, *adata.raw.var] == ["_index", "a/b", "_index"]
    adata.uns["mine"] = {1, 2}
    with pytest.raises(InputError, match="mine"):
        check_writable(adata)


def test_what_can_be_written_stays_as_it_is(tmp_path: Path) -> None:
    adata = small()
    adata.obs["x"], adata.uns["a"], adata.obsm["m"] = 1, {"b": [1, 2], "c": None}, np.ones((4, 2))
    obs, X = adata.obs, adata.X
    assert make_writable(adata) == ()
    assert adata.obs is obs
    assert adata.X is X
    assert written(adata, tmp_path).uns["a"]["b"].tolist() == [1, 2]
