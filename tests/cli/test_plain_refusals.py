"""Refusals name the verb, the option and the values of the command line; Ctrl-C is one line from the first moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from typed import Cli, draw

from cell_lm.cli import main


@pytest.fixture(scope="module")
def fitted(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return folders of a classifier of types, one of malignancy, and one of drug sensitivity."""
    place = tmp_path_factory.mktemp("fitted")
    adata = draw()
    adata.obs["response"] = np.where(adata.obs["cell_type"] == "type 0", "sensitive", "resistant")
    adata.write_h5ad(place / "c.h5ad")
    types = ["annotate", "fit", "--label=cell_type", f"--model={model}"]
    kinds = ["malignancy", "fit", "--malignancy-column=malignant", "--tumour=putative", f"--model={model}"]
    drugs = ["sensitivity", "fit", "--label=response"]
    for name, words in {"types": types, "kinds": kinds, "drugs": drugs}.items():
        assert main([*words, str(place / "c.h5ad"), f"--out={place / name}", "--quiet"]) == 0
    return {name: place / name for name in ("types", "kinds", "drugs")}


@pytest.mark.parametrize(
    ("verb", "folder", "to"),
    [
        ("annotate predict", "kinds", "malignancy"),
        ("annotate evaluate --truth cell_type", "drugs", "sensitivity"),
        ("annotate explain --out {}/genes.csv", "kinds", "malignancy"),
        ("malignancy predict", "types", "annotate"),
        ("sensitivity predict", "kinds", "malignancy"),
        ("sensitivity evaluate --truth cell_type", "types", "annotate"),
        ("response predict", "types", "annotate"),
    ],
)
def test_the_folder_of_another_verb_is_refused_and_the_right_verb_named(
    cli: Cli,
    make_file: Callable[..., Path],
    fitted: dict[str, Path],
    tmp_path: Path,
    verb: str,
    folder: str,
    to: str,
) -> None:
    words = [word.format(tmp_path) for word in verb.split()]
    said = cli(*words[:2], make_file(), "--model", fitted[folder], *words[2:])
    assert said.code == 1
    assert said.error.endswith(f"Use it with cell-lm {to} predict.")
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]


def test_every_repeated_file_of_unlabelled_cells_is_learned_from(
    cli: Cli, make_file: Callable[..., Path], model: Path, tmp_path: Path
) -> None:
    more = [make_file(f"u{seed}.h5ad", seed=seed, cells=30) for seed in (1, 2)]
    options = [word for path in (*more, more[0]) for word in ("--unlabelled-cells", path)]
    cells, out = make_file(), tmp_path / "ann"
    assert cli("annotate", "fit", cells, "--label", "cell_type", "--model", model, "--out", out, *options).code == 0
    seen = json.loads((out / "estimator.json").read_text())["values"]["learned"]["learned_from"]
    assert seen == "60 labelled cells of cells.h5ad, 30 unlabelled of u1.h5ad, 30 unlabelled of u2.h5ad"
    said = cli(
        "annotate", "fit", cells, "--label=cell_type", f"--out={tmp_path / 'b'}", *options[:2], options[0], cells
    )
    assert "it is the reference itself" in said.error


@pytest.mark.parametrize(("verb", "option"), [("evaluate", "--report"), ("predict", "--probabilities")])
def test_the_option_that_named_the_file_is_the_one_to_change(
    cli: Cli, make_file: Callable[..., Path], fitted: dict[str, Path], tmp_path: Path, verb: str, option: str
) -> None:
    there = tmp_path / {"--report": "p.html", "--probabilities": "p.csv"}[option]
    there.touch()
    truth = ["--truth", "cell_type"]
    said = cli("annotate", verb, make_file(), "--model", fitted["types"], *truth, option, there)
    assert said.error == f"{there}: it already exists. Choose another {option}, or say --force to replace it."
    nowhere = there / "x" / there.name
    said = cli("annotate", verb, make_file(), "--model", fitted["types"], *truth, option, nowhere)
    assert said.error.endswith(f"Choose another {option}.")


def test_genes_in_use_are_those_of_a_fit_on_shared_genes(
    cli: Cli, make_file: Callable[..., Path], model: Path, tmp_path: Path
) -> None:
    panel = make_file("panel.h5ad", lambda adata: adata[:, :400].copy())
    out = tmp_path / "ann"
    words = ["annotate", "fit", make_file(), "--label=cell_type", f"--genes-of={panel}", f"--out={out}"]
    assert cli(*words, f"--model={model}").code == 0
    said = cli("annotate", "predict", make_file("new.h5ad", seed=1), "--model", out)
    assert "400 of 1,200 genes used: those of the fit (--genes-of)" in said.out
    assert "highly variable" not in said.err


def test_messages_name_the_file_and_the_options_of_the_command_line(
    cli: Cli, make_file: Callable[..., Path], fitted: dict[str, Path], model: Path, tmp_path: Path
) -> None:
    cells = make_file()
    said = cli("annotate", "predict", cells, "--model", fitted["types"], "--over-clustering", "nope")
    assert said.error == f"{cells}: obs has no column 'nope'. It has: cell_type, donor, malignant."
    fit = ["annotate", "fit", cells, "--label=cell_type", f"--model={model}", f"--out={tmp_path / 'ann'}"]
    assert "--groups" in cli(*fit, "--groups=cell_type").error
    said = cli(*fit, "--fine-tune=nonsense")
    assert said.code == 2
    assert "'--fine-tune'" in said.error
    assert "'refinement', 'last', 'lora', 'all'" in said.error


def test_z_scores_are_said_to_be_for_drug_sensitivity_alone(
    cli: Cli, make_file: Callable[..., Path], fitted: dict[str, Path]
) -> None:
    def scaled(adata: AnnData) -> None:
        X = np.log1p(adata.X.toarray())
        adata.X = ((X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 0.1)).astype(np.float32)

    said = cli("annotate", "predict", make_file("z.h5ad", scaled), "--model", fitted["types"])
    assert "Use it for drug sensitivity alone (cell-lm sensitivity with" in said.error
    assert "start from the raw counts" in said.error


@pytest.mark.parametrize("others", [[], ["--tumour=putative"]])
def test_a_value_that_no_cell_has_is_refused_with_the_values_that_there_are(
    cli: Cli, make_file: Callable[..., Path], model: Path, tmp_path: Path, others: list[str]
) -> None:
    cells, out = make_file(), tmp_path / "mal"
    words = ["malignancy", "fit", cells, "--malignancy-column=malignant", f"--model={model}", f"--out={out}"]
    said = cli(*words, "--tumour=nonsense", *others)
    found = "no cell has 'nonsense' (--tumour) in obs column 'malignant'"
    assert said.error == f"{cells}: {found}. Its values are 'no' (40 cells), 'putative' (20 cells)."
    assert not out.exists()


def test_an_interrupt_while_modules_are_imported_is_one_line() -> None:
    code = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background, the shell has it ignored
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from cell_lm.__main__ import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert (done.returncode, done.stderr, done.stdout) == (130, "error: interrupted\n", "")


def test_the_command_line_gets_the_usual_handler_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from cell_lm import __main__ as command

    found: list[object] = []
    monkeypatch.setattr("cell_lm.cli.main", lambda: found.append(signal.getsignal(signal.SIGINT)) or 0)
    before = signal.getsignal(signal.SIGINT)
    assert command.main() == 0
    assert found == [before]
