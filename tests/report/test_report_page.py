"""The page: all sections, only what is given, nothing from outside, nothing unescaped, whole or not at all."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cell_lm.report import Annotation, Dataset, Embedding, Panel, ReportData, Training, write_report
from cell_lm.report import page as page_module
from cell_lm.report.page import render

EVIL = "<script>alert('x')</script>"
VOID = {"meta", "br", "link", "img", "input", "hr", "wbr"}


class Page(HTMLParser):
    """Reads a page strictly: every tag closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).replace("\u00a0", " ").split())

    def sections(self) -> list[str]:
        return [attributes["id"] for tag, attributes in self.tags if tag == "section"]


def rows(text: str, section: str) -> list[list[str]]:
    """Return the table rows of a section as words."""
    body = text[text.index(f'<section id="{section}">') :]
    body = body[: body.index("</section>")]
    made = []
    for row in re.findall(r"<tr>(.*?)</tr>", body, flags=re.S):
        cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.S)
        made.append(
            [
                " ".join(re.sub(r"<[^>]+>", " ", cell.replace("<wbr>", "")).replace("\u00a0", " ").split())
                for cell in cells
            ]
        )
    return made


def test_a_full_report_has_every_section_once_and_links_to_them(text: str) -> None:
    page = Page(text)
    assert page.sections() == ["data", "training", "map", "annotation", "geometry", "reproduce", "limits"]
    anchors = [attributes["href"] for tag, attributes in page.tags if tag == "a" and attributes["href"].startswith("#")]
    assert anchors == [f"#{section}" for section in page.sections()]


def test_a_bare_pretraining_run_has_only_its_own_sections(history: pd.DataFrame) -> None:
    page = Page(render(ReportData("Bare", training=Training(history))))
    assert page.sections() == ["training", "limits"]
    assert "macro-F1" not in page.words


def test_even_nothing_but_a_title_makes_a_page() -> None:
    assert Page(render(ReportData("Nothing yet"))).sections() == ["limits"]


def test_a_geometry_without_a_map_and_a_map_without_a_geometry(full: ReportData) -> None:
    assert full.embedding is not None
    assert Page(render(ReportData("t", embedding=Embedding(geometry=full.embedding.geometry)))).sections() == [
        "geometry",
        "limits",
    ]
    only_map = Embedding(full.embedding.coordinates, full.embedding.panels)
    assert Page(render(ReportData("t", embedding=only_map))).sections() == ["map", "limits"]


def test_nothing_is_loaded_from_outside(text: str) -> None:
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for key, value in attributes.items():
            assert not key.startswith("on"), f"<{tag} {key}>"
            if key in {"src", "srcset", "href", "xlink:href", "data", "action", "poster", "background"} and tag != "a":
                assert value.startswith(("#", "data:image/png;base64,")), f"<{tag} {key}={value[:40]}>"
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)


def evil(full: ReportData) -> ReportData:
    dataset = replace(
        full.datasets[0],
        name=EVIL,
        tissue=EVIL,
        role=EVIL,
        source=EVIL,
        renamed=((EVIL, EVIL, f'"{EVIL}'),),
    )
    assert full.embedding is not None
    assert full.reproduction is not None
    assert full.embedding.coordinates is not None
    labels = [EVIL, "$x^2$", None] * 20
    return replace(
        full,
        title=EVIL,
        summary=EVIL,
        model=EVIL,
        datasets=(dataset,),
        embedding=Embedding(
            full.embedding.coordinates, (Panel(EVIL, labels, EVIL, on_map=True),), cells=EVIL, explorer=EVIL
        ),
        annotation=Annotation([EVIL, "b", "b"], ["b", EVIL, "b"], method=EVIL, trained_on=EVIL, tested_on=EVIL),
        reproduction=replace(
            full.reproduction,
            command=EVIL,
            config={EVIL: EVIL},
            environment={EVIL: EVIL},
            files={EVIL: "javascript:alert(1)//" + EVIL},
        ),
        limits=(EVIL,),
    )


def test_names_from_the_data_are_shown_not_run(full: ReportData) -> None:
    text = render(evil(full))
    page = Page(text)
    assert "<script" not in text
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.words.count(EVIL) >= 15
    assert "$x^2$" in page.words
    links = [
        attributes["href"] for tag, attributes in page.tags if tag == "a" and not attributes["href"].startswith("#")
    ]
    assert links
    assert all(":" not in link for link in links)


def test_the_table_of_classes_holds_the_scores(text: str) -> None:
    table = rows(text, "annotation")
    name, score, difference, accuracy = table[1]
    assert (name, difference, accuracy) == ("cell-lm: genes and encoder, pooled", "–", "80.0 %")
    assert re.fullmatch(r"0\.589 \(0\.\d{3} to [01]\.\d{3}\)", score)
    assert table[3][:2] == ["logistic regression", "1.000 (1.000 to 1.000)"]
    assert re.fullmatch(r"−0\.411 \(−0\.\d{3} to 0\.000\)", table[3][2])
    assert ["alpha", "6", "1.000", "0.833", "0.909", "1.000"] in table
    assert ["beta", "3", "0.750", "1.000", "0.857", "1.000"] in table
    assert ["delta", "1", "0.000", "0.000", "0.000", "1.000"] in table
    assert ["gamma never true here, only predicted", "0", "0.000", "–", "–", "–"] in table
    assert ["90 %", "20.0 %", "100.0 %"] in table
    per_class = [row[0].split()[0] for row in table if len(row) == 6]
    assert per_class == ["Cell", "alpha", "beta", "delta", "gamma"]


