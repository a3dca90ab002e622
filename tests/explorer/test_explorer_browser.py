"""The page in a real browser: Debian's Chromium, drawing by software. Skipped where there is none."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import mannwhitneyu

from cell_lm import pl
from cell_lm.explorer import collect
from tests.mapped_cells import HOSTILE, MARKERS, STRANGE_GENE, mapped_cells

playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser (the dev extra has it)")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine (apt install chromium)")
QUIET = (
    *("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
EACH = 60


@pytest.fixture(scope="module")
def adata() -> Any:
    return mapped_cells(EACH)


@pytest.fixture(scope="module")
def written(adata, tmp_path_factory) -> Path:
    genes = [*MARKERS, STRANGE_GENE, "CD20"]
    path = tmp_path_factory.mktemp("page") / "explore.html"
    return pl.explorer(adata, save=path, genes=genes, title="A <b>page</b>")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield running
        running.close()


class Shown:
    """An open page, and all that it asked for or complained of."""

    def __init__(self, browser: Any, path: Path, **settings: Any) -> None:
        settings = {"viewport": {"width": 1000, "height": 700}, "reduced_motion": "reduce"} | settings
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.goto(path.as_uri())
        self.page.wait_for_function("document.documentElement.dataset.ready === 'yes'")

    def place(self, cell: int) -> tuple[float, float]:
        """Return where a cell is in the window."""
        box = self.page.locator("#canvas").bounding_box()
        x, y = self.page.evaluate(f"map.plot.getScreenPosition({cell})")
        return box["x"] + x, box["y"] + y

    def colour_at(self, cell: int) -> tuple[int, ...]:
        x, y = self.place(cell)
        picture = Image.open(io.BytesIO(self.page.screenshot()))
        return picture.convert("RGB").getpixel((round(x), round(y)))

    def show(self, feature: str) -> None:
        self.page.select_option("#color", feature)
        self.page.wait_for_function(f"document.documentElement.dataset.shown === {feature!r}")
        self.page.wait_for_timeout(60)

    def lasso(self, cells: range) -> None:
        """Draw around cells, with Shift held."""
        places = np.array([self.place(cell) for cell in cells])
        (left, top), (right, bottom) = places.min(axis=0) - 8, places.max(axis=0) + 8
        self.page.keyboard.down("Shift")
        self.page.mouse.move(left, top)
        self.page.mouse.down()
        for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 1)):
            self.page.mouse.move(x, y, steps=6)
        self.page.mouse.up()
        self.page.keyboard.up("Shift")
        self.page.wait_for_function(f"document.documentElement.dataset.selected === '{len(cells)}'")


@pytest.fixture
def shown(browser, written) -> Iterator[Shown]:
    """The page; afterwards it must have asked for nothing else, complained of nothing, and run no text of the data."""
    opened = Shown(browser, written)
    yield opened
    assert opened.page.evaluate("window.harmed") is None
    assert opened.asked == [written.as_uri()]
    assert opened.complaints == []
    opened.context.close()


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def near(found: tuple[int, ...], wanted: tuple[int, ...], within: int) -> bool:
    return max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= within


def test_cells_are_drawn_in_the_colours_of_their_labels(shown, adata):
    shown.page.select_option("#opacity", "")
    shown.page.wait_for_timeout(200)
    label = collect(adata).columns[0]
    for cell in (EACH - 1, 2 * EACH - 1, 3 * EACH - 1):
        assert near(shown.colour_at(cell), rgb(label.colours[label.codes[cell]]), 60)
    assert shown.colour_at(EACH - 1) != shown.colour_at(2 * EACH - 1)


def test_a_gene_colours_the_cells_that_express_it(shown):
    assert shown.page.locator("#genes option").count() == 4
    shown.page.fill("#gene", "cd20")
    shown.page.keyboard.press("Enter")
    shown.page.wait_for_function("document.documentElement.dataset.shown === 'gene:MS4A1'")
    shown.page.select_option("#opacity", "")
    shown.page.wait_for_timeout(200)
    high, low = shown.colour_at(2 * EACH - 1), shown.colour_at(EACH - 1)
    assert not near(high, low, 40)
    assert "ln(1 + counts per 10,000)" in shown.page.inner_text("#legend")
    shown.page.fill("#gene", "CD19")
    shown.page.keyboard.press("Enter")
    assert "CD19 is none of the 4 genes of this page" in shown.page.inner_text("#gene-note")


def test_a_number_has_a_colour_bar(shown):
    shown.show("column:depth")
    low, high = shown.page.locator(".ends span").all_inner_texts()
    assert (low[0], high[0]) == ("≤", "≥")


def test_the_confidence_sets_the_opacity(shown):
    assert shown.page.input_value("#opacity") == "column:cell_lm_confidence"
    shown.show("column:cluster")
    paper = (255, 255, 255)
    faint, plain = (np.subtract(paper, shown.colour_at(cell)).sum() for cell in (0, 3 * EACH - 1))
    shown.page.select_option("#opacity", "")
    shown.page.wait_for_timeout(200)
    assert np.subtract(paper, shown.colour_at(0)).sum() > faint
    assert plain > 0


def test_hovering_shows_the_cell(shown, adata):
    x, y = shown.place(2 * EACH + 3)
    shown.page.mouse.move(x - 20, y - 20)
    shown.page.mouse.move(x, y, steps=4)
    shown.page.wait_for_selector("#tip:not([hidden])")
    tip = shown.page.inner_text("#tip")
    assert "cell-1" in tip
    assert HOSTILE[2] in tip
    assert "cell_lm_confidence" in tip


def test_a_lasso_counts_labels_tests_genes_and_gives_the_barcodes(shown, adata):
    shown.lasso(range(EACH, 2 * EACH))
    assert shown.page.inner_text("#selected") == "60 of 180 cells (33.3 %)"
    rows = shown.page.locator("#counts tbody tr").all_inner_texts()
    assert len(rows) == 1
    assert rows[0].split("\t")[0].strip() == HOSTILE[1]
    assert rows[0].split("\t")[1:] == ["60", "100.0 %", "100.0 %"]
    assert shown.page.locator("#top tbody tr").first.inner_text().split("\t")[0] == "MS4A1"
    assert "over the 4 genes of this page only" in shown.page.inner_text("#test-note")
    with shown.page.expect_download() as started:
        shown.page.click("#csv")
    lines = Path(started.value.path()).read_text("utf-8").splitlines()
    assert lines[0] == '"barcode","cell_lm_label"'
    assert [line.split(",")[0].strip('"') for line in lines[1:]] == adata.obs_names[EACH : 2 * EACH].tolist()
    shown.page.locator("#top button").first.click()
    shown.page.wait_for_function("document.documentElement.dataset.shown === 'gene:MS4A1'")
    shown.page.keyboard.press("Escape")
    shown.page.wait_for_function("document.documentElement.dataset.selected === '0'")


def test_the_rank_sum_test_is_that_of_scipy(shown, adata):
    levels = collect(adata, genes=["NKG7"]).genes[0].levels
    chosen = np.zeros(len(levels), bool)
    chosen[np.random.default_rng(1).choice(len(levels), 50, replace=False)] = True
    found = shown.page.evaluate(
        "async ([inside, number]) => rankSum(await findGene('NKG7').levels(), inside, number)",
        [chosen.astype(int).tolist(), int(chosen.sum())],
    )
    expected = mannwhitneyu(levels[chosen], levels[~chosen], method="asymptotic")
    np.testing.assert_allclose(found["p"], expected.pvalue, rtol=1e-5)
    np.testing.assert_allclose(found["auc"], expected.statistic / (50 * (len(levels) - 50)), rtol=1e-12)
    p = [0.01, 0.04, 0.03, 0.5]
    np.testing.assert_allclose(
        shown.page.evaluate("p => benjaminiHochberg(p)", p), [0.04, 0.16 / 3, 0.16 / 3, 0.5], rtol=1e-9
    )


def test_labels_and_genes_that_are_markup_are_shown_as_text(shown):
    names = shown.page.locator("#legend .name").all_inner_texts()
    assert sorted(names) == sorted(HOSTILE)
    assert shown.page.inner_text("#title") == "A <b>page</b>"
    assert shown.page.locator("#title b, #legend img, #stage img").count() == 0
    shown.show(f"gene:{STRANGE_GENE}")
    assert shown.page.locator("#color option", has_text=STRANGE_GENE).count() == 1


def test_the_keyboard_reaches_everything(shown):
    page = shown.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    order = []
    for _ in range(12):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert order[:10] == ["theme", "help", "canvas", "lasso", "zoom-in", "zoom-out", "fit", "color", "gene", "opacity"]
    page.keyboard.press("Enter")
    page.wait_for_function("document.documentElement.dataset.selected === '60'")
    page.keyboard.press("Escape")
    page.wait_for_function("document.documentElement.dataset.selected === '0'")
    page.keyboard.press("]")
    page.wait_for_function("document.documentElement.dataset.shown === 'column:cell_lm_confidence'")
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "gene"


def test_the_camera_follows_the_keys(shown):
    before = shown.place(0)
    shown.page.focus("#canvas")
    shown.page.keyboard.press("ArrowRight")
    shown.page.wait_for_timeout(200)
    assert shown.place(0)[0] < before[0] - 20
    shown.page.keyboard.press("0")
    shown.page.wait_for_timeout(200)
    assert shown.place(0) == pytest.approx(before, abs=1)


def test_dark_follows_the_system_and_the_key(browser, written):
    opened = Shown(browser, written, color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert opened.page.evaluate(paper) == "rgb(18, 23, 29)"
    opened.page.keyboard.press("d")
    opened.page.wait_for_function(f"{paper} === 'rgb(255, 255, 255)'")
    assert opened.complaints == []
    opened.context.close()


def test_a_page_without_columns_or_genes_says_so(browser, tmp_path, adata):
    bare = adata[:, :0].copy()
    bare.obs = bare.obs[[]]
    page = pl.explorer(bare, save=tmp_path / "bare.html")
    opened = Shown(browser, page)
    assert opened.page.inner_text("#gene-note") == "This page holds no genes."
    assert opened.page.locator("#gene").is_disabled()
    opened.lasso(range(EACH))
    assert opened.page.inner_text("#test-note") == "This page holds no genes."
    with opened.page.expect_download() as started:
        opened.page.click("#csv")
    assert len(Path(started.value.path()).read_text("utf-8").splitlines()) == EACH + 1
    assert opened.complaints == []
    opened.context.close()
