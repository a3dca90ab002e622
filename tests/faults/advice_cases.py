"""The bad inputs whose errors are followed; see ``advice.py``."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from advice import TINY, Case, Room, Words, add, also, change, drop, found, rewrite, suggested, swap
from anndata import AnnData
from scipy import sparse


def logged(room: Room, base: float = np.e) -> sparse.csr_matrix:
    """Return the logarithm of 1 + counts per 10,000."""
    X = room.per_cell(1e4)
    X.data = (np.log1p(X.data) / np.log(base)).astype(np.float32)
    return X


def log2_tpm(room: Room) -> sparse.csr_matrix:
    """Return log2(TPM + 1), from which no whole counts come back."""
    X = estimated(room)
    X = sparse.csr_matrix(sparse.diags(1e6 / np.asarray(X.sum(axis=1)).ravel()) @ X, dtype=np.float32)
    X.data = np.log2(X.data + 1)
    return X


def estimated(room: Room) -> sparse.csr_matrix:
    """Return expression of any total that is no whole number, as of RSEM."""
    X = room.counts()
    X.data = (X.data * np.random.default_rng(0).uniform(8, 30, len(X.data))).astype(np.float32)
    return X


def corrected(room: Room) -> sparse.csr_matrix:
    """Return counts of which a little was taken off in some entries, as by SoupX."""
    X = room.counts()
    X.data[::50] = np.maximum(X.data[::50] - 0.3, 0.6)
    return X


def scaled(room: Room) -> Any:
    X = logged(room).toarray()
    return ((X - X.mean(axis=0)) / (X.std(axis=0) + 1e-3)).astype(np.float32)


def with_raw(room: Room) -> AnnData:
    adata = room.cells()
    adata.raw = adata.copy()
    adata.X = scaled(room)
    return adata


def named(room: Room, rename: Callable[[list[str]], list[str]], *, column: bool = False) -> str:
    """Write the cells with other names of genes; the symbols may be in a column."""
    adata = room.cells()
    if column:
        adata.var["symbol"] = list(adata.var_names)
    adata.var_names = rename(list(adata.var_names))
    return room.write(adata)


def numbered(names: list[str]) -> list[str]:
    return [str(1_000 + place) for place in range(len(names))]


def rename_genes(names: Callable[[AnnData], Any]) -> Callable[[AnnData], None]:
    return lambda adata: setattr(adata, "var_names", names(adata))


def symbols(room: Room, words: Words, error: str) -> Words:
    """Give the genes their symbols, as mygene would."""
    follow = change("map them to symbols", rename_genes(lambda _: room.cells().var_names))
    return follow(room, words, error)


def with_empty_cells(room: Room) -> str:
    adata = room.cells()
    X = adata.X.tolil()
    X[3:5] = 0
    adata.X = sparse.csr_matrix(X.tocsr(), dtype=np.float32)
    return room.write(adata)


def without_empty_cells(adata: AnnData) -> AnnData:
    return adata[np.asarray((adata.X > 0).sum(axis=1)).ravel() > 0].copy()


def two_modalities(room: Room) -> str:
    path = Path(room.write(room.cells()))
    with h5py.File(path) as cells, h5py.File(path.with_name("two.h5mu"), "w") as file:
        for name in ("first", "second"):
            cells.copy(cells["/"], file.require_group("mod"), name)
    return str(path.with_name("two.h5mu"))


def pointer(room: Room) -> str:
    path = room.place() / "cells.h5ad"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    return str(path)


def fetched(room: Room, words: Words, error: str) -> Words:
    found("Fetch the file itself", error)
    shutil.copy(room.good, next(word for word in words if word.endswith("cells.h5ad")))
    return words


def zipped(room: Room) -> str:
    path = room.place() / "cells.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cells.csv", room.cells().to_df().T.to_csv())
    return str(path)


def unzipped(room: Room, words: Words, error: str) -> Words:
    found("Unpack it first", error)
    path = next(word for word in words if word.endswith(".zip"))
    with zipfile.ZipFile(path) as archive:
        archive.extractall(Path(path).parent)
    return [path.removesuffix(".zip") if word == path else word for word in words]


def truncated(room: Room) -> str:
    path = Path(room.write(room.cells()))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return str(path)


def copied_again(room: Room, words: Words, error: str) -> Words:
    found("again", error)
    shutil.copy(room.good, next(word for word in words if word.endswith("cells.h5ad")))
    return words


def mine(room: Room, name: str) -> str:
    path = room.place() / name
    path.write_text("mine")
    return str(path)


def pretrain(room: Room, *words: str, cells: str | None = None) -> Words:
    return ["pretrain", cells or room.good, "--out", str(room.place() / "run"), *TINY, *words]


def begun(room: Room) -> Words:
    """Return the words of a run that is there."""
    words = pretrain(room)
    assert room.command(words).code == 0
    return words


def prepare(room: Room, columns: str) -> Words:
    path = room.place() / "columns.toml"
    path.write_text(columns)
    return ["prepare", room.good, "--columns", str(path), "--min-genes=1", "--out", str(path.parent / "store")]


def fit(room: Room, *words: str, cells: str | None = None) -> Words:
    return ["annotate", "fit", cells or room.good, "--model", room.model, "--out", str(room.place() / "ann"), *words]


def predict(room: Room, cells: str, *words: str) -> Words:
    return ["annotate", "predict", cells, "--model", room.classifier, "--out", str(room.place() / "out.h5ad"), *words]


def embed(room: Room, cells: str, *words: str) -> Words:
    return ["embed", cells, "--model", room.model, "--out", str(room.place() / "out.h5ad"), *words]


def x(room: Room, X: Any, **layers: Any) -> str:
    """Write the cells with another matrix, and with layers."""
    adata = room.cells()
    adata.X = X
    for name, layer in layers.items():
        adata.layers[name] = layer
    return room.write(adata)


def panel(room: Room) -> str:
    return room.write(room.cells()[:, :300].copy())


PANEL = add("min-overlap", "100")
ROUND = change("adata.X = np.rint(adata.X)", lambda adata: setattr(adata, "X", np.rint(adata.X)))
TRANSPOSE = change("adata.T", lambda adata: adata.T.copy())
UPPER = "adata.var_names = adata.var_names.str.upper()"

SCALES: dict[str, Case] = {
    "natural logarithm": Case(lambda r: embed(r, x(r, logged(r))), add("scale")),
    "logarithm of base 2": Case(lambda r: embed(r, x(r, logged(r, 2))), add("scale")),
    "logarithm of base 10": Case(lambda r: embed(r, x(r, logged(r, 10))), add("scale")),
    "log2(TPM + 1)": Case(lambda r: embed(r, x(r, log2_tpm(r))), add("scale")),
    "log2(TPM + 1), said to be log1p": Case(lambda r: embed(r, x(r, log2_tpm(r)), "--input=log1p"), add("scale")),
    "TPM": Case(lambda r: embed(r, x(r, r.per_cell(1e6))), add("scale")),
    "TPM, check": Case(lambda r: ["check", x(r, r.per_cell(1e6))], add("scale")),
    "proportions": Case(lambda r: embed(r, x(r, r.per_cell(1))), add("scale")),
    "estimated expression": Case(lambda r: embed(r, x(r, estimated(r))), add("scale")),
    "counts, said to be log1p": Case(
        lambda r: embed(r, r.good, "--scale=log1p"), drop("scale= .--scale. out", "--scale")
    ),
    "corrected counts": Case(lambda r: embed(r, x(r, corrected(r))), ROUND),
    "corrected counts as linear": Case(lambda r: embed(r, x(r, corrected(r))), add("scale")),
    "corrected counts, pretrain": Case(lambda r: pretrain(r, cells=x(r, corrected(r))), ROUND),
    "z-scores, counts in a layer": Case(
        lambda r: embed(r, x(r, scaled(r), lognorm=logged(r), counts=r.counts())), add("layer")
    ),
    "z-scores, counts in raw": Case(lambda r: embed(r, r.write(with_raw(r))), add("layer")),
    "logged twice, counts beside": Case(
        lambda r: embed(r, x(r, logged(r).log1p(), log=logged(r), umis=r.counts())), add("layer")
    ),
}
GENES: dict[str, Case] = {
    "a panel, embed": Case(lambda r: embed(r, panel(r)), PANEL),
    "a panel, fit": Case(lambda r: fit(r, "--label=cell_type", cells=panel(r)), PANEL),
    "a panel, predict": Case(lambda r: predict(r, panel(r)), PANEL),
    "a panel, check": Case(lambda r: ["check", panel(r)], PANEL),
    "transposed": Case(lambda r: embed(r, r.write(r.cells().T.copy())), TRANSPOSE),
    "transposed, check": Case(lambda r: ["check", r.write(r.cells().T.copy())], TRANSPOSE),
    "numbers, symbols in a column": Case(lambda r: embed(r, named(r, numbered, column=True)), add("gene-column")),
    "numbers, no column": Case(lambda r: embed(r, named(r, numbered)), symbols),
    "symbols of mice": Case(
        lambda r: embed(r, named(r, lambda names: [name.capitalize() for name in names])),
        change("human orthologues", rename_genes(lambda adata: adata.var_names.str.upper())),
    ),
    "symbols in lower case": Case(
        lambda r: embed(r, named(r, lambda names: [name.lower() for name in names])),
        change(UPPER, rename_genes(lambda adata: adata.var_names.str.upper())),
    ),
    "a wrong gene column": Case(
        lambda r: embed(r, named(r, numbered, column=True), "--gene-column=symbols"),
        suggested("Did you mean '([^']+)'", "--gene-column=symbols", "--gene-column={}"),
    ),
}
CELLS: dict[str, Case] = {
    "empty cells, embed": Case(lambda r: embed(r, with_empty_cells(r)), add("min-genes")),
    "empty cells, predict": Case(lambda r: predict(r, with_empty_cells(r)), add("min-genes")),
    "empty cells, by scanpy": Case(
        lambda r: ["check", with_empty_cells(r)],
        change("scanpy.pp.filter_cells(adata, min_genes=1)", without_empty_cells),
    ),
    "no cell with enough genes": Case(lambda r: pretrain(r, "--min-genes=18000"), add("min-genes", "100")),
    "no such layer": Case(
        lambda r: embed(r, x(r, r.counts(), spliced=r.counts()), "--layer=splice"),
        suggested("there is: .*(spliced)", "--layer=splice", "--layer={}"),
    ),
    "two modalities": Case(lambda r: embed(r, two_modalities(r)), add("layer", "first")),
    "a pointer of Git LFS": Case(lambda r: embed(r, pointer(r)), fetched),
    "a zip archive": Case(lambda r: ["check", zipped(r)], unzipped),
    "a truncated file": Case(lambda r: embed(r, truncated(r)), copied_again),
    "a store, check": Case(lambda r: ["check", r.store], swap("cell-lm inspect", "check", "inspect")),
    "a store, explain": Case(
        lambda r: ["annotate", "explain", r.store, "--model", r.classifier, "--out", str(r.place() / "why.csv")],
        lambda r, words, error: (found("Name a file", error), [r.good if word == r.store else word for word in words])[
            1
        ],
    ),
    "a store with an option for files": Case(
        lambda r: embed(r, r.store, "--layer=counts"), drop("Leave it out", "--layer")
    ),
    "a model in place of cells": Case(
        lambda r: embed(r, r.model),
        lambda r, words, error: (found("Give a file of cells", error), ["embed", r.good, *words[2:]])[1],
    ),
}
COLUMNS: dict[str, Case] = {
    "a wrong label": Case(
        lambda r: fit(r, "--label=Cell_Type"), suggested("Did you mean '([^']+)'", "--label=Cell_Type", "--label={}")
    ),
    "a wrong column of donors": Case(
        lambda r: fit(r, "--label=cell_type", "--groups=Donor"),
        suggested("Did you mean '([^']+)'", "--groups=Donor", "--groups={}"),
    ),
    "one donor": Case(lambda r: fit(r, "--label=cell_type", "--groups=lab"), drop("Leave groups= out", "--groups")),
    "values of malignancy without a column": Case(
        lambda r: pretrain(r, "--tumour=sick"),
        also("Add --malignancy-column COLUMN", "--malignancy-column=status", "--normal=well"),
    ),
    "values of malignancy that are unknown": Case(
        lambda r: pretrain(r, "--malignancy-column=status"), also("--tumour", "--tumour=sick", "--normal=well")
    ),
    "a rule without a column": Case(
        lambda r: prepare(r, "donor = {}\n"), rewrite("either a column or a constant", "donor = {column = 'donor'}\n")
    ),
    "a rule of another type": Case(lambda r: prepare(r, "donor = 3\n"), rewrite("docs/store.md", "donor = '3'\n")),
    "a column that no file has": Case(
        lambda r: prepare(r, "donor = {column = 'Donor'}\n"),
        rewrite("Did you mean 'donor'", "donor = {column = 'donor'}\n"),
    ),
    "truth that is not there": Case(
        lambda r: predict(r, r.good, "--truth=celltype"),
        suggested("Did you mean '([^']+)'", "--truth=celltype", "--truth={}"),
    ),
}
OPTIONS: dict[str, Case] = {
    "an output that is there": Case(
        lambda r: [*embed(r, r.good)[:4], "--out", mine(r, "out.h5ad")], also("say --force to replace it", "--force")
    ),
    "an output of another format": Case(
        lambda r: [*embed(r, r.good)[:4], f"--out={r.place() / 'out.csv'}"],
        lambda r, words, error: [*words[:4], f"--out={r.place() / found('Name it ([^ ]+?)[.]?$', error)}"],
    ),
    "a key that is a path": Case(
        lambda r: embed(r, r.good, "--key=a/b"), suggested("such as (X_cell_lm)", "--key=a/b", "--key={}")
    ),
    "a size without unit": Case(
        lambda r: pretrain(r, "--memory=8"),
        suggested("write the unit, as in ([0-9]+GB)", "--memory=8", "--memory={}"),
    ),
    "a size without unit, prepare": Case(
        lambda r: ["prepare", r.good, "--memory=2", "--min-genes=1", "--out", str(r.place() / "store")],
        suggested("Name the unit, as in ([^ .]+)", "--memory=2", "--memory={}"),
    ),
    "too little memory, prepare": Case(
        lambda r: ["prepare", r.good, "--memory=20M", "--min-genes=1", "--out", str(r.place() / "store")],
        suggested("--memory ([0-9.]+G)", "--memory=20M", "--memory={}"),
    ),
    "a wrong setting": Case(
        lambda r: pretrain(r, "--set=training.step=3"),
        suggested(r"Did you mean ([a-z_]+\.[a-z_]+)", "--set=training.step=3", "--set={}=3"),
    ),
    "a run that is there": Case(begun, also("by --resume", "--resume")),
    "no run to resume": Case(lambda r: pretrain(r, "--resume"), drop("Leave out --resume", "--resume")),
    "a file named twice": Case(
        lambda r: ["pretrain", r.good, *pretrain(r)[1:]],
        lambda r, words, error: (found("name once", error), ["pretrain", *words[2:]])[1],
    ),
    "a store as a tumour": Case(
        lambda r: ["pretrain", "--tumour-file", r.store, *pretrain(r)[2:], "--min-genes=1"],
        lambda r, words, error: (
            found("Leave out --tumour-file", error),
            [word for word in words if word != "--tumour-file"],
        )[1],
    ),
    "a model in place of a classifier": Case(
        lambda r: ["annotate", "predict", r.good, "--model", r.model, "--out", str(r.place() / "out.h5ad")],
        lambda r, words, error: (found("cell-lm annotate fit", error), predict(r, r.good))[1],
    ),
    "a type that is not in the classifier": Case(
        lambda r: [
            *("annotate", "explain", r.good, "--model", r.classifier),
            "--label=Beta",
            f"--out={r.place() / 'why.csv'}",
        ],
        suggested("Did you mean '([^']+)'", "--label=Beta", "--label={}"),
    ),
    "a gene that is none": Case(
        lambda r: ["genes", "similar", "CD3DD"], suggested("Close symbols: ([A-Z0-9]+)", "CD3DD")
    ),
    "cells to report without an embedding": Case(
        lambda r: ["report", begun(r)[3], "--cells", r.good, f"--out={r.place() / 'page.html'}"],
        lambda r, words, error: (found("Run cell-lm embed on it first", error), [*words[:3], r.embedded, *words[4:]])[
            1
        ],
    ),
}
CASES: dict[str, Case] = SCALES | GENES | CELLS | COLUMNS | OPTIONS
"""What is wrong, to the case."""
