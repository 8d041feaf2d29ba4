"""Every page of the built book: at a desk, on paper, without scripts, on a phone, by keyboard.

What is promised stands in ``gates.py``, under ``PROMISES``. The pages are found here by
themselves, also the index, the search page and the one for what is missing: a new chapter needs
no new line. Other hosts cannot be reached while these tests run. What a visit saw is kept in
``_build/reports``.
"""

from __future__ import annotations

import re

import gates
import nbformat
import pytest

from tools import published
from tools.cache import ROOT

pytestmark = pytest.mark.built

PAGES = published.pages()
READING = published.reading_order()
CHAPTERS = published.chapters()
every_page = pytest.mark.parametrize("name", PAGES)


def test_the_book_is_there():
    """Without pages nothing below would be asked."""
    assert PAGES, "there is no built book; `make book` builds it"
    assert set(READING) <= set(PAGES)
    assert {"genindex", "search", "404"} <= set(PAGES)
    if not gates.AXE.is_file():  # all else is asked without it
        gates.missing(gates.WITHOUT_AXE)


def lost_from_the_notebook(name: str, visit: gates.Visit) -> list[str]:
    """A page that lost all its formulas or figures would keep every promise about them."""
    cells = nbformat.read(ROOT / f"{name}.ipynb", nbformat.NO_CONVERT).cells
    text, code = (
        "\n\n".join(cell.source for cell in cells if cell.cell_type == kind)
        for kind in ("markdown", "code")
    )
    wanted = {
        "formulas": len(re.findall(r"\$\$.+?\$\$", text, re.DOTALL)),
        "figures": min(1, code.count("plots.show(")),
    }
    return [
        f"only {visit['seen'][kind]['count']} {kind}, {number} in the notebook"
        for kind, number in wanted.items()
        if visit["seen"][kind]["count"] < number
    ]


@every_page
def test_a_page_at_a_desk(browser, site, name):
    """By light, in the dark, on paper, and without scripts."""
    address = f"{site}{name}.html"
    visit = gates.visit_desktop(browser, address)
    gates.write_down(name, visit)
    faults = gates.faults(visit)
    if name in READING:
        faults += gates.faults(gates.visit_without_scripts(browser, address, visit))
    if name in CHAPTERS:
        faults += lost_from_the_notebook(name, visit)
    gates.hold(faults)


@every_page
def test_a_page_on_a_phone(browser, site, name):
    """Of 360 pixels, with answers and solutions folded and unfolded."""
    visit = gates.visit_phone(browser, f"{site}{name}.html")
    gates.write_down(name, visit)
    gates.hold(gates.faults(visit))


@every_page
def test_a_page_by_keyboard(browser, site, name):
    """Tab comes to everything, shows where it is, and may skip the menus."""
    gates.hold(gates.faults(gates.visit_by_keyboard(browser, f"{site}{name}.html")))
