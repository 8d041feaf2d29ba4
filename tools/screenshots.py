"""Photograph whole pages, light and dark, at a desk and on a phone: no test sees what is ugly."""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page

from tools import browser, published
from tools.serve import serve

FOLDER = published.REPORTS / "screenshots"
PHONE = {"device_scale_factor": 2, "is_mobile": True, "has_touch": True}
FORMS = {
    "desktop": {"viewport": {"width": 1300, "height": 2000}},
    "phone": {"viewport": {"width": 360, "height": 1600}, **PHONE},
}
# Scroll to a place, and return how much of the page is left from there.
MOVE = """y => {
  scrollTo({ top: y, behavior: "instant" });
  return document.documentElement.scrollHeight - y;
}"""


def photograph(page: Page, name: str) -> None:
    """Write a PNG of each piece of ``page``, as high as the screen."""
    height = page.viewport_size["height"]
    page.evaluate("document.fonts.ready.then(() => true)")
    for piece in itertools.count():
        # A page grows while it scrolls: what was never in sight has an estimated height.
        rest = page.evaluate(MOVE, piece * height)
        page.wait_for_timeout(200)  # what comes into sight is drawn
        page.screenshot(path=FOLDER / f"{name}-{piece + 1:02}.png")
        if rest <= height:
            return


def main(arguments: list[str] | None = None) -> None:
    """Photograph pages of the book that was built last."""
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description=__doc__)
    names = {"nargs": "*", "metavar": "page", "default": published.reading_order()}
    parser.add_argument("names", **names, help="such as notebooks/10-imdb; default: all")
    names = parser.parse_args(arguments).names
    if unknown := sorted({*names} - {*published.pages()}):
        parser.error(f"the book has no page {', '.join(unknown)}")
    shutil.rmtree(FOLDER, ignore_errors=True)
    try:
        with serve(prefix="/handbook/") as site, browser.open_browser() as opened:
            for name, form, theme in itertools.product(names, FORMS, ("light", "dark")):
                page = opened.new_page(color_scheme=theme, reduced_motion="reduce", **FORMS[form])
                page.goto(f"{site}{name}.html", wait_until="load")
                photograph(page, f"{Path(name).name}-{form}-{theme}")
                page.close()
    except (OSError, browser.BrowserMissing) as problem:
        sys.exit(f"error: {problem}")
    print(f"The pictures are in {FOLDER}")


if __name__ == "__main__":
    main()
