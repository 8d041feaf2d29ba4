"""Photograph whole pages in pieces, light and dark, at a desk and on a phone.

Look at the pictures: no test sees what is ugly.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser

from tools import browser, published
from tools.serve import serve

FOLDER = published.REPORTS / "screenshots"
FORMS = {
    "desktop": {"viewport": {"width": 1300, "height": 2000}},
    "phone": {
        "viewport": {"width": 360, "height": 1600},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}
THEMES = ("light", "dark")
# Scroll to a place, and return how much of the page is left from there.
MOVE = """y => {
  scrollTo({ top: y, behavior: "instant" });
  return document.documentElement.scrollHeight - y;
}"""


def photograph(opened: Browser, site: str, name: str, folder: Path) -> list[Path]:
    """Write PNGs of the page ``name``, in each form and theme, into ``folder``; return them."""
    paths = []
    for form, options in FORMS.items():
        height = options["viewport"]["height"]
        for theme in THEMES:
            context = opened.new_context(color_scheme=theme, reduced_motion="reduce", **options)
            page = context.new_page()
            page.goto(f"{site}{name}.html", wait_until="load")
            page.evaluate("document.fonts.ready.then(() => true)")
            for piece in itertools.count():
                # A page grows while it scrolls: what was never in sight has an estimated height.
                rest = page.evaluate(MOVE, piece * height)
                page.wait_for_timeout(200)  # what comes into sight is drawn
                paths.append(folder / f"{Path(name).name}-{form}-{theme}-{piece + 1:02}.png")
                page.screenshot(path=paths[-1])
                if rest <= height:
                    break
            context.close()
    return paths


def main(arguments: list[str] | None = None) -> int:
    """Photograph pages of the book that was built last."""
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="page", default=published.reading_order(),
        help="such as notebooks/10-imdb; default: all",
    )  # fmt: skip
    names = parser.parse_args(arguments).names
    if unknown := sorted({*names} - {*published.pages()}):
        parser.error(f"the book has no page {', '.join(unknown)}")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    try:
        with serve(prefix="/handbook/") as site, browser.open_browser() as opened:
            for name in names:
                print(f"{name}: {len(photograph(opened, site, name, FOLDER))} pictures", flush=True)
    except (OSError, browser.BrowserMissing) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(f"The pictures are in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