def test_each_donor_has_a_row_where_donors_are_given(full: ReportData, text: str) -> None:
    assert full.annotation is not None
    assert "Donor by donor" not in text
    donors = ["d1"] * 8 + ["d2"] * 2
    notes = {"delta": "no training cell with d2 left out"}
    page = render(replace(full, annotation=replace(full.annotation, donors=donors, type_notes=notes)))
    table = rows(page, "annotation")
    first, second = (next(row for row in table if row[0] == name) for name in ("d1", "d2"))
    assert first[1:3] == ["8", "2"]
    assert second[1:] == ["2", "2", "0.500 (0.000 to 1.000)", "1.000", "−0.500 (−1.000 to 0.000)"]
    assert "within each donor" in page
    assert "further cells of these 2 donors" in Page(page).words
    assert "delta no training cell with d2 left out" in [row[0] for row in table]


def test_a_method_far_below_the_model_is_in_the_table_only(text: str) -> None:
    picture = text[text.index('id="intervals-alt"') :]
    picture = picture[: picture.index("</svg>")]
    assert "logistic regression" in picture
    assert "most frequent" not in picture
    assert "most frequent" in [row[0] for row in rows(text, "annotation")]


def test_types_the_classifier_could_not_know_are_marked(full: ReportData) -> None:
    assert full.annotation is not None
    data = replace(full, annotation=replace(full.annotation, known=frozenset({"alpha", "beta", "gamma"})))
    names = [row[0] for row in rows(render(data), "annotation")]
    assert "delta not among the types it was fitted on" in names


def test_the_audit_tables_hold_every_status(full: ReportData, text: str) -> None:
    table = rows(text, "data")
    library, genes = full.datasets[0].library_size, full.datasets[0].genes_per_cell
    assert library is not None
    assert genes is not None
    medians = [f"{round(float(np.median(values))):,}" for values in (library, genes)]
    assert ["first.h5ad", "40", "2", "pancreas", "10", "25", "5", *medians] in table
    assert ["second.h5ad", "20", "1", "–", "0", "0", "20", "–", "–"] in table
    assert ["first.h5ad", "115", "90", "7", "2", "1", "12", "3", "50.0 %"] in table
    assert "GNB2L1 → RACK1" in Page(text).words


def test_every_picture_says_what_it_shows(text: str) -> None:
    pictures = [attributes for tag, attributes in Page(text).tags if tag == "svg"]
    assert len(pictures) == 2 + 5 + 2 + 3
    for attributes in pictures:
        assert attributes["role"] == "img"
        assert re.search(rf'<title id="{attributes["aria-labelledby"]}">[^<]{{10,}}</title>', text)
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_legends_give_the_size_of_every_category_largest_first(text: str) -> None:
    legend = text[text.index('class="keys column"') :]
    legend = legend[: legend.index("</ul>")]
    names = re.findall(r'class="name">([^<]+)<.*?class="cells">([^<]+)<', legend)
    assert names == [("alpha", "20"), ("beta", "20"), ("delta", "20")]


def test_the_geometry_is_explained(text: str) -> None:
    table = rows(text, "geometry")
    assert [row[0] for row in table] == ["Measure", "Mean cosine", "Uniformity", "Alignment", "Effective rank"]
    assert "two cells of the same label" in table[3][2]
    assert all(len(row[2]) > 40 for row in table[1:])


def test_how_to_make_it_again_is_complete(text: str) -> None:
    words = Page(text).words
    for part in (
        "cell-lm demo --seed 7",
        "0.1.0",
        "seed 7",
        '"steps": 60',
        "Python 3.11",
        "cells.h5ad",
        "Synthetic cells.",
    ):
        assert part in words


def test_tumour_cells_come_with_their_warning_and_only_then(full: ReportData, text: str) -> None:
    assert "rather than proven" in Page(text).words
    assert "rather than proven" not in Page(render(replace(full, datasets=full.datasets[1:]))).words


def test_the_same_data_make_the_same_page(full: ReportData, text: str) -> None:
    assert render(full) == text


def test_three_thousand_cells_in_six_colours_stay_under_three_megabytes(full: ReportData, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(3000, 2)).astype(np.float32)
    panels = tuple(Panel(f"panel {i}", rng.integers(0, 12, 3000)) for i in range(6))
    write_report(replace(full, embedding=Embedding(points, panels)), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 3e6


def test_a_failure_leaves_the_page_that_was_there(
    full: ReportData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sub" / "report.html"
    write_report(full, path)
    before = path.read_bytes()
    assert before.startswith(b"<!doctype html>")

    def broken(*_: object) -> list[str]:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(page_module, "limits", broken)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        write_report(replace(full, title="other"), path)
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["report.html"]


def test_one_data_set_without_numbers_per_cell_will_do(full: ReportData) -> None:
    bare = Dataset("x.h5ad", 5, full.datasets[1].audit)
    assert Page(render(ReportData("t", datasets=(bare,)))).sections() == ["data", "limits"]
