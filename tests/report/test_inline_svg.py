"""Figures inside a page: no clash between two of them, nothing to fetch, text that stays text."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
from matplotlib.figure import Figure

from cell_lm.plots import figures
from cell_lm.plots.style import INK, category_colours, drawing
from cell_lm.report.svg import to_svg

SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}"


def picture(name: str, alt: str = "A map") -> str:
    values = ["<script>alert(1)</script>"] * 40 + ["B & $x$"] * 40
    figure = Figure(figsize=(4, 3))
    with drawing():
        points = np.random.default_rng(0).normal(size=(80, 2)) + np.repeat([[0, 0], [9, 0]], 40, axis=0)
        figures.draw_map(figure.add_subplot(), points, values, category_colours(values), on_map=True)
    return str(to_svg(figure, name, alt))


def test_it_is_one_well_formed_element_that_scales() -> None:
    root = ElementTree.fromstring(picture("a"))
    assert root.tag == f"{SVG}svg"
    assert "width" not in root.attrib
    assert root.attrib["viewBox"] == "0 0 288 216"
    assert root.attrib["style"] == "--natural:384px"


def test_it_says_what_it_shows() -> None:
    root = ElementTree.fromstring(picture("a", 'A "map" of <cells>'))
    assert root.attrib["role"] == "img"
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text == 'A "map" of <cells>'
    assert root.attrib["aria-labelledby"] == title.attrib["id"]


def test_ids_of_two_figures_never_meet_and_references_stay_inside() -> None:
    first, second = picture("first"), picture("second")
    for text, name in ((first, "first"), (second, "second")):
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids))
        assert all(one.startswith(f"{name}-") for one in ids)
        for reference in re.findall(r"url\(#([^)]+)\)", text) + re.findall(r'href="#([^"]+)"', text):
            assert reference in ids


def test_nothing_is_fetched_and_no_style_leaks_onto_the_page() -> None:
    text = picture("a")
    links = [
        value for element in ElementTree.fromstring(text).iter() for key, value in element.items() if "href" in key
    ]
    assert links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert "<style" not in text
    assert "<metadata" not in text
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]+"', "", text)


def test_names_are_text_in_the_font_and_colours_of_the_page_and_escaped() -> None:
    text = picture("a")
    assert "<script>" not in text
    root = ElementTree.fromstring(text)
    written = ["".join(element.itertext()).strip() for element in root.iter(f"{SVG}text")]
    assert "<script>alert(1)</script>" not in written
    assert any("B & $x$" in one for one in written)
    assert "var(--sans)" in text
    assert "var(--ink)" in text
    assert INK not in text


def test_names_on_the_map_are_outlined_by_the_page_not_drawn_as_curves() -> None:
    root = ElementTree.fromstring(picture("a"))
    halos = [element for element in root.iter(f"{SVG}g") if "-halo-" in element.attrib.get("id", "")]
    assert halos
    assert all(halo.find(f"{SVG}text") is not None for halo in halos)


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert picture("a") == picture("a")


def test_a_name_in_another_script_raises_no_warning() -> None:
    figure = Figure()
    with drawing():
        figure.add_subplot().set_title("細胞 型")
    assert "細胞 型" in to_svg(figure, "a", "b")
