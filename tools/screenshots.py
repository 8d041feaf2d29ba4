"""Photograph the pages on which most can go wrong, light and dark, at a desk and on a phone.

The cover, the page with most formulas, the one with most figures, and the ledger, each from
the first thing that it was chosen for. Look at them: no test sees what is ugly.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from playwright.sync_api import Browser

from tools import browser, published
from tools.serve import HTML, serve

FOLDER = published.REPORTS / "screenshots"
FORMS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone": {
        "viewport": {"width": 360, "height": 740},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}
THEMES = ("light", "dark")
# Where the picture begins: at the top, or at the first formula, figure or table.
BEGIN = {
    "cover": "h1",
    "formulas": "main div.math, main mjx-container[display], main .katex-display, main math",
    "figures": "main figure svg, main figure img, main .cell_output img",
    "ledger": "h1",
}


def chosen(names: list[str], ledger: str = published.LEDGER, folder: Path = HTML) -> dict[str, str]:
    """Return the pages to photograph, the first of ``names`` as the cover, under what they show."""
    return {
        "cover": names[0],
        "formulas": published.richest(published.FORMULA, names, folder),
        "figures": published.richest(published.FIGURE, names, folder),
        "ledger": ledger,
    }


def photograph(opened: Browser, site: str, pages: dict[str, str], folder: Path) -> list[Path]:
    """Write a PNG for each page, theme and form into ``folder``; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    paths = []
    for form, options in FORMS.items():
        for theme in THEMES:
            context = opened.new_context(color_scheme=theme, reduced_motion="reduce", **options)
            for subject, name in pages.items():
                page = context.new_page()
                page.goto(f"{site}{name}.html", wait_until="load")
                page.evaluate("document.fonts.ready.then(() => true)")
                page.evaluate(
                    """selector => {
                      const found = document.querySelector(selector);
                      const top = found ? found.getBoundingClientRect().top + scrollY : 0;
                      scrollTo({ top: top > innerHeight / 2 ? top - 160 : 0, behavior: "instant" });
                    }""",
                    BEGIN[subject],
                )
                page.wait_for_timeout(300)  # what comes into sight is drawn
                path = folder / f"{subject}-{theme}-{form}.png"
                page.screenshot(path=path)
                paths.append(path)
                page.close()
            context.close()
    return paths


def main(arguments: list[str] | None = None) -> int:
    """Photograph the book."""
    argparse.ArgumentParser(prog="python -m tools.screenshots", description=__doc__).parse_args(
        arguments
    )
    try:
        with serve(prefix="/handbook/") as site, browser.open_browser() as opened:
            pages = chosen(published.reading_order())
            paths = photograph(opened, site, pages, FOLDER)
    except (OSError, browser.BrowserMissing) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(*(f"{subject}: {name}" for subject, name in pages.items()), sep="\n")
    print(f"{len(paths)} screenshots in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
