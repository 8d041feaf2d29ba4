"""What a reader does with the built book: search, turn pages, choose a theme, copy, unfold.

How quizzes and the attention explorer answer is asked in their own files.
"""

from __future__ import annotations

from pathlib import Path

import gates
import nbformat
import pytest
from built_pages import page
from conftest import PATIENCE

from tools import published
from tools.cache import ROOT

pytestmark = pytest.mark.built

READING = published.reading_order()
CHAPTERS = published.chapters()


# --- finding the way --------------------------------------------------------------------


def test_a_newcomer_finds_the_cover_a_theme_and_a_chapter(reader, site):
    """From the book's address to the cover, on to the next page, and by search to a chapter."""
    shown = "document.documentElement.dataset.theme"
    reader.goto(site)
    reader.wait_for_url(f"{site}{READING[0]}.html")
    assert reader.locator("main h1").first.is_visible()
    assert reader.evaluate(shown) == "light"
    switch = reader.locator("button.theme-switch-button:visible").first
    for _ in range(3):  # the switch goes round: as the system does, light, dark
        if reader.evaluate(shown) == "dark":
            break
        switch.focus()
        reader.keyboard.press("Enter")
    reader.locator("a.right-next:visible").click()
    reader.wait_for_url(f"{site}{READING[1]}.html")
    assert reader.evaluate(shown) == "dark", "what was chosen is forgotten"
    reader.locator("button[class*=search-button]:visible").first.focus()
    reader.keyboard.press("Enter")
    reader.wait_for_function("document.activeElement.matches('input[type=search]')")
    reader.keyboard.type(page(CHAPTERS[-1]).soup.h1.get_text().rstrip("#"))
    reader.keyboard.press("Enter")
    reader.locator(f"#search-results a[href*='{CHAPTERS[-1]}.html']").first.wait_for()
    assert reader.locator("#search-results li").count() < len(READING), "every page is found"


def test_a_menu_opens_by_keyboard(reader, site):
    """A menu that drops down opens with Enter, and Tab goes on into it."""
    reader.goto(f"{site}{CHAPTERS[0]}.html")
    button = reader.locator("button[aria-expanded]:visible").first
    button.focus()
    reader.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    reader.keyboard.press("Tab")
    menu = "document.activeElement.closest('.dropdown-menu, [role=menu]') !== null"
    assert reader.evaluate(menu)
    reader.keyboard.press("Escape")
    assert button.get_attribute("aria-expanded") == "false"


def test_the_menus_open_on_a_phone(browser, site):
    """The list of pages and the list of sections are there for a finger, and close again."""
    with gates.opened(browser, f"{site}{CHAPTERS[0]}.html", **gates.PHONE) as (page, _log):
        for kind, holds in (("primary", READING[1]), ("secondary", "#")):
            link = page.locator(f".bd-sidebar-{kind} a[href*='{Path(holds).name}']").first
            within = page.locator(f"dialog[open] a[href*='{Path(holds).name}']")
            assert not link.is_visible() or not link.evaluate(
                "element => { const box = element.getBoundingClientRect();"
                " return box.left >= 0 && box.right <= innerWidth && box.top < innerHeight; }"
            )
            page.locator(f"button.{kind}-toggle:visible").first.tap()
            within.first.wait_for(timeout=PATIENCE)
            page.keyboard.press("Escape")
            within.first.wait_for(state="hidden", timeout=PATIENCE)


# --- in a chapter -----------------------------------------------------------------------


def test_code_can_be_copied(chapter):
    """Every input has a button, and the button copies what stands there, to the letter."""
    name, page = chapter
    cells = page.locator("div.cell_input div.highlight:visible")
    buttons = cells.locator("button.copybtn")
    buttons.first.wait_for()
    assert buttons.count() == cells.count() > 5
    notebook = nbformat.read(ROOT / f"{name}.ipynb", nbformat.NO_CONVERT)
    sources = {cell.source.strip() for cell in notebook.cells if cell.cell_type == "code"}
    for cell in cells.locator("visible=true").all()[:2]:
        page.evaluate("navigator.clipboard.writeText('')")
        cell.hover()
        cell.locator("button.copybtn").click()
        page.wait_for_function("navigator.clipboard.readText().then(text => text !== '')")
        assert page.evaluate("navigator.clipboard.readText()").strip() in sources


def test_solutions_are_folded_and_open(chapter):
    """A quiz takes the place of its folded answer; tests/test_quizzes.py looks at those."""
    _, page = chapter
    assert page.locator("main details").count() >= 4
    assert page.locator("main details[open]").count() == 0
    details = page.locator("main .tag_hide-cell details").first
    gates.approach(details)
    inside = details.locator(":scope > :not(summary)").first
    assert not inside.is_visible()
    details.locator("summary").first.press("Enter")
    assert inside.is_visible()
