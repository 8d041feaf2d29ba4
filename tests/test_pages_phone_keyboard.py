"""Every page of the built book on a phone of 360 pixels, and by keyboard alone.

What is promised stands in ``gates.py``, under ``PROMISES``.
"""

from __future__ import annotations

import gates
import pytest

from tools import published

pytestmark = pytest.mark.built

every_page = pytest.mark.parametrize("name", published.pages())


@every_page
def test_a_page_on_a_phone(browser, site, name):
    """With answers and solutions folded and unfolded."""
    visit = gates.visit_phone(browser, f"{site}{name}.html")
    gates.write_down(name, visit)
    gates.hold(gates.faults(visit))
    if not gates.AXE.is_file():
        gates.missing(gates.WITHOUT_AXE)


@every_page
def test_a_page_by_keyboard(browser, site, name):
    """Tab comes to everything, shows where it is, and may skip the menus."""
    gates.hold(gates.faults(gates.visit_by_keyboard(browser, f"{site}{name}.html")))
