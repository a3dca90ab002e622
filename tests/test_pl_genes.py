"""Plots of gene vectors: the right genes in the right order and colours, and nothing left open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from numpy.typing import ArrayLike, NDArray

from cell_lm import pl
from cell_lm.errors import GeneError, InputError
from cell_lm.genes import GeneVectors, Vocabulary
from cell_lm.plots.projection import Projection

SYMBOLS = ("CD19", "CD2", "CD3D", "CD3E", "CD79A", "MS4A1", "TP53", *(f"GENE{i}" for i in range(13)))
VOCABULARY = Vocabulary(SYMBOLS, ("",) * len(SYMBOLS))
T, B = ["CD2", "CD3D", "CD3E"], ["CD19", "CD79A", "CD20"]
MADE: list[tuple[int, ...]] = []


def first_two(x: ArrayLike, seed: int = 0) -> Projection:
    MADE.append(np.shape(x))
    return Projection(np.asarray(x, np.float32)[:, :2] + seed, "t-SNE")


@pytest.fixture(autouse=True)
def nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plot may leave a figure with pyplot; and none may wait for a real map here."""
    MADE.clear()
    monkeypatch.setattr(pl.genes, "project", first_two)
    before = pyplot.get_fignums()
    yield
    assert pyplot.get_fignums() == before


@pytest.fixture
def vectors() -> GeneVectors:
    """T cell genes one way, B cell genes another; TP53 has no vector."""
    values = np.random.default_rng(0).normal(0.0, 0.3, (len(SYMBOLS), 6))
    values[[1, 2, 3], 0] += 3
    values[[0, 4, 5], 1] += 3
    return GeneVectors.from_values(values, np.array(SYMBOLS) != "TP53", VOCABULARY, source="a test")


def written(ax: Axes) -> set[str]:
    return {text.get_text() for text in ax.texts if isinstance(text, Annotation)} & set(SYMBOLS)


def test_neighbours_are_drawn_in_their_order_by_cosine(vectors: GeneVectors, tmp_path: Path) -> None:
    ax = pl.gene_neighbours("CD3D", 4, vectors=vectors, save=tmp_path / "near.png")
    table = vectors.similar("CD3D", 4)
    assert [label.get_text() for label in ax.get_yticklabels()] == table["gene"].tolist()
    assert np.allclose(np.asarray(ax.collections[1].get_offsets())[:, 0], table["cosine"])
    assert ax.yaxis_inverted()
    assert ax.get_title(loc="left") == "nearest to CD3D"
    assert (tmp_path / "near.png").stat().st_size > 1000


def test_another_name_of_a_gene_is_drawn_under_its_symbol(vectors: GeneVectors) -> None:
    assert pl.gene_neighbours("CD20", vectors=vectors).get_title(loc="left") == "nearest to MS4A1"


def test_a_map_of_sets_has_their_genes_names_and_colours(vectors: GeneVectors) -> None:
    ax = pl.gene_map({"T cells": T, "B cells": B, "again": ["CD3D"]}, vectors=vectors)
    box = ax.get_legend()
    assert box is not None
    assert sorted(text.get_text() for text in box.get_texts()) == ["B cells  3", "T cells  3"]
    assert written(ax) <= {"CD2", "CD3D", "CD3E", "CD19", "CD79A", "MS4A1"}
    assert len(written(ax)) > 2
    assert MADE == []  # six genes have their principal components
    points = np.asarray(ax.collections[0].get_offsets())
    assert len(points) == 6


def test_a_map_with_all_genes_behind_is_made_of_all(vectors: GeneVectors) -> None:
    ax = pl.gene_map({"T cells": T, "B cells": B}, vectors=vectors, background=True, names=False, seed=3)
    assert MADE == [(19, 6)]
    behind, given = (np.asarray(drawn.get_offsets()) for drawn in ax.collections[:2])
    assert (len(behind), len(given)) == (19, 6)
    assert all((np.abs(behind - point).sum(axis=1) < 1e-6).any() for point in given)
    assert not written(ax)


def test_given_genes_lie_where_their_own_vectors_are(vectors: GeneVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    """Genes given out of order on a map of all must not change places."""
    monkeypatch.setattr(pl.genes, "_coordinates", lambda directions, seed: (directions[:, :2], "PC"))
    drawn: list[NDArray[np.floating]] = []
    monkeypatch.setattr(pl.genes.gene_figures, "draw_gene_names", lambda ax, points, names: drawn.append(points))
    names = ["MS4A1", "CD19", "CD3D"]
    for background in (True, False):
        pl.gene_map(names, vectors=vectors, background=background)
        assert np.array_equal(drawn.pop(), vectors.directions[[SYMBOLS.index(name) for name in names], :2])


def test_without_genes_all_that_have_a_vector_are_drawn(vectors: GeneVectors) -> None:
    ax = pl.gene_map(vectors=vectors)
    assert len(np.asarray(ax.collections[0].get_offsets())) == 19
    assert ax.get_legend() is None
    assert not written(ax)


def test_genes_without_a_vector_are_left_out_and_counted(vectors: GeneVectors) -> None:
    ax = pl.gene_map([*T, "TP53"], vectors=vectors)
    assert ax.get_title(loc="left") == "left out, without a vector: 1"


def test_a_name_of_no_gene_is_refused_with_close_ones(vectors: GeneVectors) -> None:
    with pytest.raises(GeneError, match=r"gene 'CD3DD'.*Close symbols: CD3D"):
        pl.gene_map({"T cells": [*T, "CD3DD"]}, vectors=vectors)


@pytest.mark.parametrize("genes", ["CD3D", ["CD3D", "TP53"], {}])
def test_too_few_genes_are_refused(vectors: GeneVectors, genes: object) -> None:
    with pytest.raises(InputError, match=r"pl\.gene_map"):
        pl.gene_map(genes, vectors=vectors)  # type: ignore[arg-type]
