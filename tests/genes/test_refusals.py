from __future__ import annotations

import random
from collections.abc import Callable

import pandas as pd
import pytest

from cell_lm.errors import GeneError
from cell_lm.genes import Vocabulary, resolve_genes

HUMAN = Vocabulary.human()
SYMBOLS = HUMAN.symbols[:5000]


def mouse(symbol: str) -> str:
    return f"mt-{symbol[3:].capitalize()}" if symbol.startswith("MT-") else symbol.capitalize()


def ids(letters: str, n: int = 2000) -> list[str]:
    return [f"{letters}{i:011d}" for i in range(n)]


def barcodes(n: int) -> list[str]:
    generator = random.Random(0)
    return ["".join(generator.choices("ACGT", k=16)) + "-1" for _ in range(n)]


@pytest.mark.parametrize(
    ("names", "found", "fix"),
    [
        (
            [mouse(s) for s in SYMBOLS],
            r"of 5,000 gene names \(A1bg, A1cf, A2m, …\) are spelled as in mouse",
            "orthologues",
        ),
        ([mouse(s) for s in SYMBOLS[:300]], "spelled as in mouse or rat", "orthologues"),
        ([mouse(s) for s in HUMAN.symbols if s.startswith("MT-")], r"mt-Atp6.*spelled as in mouse", "orthologues"),
        (ids("ENSMUSG"), r"2,000 of 2,000 gene names .* are Ensembl ids of mouse", "orthologues"),
        ([f"{name}.3" for name in ids("ENSRNOG")], "Ensembl ids of rat", "orthologues"),
        (ids("ENSQQQG"), r"Ensembl ids of another species \(ENSQQQG\)", "orthologues"),
        ([*SYMBOLS, *ids("ENSMMUG", 3000)], "3,000 of 8,000 .* Ensembl ids of rhesus macaque", "orthologues"),
        ([f"mm10_{mouse(s)}" for s in SYMBOLS], "genes of another genome", "orthologues"),
        ([s.lower() for s in SYMBOLS], "lower case, as in zebrafish", r"str\.upper"),
        (range(3000), r"3,000 of 3,000 gene names \(0, 1, 2, …\) are numbers", "take the names from the file"),
        ([f"{i}.0" for i in range(3000)], "are numbers", "Entrez"),
        (ids("ENST"), "transcripts, not genes", "Sum the transcripts"),
        ([f"chr1:{i}-{i + 500}" for i in range(2000)], "peaks", "gene expression"),
        (barcodes(500), "cell barcodes", r"adata\.T"),
        ([""] * 100, "missing", "name of its gene"),
        ([], "it has no genes", "one column per gene"),
        ([f"FOO{i}" for i in range(2000)], "none of its 2,000 genes is in the vocabulary .FOO0, FOO1, FOO2, …", "ENSG"),
        (
            SYMBOLS[:300],
            "only 300 of the 19,281 genes of the vocabulary are among its 300",
            "At least 964 .* min_overlap",
        ),
        (
            [*SYMBOLS[:1000], *(f"FOO{i}" for i in range(9000))],
            r"only 1,000 of its 10,000 genes \(10 %\)",
            "At least 20 %",
        ),
    ],
)
def test_what_is_no_human_input_is_refused_with_what_was_found_and_a_fix(
    names: list[object], found: str, fix: str
) -> None:
    with pytest.raises(GeneError, match=found) as error:
        resolve_genes(names, where="cells.h5ad")
    assert str(error.value).startswith("cells.h5ad: ")
    assert error.match(fix)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "rename",
    [
        lambda s: s,
        lambda s: s.upper(),
        lambda s: f"GRCh38_{s}",
        lambda s: s.replace("-", "."),
        lambda s: s.replace("_", "-"),
        lambda s: f"{HUMAN.ensembl[HUMAN.index(s)]}.7" if HUMAN.ensembl[HUMAN.index(s)] else s,
    ],
)
def test_human_genes_pass_however_they_are_written(rename: Callable[[str], str]) -> None:
    audit = resolve_genes([rename(symbol) for symbol in HUMAN.symbols])
    assert audit.columns.tolist() == list(range(len(HUMAN)))


def test_human_genes_beside_those_of_a_mouse_pass_and_the_mouse_is_left_out() -> None:
    for other in ([f"mm10___{mouse(s)}" for s in SYMBOLS], [mouse(s) for s in SYMBOLS[:4900]]):
        audit = resolve_genes([*SYMBOLS, *other])
        assert audit.counts()["unknown"] > 0.95 * len(other)
        assert (audit.columns[: len(SYMBOLS)] >= 0).all()
        assert audit.counts()["matched"] + audit.counts()["merged"] >= len(SYMBOLS)


def test_a_panel_passes_where_fewer_genes_are_allowed() -> None:
    assert resolve_genes(SYMBOLS[:300], min_overlap=300).used == 300
    with pytest.raises(GeneError, match="At least 301"):
        resolve_genes(SYMBOLS[:300], min_overlap=301)


def test_fewest_genes_are_one_in_twenty_of_a_small_vocabulary() -> None:
    small = Vocabulary(tuple(f"G{i}" for i in range(40)), ("",) * 40)
    assert resolve_genes(["G1", "G2"], small).used == 2
    with pytest.raises(GeneError, match="only 1 of the 40"):
        resolve_genes(["G1"], small)


def test_the_refusal_names_the_column_of_var_that_holds_the_genes() -> None:
    var = pd.DataFrame({"n": range(3000), "name": SYMBOLS[:3000], "kind": pd.Categorical(["gene"] * 3000)})
    with pytest.raises(GeneError, match=r"column 'name' of var holds 3,000 genes .* \(--gene-column name\)"):
        resolve_genes(range(3000), var=var)
    with pytest.raises(GeneError, match="take the names from the file"):
        resolve_genes(range(3000), var=var[["n", "kind"]])


def test_a_column_of_var_in_which_a_few_words_are_genes_is_not_recommended() -> None:
    var = pd.DataFrame({"cell_type": ["NK", "B", "CD4", "ACTB"] * 750})
    with pytest.raises(GeneError) as error:
        resolve_genes([f"cell{i}" for i in range(3000)], var=var)
    assert "cell_type" not in str(error.value)


def test_a_matrix_whose_cells_are_genes_is_called_transposed() -> None:
    var = pd.DataFrame({"cell_type": ["NK", "B"] * 50})
    with pytest.raises(GeneError, match=r"cells are named as genes \(3,000 of 3,000\).* give adata\.T"):
        resolve_genes([f"c{i}" for i in range(100)], var=var, cells=SYMBOLS[:3000])
