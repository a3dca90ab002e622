"""Bad inputs of packaged cells, and for each a function that does what the error advises; the command must then work.

A command is a list of words after ``cell-lm``. ``follow`` gets the words and the error, and returns the words to try
next. Values are taken from the error wherever it names them, so that an error without the advice, or with another one,
fails.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from cell_lm.cli import main
from cell_lm.config import EncoderConfig
from cell_lm.data.demo import PANCREAS, demo_cells
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.prepare import PrepareSettings, prepare
from cell_lm.tasks import CellTypeClassifier

Words: TypeAlias = list[str]
SMALL = EncoderConfig(
    attention="latent", width=16, layers=1, heads=2, head_width=8, feedforward=16, gene_width=8, latents=2
)
TINY = ["--preset=tiny", "--steps=2", "--batch-size=8", "--no-report", "--set=training.validation=0"] + [
    f"--set=encoder.{name}={value}" for name, value in (("layers", 1), ("max_genes", 128))
]


class Said(NamedTuple):
    """What a command left with, and its error."""

    code: int
    error: str


class Room:
    """A folder with a model and a classifier, and fresh copies of forty packaged cells of two types."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._cases = folder, 0

    @staticmethod
    def command(words: Words) -> Said:
        """Run a command in this process."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main([*words, "--quiet"])
        problems = [line for line in out.getvalue().splitlines() if line.startswith("  problem")]
        return Said(code, "\n".join([*problems, err.getvalue().strip()]))

    @cached_property
    def _packaged(self) -> AnnData:
        cells = demo_cells()[PANCREAS]
        types = cells.obs["cell_type"].to_numpy()
        rows = np.sort(np.concatenate([np.flatnonzero(types == name)[:20] for name in ("alpha", "beta")]))
        number = np.arange(len(rows))
        obs = pd.DataFrame(
            {
                "cell_type": types[rows].astype(str),
                "donor": np.where(number % 4 < 2, "d1", "d2"),
                "lab": "ours",
                "status": np.where(number % 2, "sick", "well"),
            },
            index=[f"cell{place}" for place in number],
        )
        return AnnData(sparse.csr_matrix(cells.X)[rows], obs=obs, var=pd.DataFrame(index=cells.var_names))

    def cells(self) -> AnnData:
        return self._packaged.copy()

    def counts(self) -> sparse.csr_matrix:
        return sparse.csr_matrix(self._packaged.X.copy())

    def per_cell(self, total: float) -> sparse.csr_matrix:
        """Return the counts scaled to one total per cell, float32."""
        X = self.counts()
        return sparse.csr_matrix(sparse.diags(total / np.asarray(X.sum(axis=1)).ravel()) @ X, dtype=np.float32)

    def _shared(self, name: str, make: Callable[[Path], object]) -> str:
        path = self.folder / name
        if not path.exists():
            make(path)
        return str(path)

    @property
    def model(self) -> str:
        return self._shared("model", CellLM(SMALL, Vocabulary.human()).save_pretrained)

    @property
    def classifier(self) -> str:
        def fit(path: Path) -> None:
            CellTypeClassifier(CellLM.from_pretrained(self.model)).fit(self.cells(), "cell_type").save(path)

        return self._shared("classifier", fit)

    @property
    def good(self) -> str:
        return self._shared("good.h5ad", self.cells().write_h5ad)

    @property
    def embedded(self) -> str:
        def embed(path: Path) -> None:
            assert self.command(["embed", self.good, "--model", self.model, "--out", str(path)]).code == 0

        return self._shared("embedded.h5ad", embed)

    @property
    def store(self) -> str:
        settings = PrepareSettings(min_genes=1)
        return self._shared("store", lambda path: prepare([self.good], path, settings=settings))

    def place(self) -> Path:
        """Return a new folder."""
        self._cases += 1
        path = self.folder / f"case{self._cases}"
        path.mkdir()
        return path

    def write(self, adata: AnnData) -> str:
        path = self.place() / "cells.h5ad"
        adata.write_h5ad(path)
        return str(path)


Make: TypeAlias = Callable[[Room], Words]
Follow: TypeAlias = Callable[[Room, Words, str], Words]


@dataclass(frozen=True)
class Case:
    """A bad input, and how its error is followed."""

    make: Make
    follow: Follow

    def run(self, room: Room) -> Outcome:
        """Run the command, follow its error, and run what that gives."""
        words = self.make(room)
        first = room.command(words)
        if first.code == 0:
            return Outcome((0,), "the bad input was taken")
        try:
            again = self.follow(room, words, first.error)
        except NotFollowedError as error:
            return Outcome((first.code,), str(error))
        second = room.command(again)
        failed = "" if second.code == 0 else f"{first.error} Then: {second.error}"
        return Outcome((first.code, second.code), failed)


class Outcome(NamedTuple):
    """The exit codes of the commands, and why the advice did not help; empty: it did."""

    codes: tuple[int, ...]
    failed: str


class NotFollowedError(Exception):
    """The error does not give the advice that was to be followed."""


def found(pattern: str, error: str) -> str:
    match = re.search(pattern, error)
    if match is None:
        raise NotFollowedError(f"no {pattern!r} in: {error}")
    return match[1] if match.re.groups else match[0]


def add(option: str, value: str | None = None) -> Follow:
    """Follow ``(--option value)``: with the value that the error names, or with this one where it leaves the choice."""

    def follow(room: Room, words: Words, error: str) -> Words:
        if value is None:
            given = found(rf"\(--{option} ([^)]+)\)", error)
        else:
            found(rf"--{option}\b", error)
            given = value
        former = (f"--{option}=", "--input=") if option == "scale" else (f"--{option}=",)
        given = given.strip("'")
        return [*(word for word in words if not word.startswith(former)), f"--{option}={given}"]

    return follow


def change(word: str, edit: Callable[[AnnData], Any]) -> Follow:
    """Follow advice to change the AnnData: the first file named in the command is read, changed and written again."""

    def follow(room: Room, words: Words, error: str) -> Words:
        found(re.escape(word), error)
        path = next(word for word in words if word.endswith("cells.h5ad"))
        adata = anndata.read_h5ad(path)
        changed = edit(adata)
        (adata if changed is None else changed).write_h5ad(path)
        return words

    return follow


def swap(word: str, old: str, new: str) -> Follow:
    """Follow advice to give another word on the command line."""

    def follow(room: Room, words: Words, error: str) -> Words:
        found(word, error)
        return [new if given == old else given for given in words]

    return follow


def rewrite(word: str, text: str) -> Follow:
    """Follow advice to correct the columns file."""

    def follow(room: Room, words: Words, error: str) -> Words:
        found(word, error)
        Path(next(word for word in words if word.endswith(".toml"))).write_text(text)
        return words

    return follow


def suggested(pattern: str, old: str, template: str = "{}") -> Follow:
    """Follow an error that names what was probably meant: it takes the place of what was given."""

    def follow(room: Room, words: Words, error: str) -> Words:
        given = template.format(found(pattern, error))
        return [given if word == old else word for word in words]

    return follow


def also(pattern: str, *more: str) -> Follow:
    """Follow advice to add words to the command."""

    def follow(room: Room, words: Words, error: str) -> Words:
        found(pattern, error)
        return [*words, *more]

    return follow


def drop(word: str, *options: str) -> Follow:
    """Follow advice to leave out options."""

    def follow(room: Room, words: Words, error: str) -> Words:
        found(word, error)
        return [given for given in words if not given.startswith(options)]

    return follow
