"""No verb writes over what it reads, over a folder of cell-lm, or over what is no file; it says so before it works."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import pytest
from typed import Cli

from cell_lm import tl
from cell_lm.cli.inputs import Inputs
from cell_lm.cli.outputs import refuse_key, refuse_output, refuse_output_file
from cell_lm.errors import ConfigError, InputError

MakeFile = Callable[..., Path]


@pytest.fixture
def run(model: Path, tmp_path: Path) -> Path:
    """A run of its own."""
    return Path(shutil.copytree(model, tmp_path / "run"))


def through_nothing(path: Path) -> Path:
    return path


def through_a_dot(path: Path) -> Path:
    return path.parent / "." / path.name


def through_a_symbolic_link(path: Path) -> Path:
    (path.parent / "symbolic.h5ad").symlink_to(path)
    return path.parent / "symbolic.h5ad"


def through_a_hard_link(path: Path) -> Path:
    os.link(path, path.parent / "hard.h5ad")
    return path.parent / "hard.h5ad"


def through_a_linked_folder(path: Path) -> Path:
    (path.parent / "folder").symlink_to(path.parent)
    return path.parent / "folder" / path.name


@pytest.mark.parametrize(
    "another_name",
    [through_nothing, through_a_dot, through_a_symbolic_link, through_a_hard_link, through_a_linked_folder],
)
def test_the_input_is_never_the_output_whatever_it_is_called(
    cli: Cli, make_file: MakeFile, model: Path, another_name: Callable[[Path], Path]
) -> None:
    path = make_file(cells=12)
    before = path.read_bytes()
    said = cli("embed", path, "--model", model, "--out", another_name(path), "--force")
    assert said.code == 1
    assert "it is the input itself" in said.error
    assert "reading" not in said.err
    assert path.read_bytes() == before


def test_a_report_does_not_replace_the_cells_that_it_shows(cli: Cli, make_file: MakeFile, run: Path) -> None:
    path = make_file("cells.html", cells=12)
    before = path.read_bytes()
    said = cli("report", run, "--cells", path, "--out", path, "--force")
    assert said.code == 1
    assert "it is the input itself" in said.error
    assert path.read_bytes() == before
    (run / "report.html").unlink(missing_ok=True)
    (run / "report.html").symlink_to(path)
    assert "it is the input itself" in cli("report", run, "--cells", path).error
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "place",
    ["config.json", "log.jsonl", "report.html", "checkpoints/x.html", "model/new.html", "model/model.safetensors"],
)
def test_what_belongs_to_a_run_is_not_replaced(cli: Cli, make_file: MakeFile, run: Path, place: str) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    said = cli("embed", make_file(cells=12), "--model", run, "--out", run / place, "--force")
    assert said.code == 1
    assert "reading" not in said.err
    with pytest.raises(InputError, match=r"belongs to the run|is a model, whose files are not replaced"):
        refuse_output_file(run / place, force=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_files_of_ones_own_may_lie_in_a_run_and_its_report_may_be_written(run: Path) -> None:
    refuse_output_file(run / "embedded.h5ad", force=False)
    refuse_output_file(run / "report.html", force=True, own="report.html")


@pytest.mark.parametrize(
    ("marks", "kind"),
    [
        (("manifest.json", "shards"), "a store"),
        (("estimator.json", "arrays.safetensors"), "an estimator"),
        (("manifest.json", "optimizer.safetensors"), "a checkpoint"),
        (("config.json", "model.safetensors"), "a model"),
    ],
)
def test_nothing_is_written_into_a_folder_of_cell_lm(tmp_path: Path, marks: tuple[str, str], kind: str) -> None:
    for mark in marks:
        (tmp_path / mark).touch()
    (tmp_path / "inner").mkdir()
    for place in ("manifest.json", "new.h5ad", "inner/new.h5ad"):
        with pytest.raises(InputError, match=f"{kind}, whose files are not replaced"):
            refuse_output(tmp_path / place, force=True)


@pytest.mark.parametrize("verb", ["embed", "report"])
def test_a_pipe_a_device_and_a_link_that_leads_nowhere_are_refused(
    cli: Cli, make_file: MakeFile, tmp_path: Path, model: Path, verb: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    (tmp_path / "nowhere").symlink_to("not there")
    (tmp_path / "loop").symlink_to("loop")
    words = ["embed", make_file(cells=12), "--model", model] if verb == "embed" else ["report", model]
    for name, found in (("pipe", "a pipe"), ("device", "a device"), ("nowhere", "nowhere"), ("loop", "nowhere")):
        said = cli(*words, "--out", tmp_path / name, "--force")
        assert (said.code, said.out) == (1, "")
        assert found in said.error
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "loop").is_symlink()
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize(
    ("words", "name", "wanted"),
    [
        (("embed", "--model"), "z.csv", "z.h5ad"),
        (("embed", "--model"), "z.loom", "z.h5ad"),
        (("annotate", "predict", "--model"), "z.txt", "z.h5ad"),
        (("annotate", "explain", "--model"), "z.xlsx", "z.csv"),
    ],
)
def test_a_name_of_another_kind_of_file_is_refused(
    cli: Cli, make_file: MakeFile, tmp_path: Path, model: Path, words: tuple[str, ...], name: str, wanted: str
) -> None:
    *verb, option = words
    said = cli(*verb, make_file(cells=12), option, model, "--out", tmp_path / name)
    assert said.code == 1
    assert f"Name it {wanted}" in said.error
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("key", ["a/b", "/", "", ".", "..", " X", "X ", "X\n", "a\u202eb"])
def test_a_key_that_cannot_be_read_back_is_refused(
    cli: Cli, make_file: MakeFile, tmp_path: Path, model: Path, key: str
) -> None:
    said = cli("embed", make_file(cells=12), "--model", model, "--key", key, "--out", tmp_path / "z.h5ad")
    assert said.code == 1
    assert "cannot be the name of an array" in said.error
    assert not (tmp_path / "z.h5ad").exists()


def test_keys_in_use_are_fine() -> None:
    for key in ("X_cell_lm", "X_pca", "latent-2", "Einbettung_ä"):
        refuse_key(key)


def test_a_file_that_appears_while_cells_are_embedded_is_left_as_it_is(
    cli: Cli, make_file: MakeFile, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, out = tl.embed, tmp_path / "out.h5ad"

    def embed(*arguments: object, **named: object) -> None:
        honest(*arguments, **named)  # type: ignore[arg-type]
        out.write_text("theirs")

    monkeypatch.setattr(tl, "embed", embed)
    path = make_file(cells=12)
    said = cli("embed", path, "--model", model, "--out", out)
    assert said.code == 1
    assert "made by another program meanwhile" in said.error
    assert out.read_text() == "theirs"
    assert cli("embed", path, "--model", model, "--out", out, "--force").code == 0
    assert "X_cell_lm" in anndata.read_h5ad(out).obsm


def test_a_folder_of_something_else_is_refused_before_a_classifier_is_fitted(
    cli: Cli, make_file: MakeFile, tmp_path: Path, model: Path
) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    words = ["annotate", "fit", make_file(cells=12), "--label=cell_type", "--model", model, "--out", out, "--force"]
    said = cli(*words)
    assert said.code == 1
    assert "holds something else than an estimator" in said.error
    assert "reading" not in said.err
    assert (out / "thesis.txt").read_text() == "mine"


def test_a_file_in_a_folder_that_is_read_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "tenx").mkdir()
    (tmp_path / "tenx" / "matrix.mtx").touch()
    with pytest.raises(InputError, match="belongs to the input"):
        refuse_output(tmp_path / "tenx" / "matrix.mtx", force=True, inputs=(tmp_path / "tenx",))


def test_a_name_that_steers_a_terminal_is_written_out(cli: Cli, make_file: MakeFile) -> None:
    def rename(adata: anndata.AnnData) -> None:
        adata.obs["cell_type"] = adata.obs["cell_type"].astype(str) + "\x1b[31m\u202etxt\x7f"

    path = make_file(cells=30, change=rename)
    for options in ([], ["--json"]):
        said = cli("check", path, "--label", "cell_type", *options)
        assert said.code == 0, said.err
        assert "\\u001b[31m\\u202etxt\\u007f" in said.out
        assert all(line.isprintable() for line in said.out.splitlines())


@pytest.mark.parametrize(
    "words",
    [
        ["check", "loop"],
        ["embed", "loop", "--model", "loop"],
        ["pretrain", "loop", "--out", "run"],
        ["prepare", "loop", "--out", "store"],
        ["prepare", "absent.h5ad", "--out", "loop"],
        ["inspect", "loop"],
        ["report", "loop"],
        ["annotate", "predict", "loop", "--model", "loop"],
        ["genes", "similar", "CD3D", "--vectors", "loop"],
    ],
)
def test_a_link_that_leads_to_itself_is_one_line(
    cli: Cli, tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    said = cli(*words)
    assert said.code == 1
    assert "loop" in said.error or "absent" in said.error


@pytest.mark.parametrize(
    "words",
    [
        ["pretrain", "absent.h5ad"],
        ["pretrain", "absent.h5ad", "--ray-workers=2"],
        ["prepare", "absent.h5ad"],
        ["genes", "pretrain", "absent.tsv"],
        ["download", "pbmc3k", "--mirror=absent"],
        ["demo"],
    ],
)
@pytest.mark.parametrize("out", ["file/new", "file/new/newer", "loop/new"])
def test_a_folder_that_cannot_be_made_is_refused_before_any_work(
    cli: Cli, tmp_path: Path, words: list[str], out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Path("loop").symlink_to("loop")
    said = cli(*words, "--out", out)
    assert said.code == 1
    assert said.error == f"{out}: {tmp_path / out.partition('/')[0]} is not a folder. Choose another --out."
    assert Path("file").read_text() == "mine"


def test_two_links_to_themselves_are_two_files(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).symlink_to(name)
    assert len(Inputs.gather([tmp_path / "a", tmp_path / "b"], [], [], None).files) == 2
    with pytest.raises(ConfigError, match="named twice"):
        Inputs.gather([tmp_path / "a", tmp_path / "a"], [], [], None)
