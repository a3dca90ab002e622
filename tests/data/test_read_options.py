from __future__ import annotations

import json
import typing
from dataclasses import fields

import pytest

from cell_lm.data import MalignancyColumn, ReadKeywords, ReadOptions, from_anndata
from cell_lm.data.read_options import read_options
from cell_lm.errors import ConfigError
from typed_cells import typed_adata


def test_the_keywords_are_the_fields():
    keywords = typing.get_type_hints(ReadKeywords)
    assert keywords.pop("read") is ReadOptions
    assert keywords == typing.get_type_hints(ReadOptions)
    assert [field.name for field in fields(ReadOptions)] == list(keywords)


def test_keywords_go_over_ready_options():
    ready = ReadOptions(layer="counts", min_overlap=300)
    assert read_options(read=ready) == ready
    assert read_options(read=ready, min_overlap=None, scale="log1p") == ReadOptions(layer="counts", scale="log1p")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"scal": "counts", "gene_colum": "x"}, "scal, gene_colum. Did you mean scale and gene_column?"),
        ({"zzz": 1}, "unknown keyword: zzz. Cells are read with: layer, scale, gene_column, min_overlap, min_genes"),
        ({"read": {"layer": "counts"}}, "read is a dict. Give a cell_lm.data.ReadOptions"),
        ({"scale": "log3"}, "scale='log3' is unknown. Choose one of: counts, log1p, log2, log10, linear"),
        ({"layer": 3}, "layer is 3"),
        ({"gene_column": ""}, "gene_column is ''"),
        ({"min_overlap": 0}, "min_overlap is 0. Give a whole number from 1 on"),
        ({"min_overlap": 0.1}, "min_overlap is 0.1"),
        ({"min_genes": -1}, "min_genes is -1"),
        ({"min_genes": True}, "min_genes is True"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(keywords, message):
    with pytest.raises(ConfigError, match=r"^read options: ") as caught:
        read_options(**keywords)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_record_is_plain_data_without_what_was_not_asked_for():
    column = MalignancyColumn("malignant", {"putative": "tumour"})
    assert ReadOptions().to_json() == {"scale": "counts"}
    record = ReadOptions(layer="raw", min_overlap=7, malignancy=column).to_json()
    assert json.loads(json.dumps(record)) == record
    assert record == {
        "layer": "raw",
        "scale": "counts",
        "min_overlap": 7,
        "malignancy": {"column": "malignant", "values": {"putative": "tumour"}},
    }


def test_a_reader_takes_ready_options_and_keywords_alike():
    adata = typed_adata(20)
    adata.obs["malignant"] = "no"
    adata.layers["counts"], adata.X = adata.X.copy(), adata.X * 0.5
    options = ReadOptions(layer="counts", min_genes=100, malignancy=MalignancyColumn("malignant"))
    ready = from_anndata(adata, read=options)
    spelt = from_anndata(adata, layer="counts", min_genes=100, malignancy=MalignancyColumn("malignant"))
    assert (ready.X != spelt.X).nnz == 0
    assert ready.malignancy.tolist() == spelt.malignancy.tolist() == [0] * 20
