"""Draw the picture of the explorer's documentation from a page, such as the one that the demo leaves.

python scripts/make_explorer_picture.py demo/explore.html docs/images/explorer.png ["T cell"]

The third argument is the label to select. Needs playwright and Chromium.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

FLAGS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run")


def main(explorer: Path, picture: Path, label: str = "T cell") -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1200, "height": 780}, color_scheme="light")
        page.goto(explorer.resolve().as_uri())
        page.wait_for_function("document.documentElement.dataset.ready === 'yes'", timeout=60_000)
        page.locator("#legend button", has_text=label).first.click()
        page.wait_for_function("Number(document.documentElement.dataset.selected) > 0", timeout=60_000)
        page.evaluate("document.getElementById('selection').scrollIntoView({ block: 'end' })")
        page.wait_for_timeout(2000)
        taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    picture.parent.mkdir(parents=True, exist_ok=True)
    taken.save(picture, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:4])
