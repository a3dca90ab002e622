from __future__ import annotations

import json
import subprocess
import sys

import pytest

import cell_lm

PUBLIC = [
    *("CellLM", "CellTypeClassifier", "DrugResponseRegressor", "DrugSensitivityClassifier", "MalignancyClassifier"),
    *("Vocabulary", "__version__", "errors", "genes", "pl", "pp", "tl"),
]


def test_the_public_names_are_these():
    assert sorted(cell_lm.__all__) == sorted(PUBLIC)
    assert set(PUBLIC) <= set(dir(cell_lm))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_documented(name):
    thing = getattr(cell_lm, name)
    assert name == "__version__" or thing.__doc__


def test_public_names_are_the_ones_of_their_modules():
    from cell_lm import pl, tl
    from cell_lm.genes import Vocabulary
    from cell_lm.model import CellLM
    from cell_lm.tasks import CellTypeClassifier

    assert (cell_lm.CellLM, cell_lm.CellTypeClassifier, cell_lm.Vocabulary) == (CellLM, CellTypeClassifier, Vocabulary)
    assert (cell_lm.tl, cell_lm.pl) == (tl, pl)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'cell_lm' has no attribute 'embed'"):
        _ = cell_lm.embed  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def fresh() -> dict[str, list[str]]:
    """What a fresh interpreter says, and has loaded, after one use of the package after the other."""
    code = """
import json, sys
def loaded(*names):
    return [name for name in names if name in sys.modules]
said = {}
import cell_lm, cell_lm.genes
dir(cell_lm), dir(cell_lm.genes)
heavy = ("torch", "anndata", "scanpy", "pandas", "numpy", "matplotlib", "sklearn", "numba")
said["imported"] = loaded(*heavy)
cell_lm.tl, cell_lm.pp
others = ("scanpy", "matplotlib", "umap", "torch.distributed.fsdp", "torch.distributed.tensor", "sympy")
said["tools"] = loaded(*others)
said["names"] = [cell_lm.tl.embed.__name__, cell_lm.errors.InputError.__name__, cell_lm.CellLM.__name__]
print(json.dumps(said))
"""
    said: dict[str, list[str]] = json.loads(run(code))
    return said


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_importing_the_package_loads_nothing_heavy(fresh):
    assert fresh["imported"] == []


def test_the_tools_do_not_load_what_only_plots_or_sharded_runs_need(fresh):
    assert fresh["tools"] == []


def test_names_work_in_a_fresh_interpreter_without_importing_their_modules(fresh):
    assert fresh["names"] == ["embed", "InputError", "CellLM"]


def test_the_plots_do_not_load_torch():
    heavy = ("torch", "scanpy")
    code = f"import sys, cell_lm; cell_lm.pl; print([name for name in {heavy} if name in sys.modules])"
    assert run(code).strip() == "[]"
