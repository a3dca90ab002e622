"""Tables of programs for bulk RNA: their annotation is no cell, and what is no matrix is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from written import frame

from cell_lm.data import open_cells
from cell_lm.data.formats.table_layout import Layout, Line
from cell_lm.errors import InputError
from cell_lm.genes import resolve_genes


def feature_counts(cells: AnnData, path: Path) -> Path:
    """As featureCounts writes it: a comment, five columns of annotation, then the samples; one gene has one exon."""
    table = frame(cells).T.rename_axis("Geneid")
    places = [str(1_000 * (place + 1)) for place in range(len(table))]
    table.insert(0, "Chr", ["chr1", *["chr1;chr1"] * (len(table) - 1)])
    table.insert(1, "Start", [places[0], *[f"{place};{place}9" for place in places[1:]]])
    table.insert(2, "End", table["Start"])
    table.insert(3, "Strand", ["+", *["+;+"] * (len(table) - 1)])
    table.insert(4, "Length", range(900, 900 + len(table)))
    with path.open("w") as file:
        file.write('# Program:featureCounts v2.0.1; Command:"featureCounts" "-a" "x.gtf"\n')
        table.to_csv(file, sep="\t")
    return path


def test_the_annotation_of_feature_counts_is_no_cell(real: AnnData, tmp_path: Path) -> None:
    with open_cells(feature_counts(real, tmp_path / "counts.txt")) as cells:
        assert cells.obs.index.tolist() == real.obs_names.tolist()
        assert cells.var.index.tolist() == real.var_names.tolist()
        assert list(cells.var) == ["Chr", "Start", "End", "Strand", "Length"]
        assert sum(block.sum() for block in cells.blocks(10)) == real.X.sum()
        assert any("columns without counts, kept as annotation: Chr, Start" in remark for remark in cells.remarks)


def test_a_length_alone_before_or_after_the_counts_is_no_cell(real: AnnData, tmp_path: Path) -> None:
    for place in (0, real.n_obs):
        table = frame(real).T
        table.insert(place, "gene_length", 1_000)
        table.to_csv(tmp_path / "x.csv")
        with open_cells(tmp_path / "x.csv") as cells:
            assert len(cells) == real.n_obs


KINDS = {
    "salmon": (["Name\tLength\tEffectiveLength\tTPM\tNumReads", "ENST00000335137\t918\t669.0\t0.1\t3"], "salmon"),
    "kallisto": (["target_id\tlength\teff_length\test_counts\ttpm", "ENST00000335137\t918\t669.0\t3\t0.1"], "kallisto"),
    "RSEM": (
        ["gene_id\ttranscript_id(s)\tlength\teffective_length\texpected_count\tTPM\tFPKM", "g\tt\t9\t8\t3\t1\t1"],
        "RSEM",
    ),
    "STAR": (["N_unmapped\t20\t20\t20", "N_multimapping\t9\t9\t9", "TP53\t5\t2\t3"], "ReadsPerGene"),
    "HTSeq": (["A1BG\t5", "A1CF\t0", "TP53\t9", "__no_feature\t77"], "it has no header"),
}


@pytest.mark.parametrize(("lines", "says"), KINDS.values(), ids=KINDS)
def test_a_table_of_one_sample_is_named_with_what_to_do(lines: list[str], says: str, tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError) as caught, open_cells(tmp_path / "x.tsv"):
        pass
    assert says in str(caught.value)
    assert "header" in str(caught.value) or "tximport" in str(caught.value)


def test_the_summary_of_htseq_in_a_joined_table_is_no_gene(real: AnnData, tmp_path: Path) -> None:
    table = frame(real).T
    for name in ("__no_feature", "__ambiguous", "__not_aligned"):
        table.loc[name] = 99
    table.to_csv(tmp_path / "x.tsv", sep="\t")
    with open_cells(tmp_path / "x.tsv") as cells:
        unknown = resolve_genes(cells.var.index, min_overlap=1).table.iloc[-3:]
        assert unknown["status"].tolist() == ["unknown"] * 3


def test_the_layout_of_a_very_wide_table_is_found() -> None:
    """A set that is built anew for every column takes hours for so many."""
    columns = 200_000
    header = ",".join(["gene", *(f"c{place}" for place in range(columns))]).encode()
    first = ",".join(["A1BG", *["0"] * columns]).encode()
    assert len(Layout.find(Line(1, header), Line(2, first), "x.csv").columns) == columns


def test_a_table_of_pandas_with_one_cell_called_one_is_read(real: AnnData, tmp_path: Path) -> None:
    table = pd.DataFrame({"1": np.asarray(real.X[0].todense(), int).ravel()}, index=real.var_names)
    table = table.rename_axis("gene")
    table.to_csv(tmp_path / "x.csv")
    with open_cells(tmp_path / "x.csv") as cells:
        assert cells.obs.index.tolist() == ["1"]
