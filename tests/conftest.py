"""What all test files share: no real Hub, one browser for each file that asks, the built book."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Read once, when huggingface_hub is imported. Tests that want a Hub name one of their own.
os.environ["HF_HUB_OFFLINE"] = "1"

import gates
import pytest
from playwright.sync_api import Browser, Page

from tools import browser as local_browser
from tools import published
from tools.serve import HTML, serve

# A browser that is busy with other work still gets its time; nothing here measures speed.
PATIENCE = 30_000  # milliseconds


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium or Chrome that reaches only this machine.

    One for a test file, not for the whole session: while Playwright is open, no other test
    could start an event loop of its own.
    """
    try:
        local_browser.find()
    except local_browser.BrowserMissing as problem:
        gates.missing(str(problem))
    with local_browser.open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the book, below a path, as a project's pages stand on their host."""
    with serve(HTML, prefix="/handbook/") as address:
        yield address


def newcomer(browser: Browser) -> Page:
    """A page of a reader who has just come, at a desk, in light mode, with a clipboard."""
    allowed = ["clipboard-read", "clipboard-write"]
    context = browser.new_context(permissions=allowed, color_scheme="light", **gates.DESKTOP)
    context.set_default_timeout(PATIENCE)
    return context.new_page()


@pytest.fixture
def reader(browser) -> Iterator[Page]:
    """A reader who has opened nothing yet."""
    page = newcomer(browser)
    yield page
    page.context.close()


@pytest.fixture(scope="module", params=published.chapters())
def chapter(browser, site, request) -> Iterator[tuple[str, Page]]:
    """Each chapter's name and its page, opened once for all tests of a file that ask for it."""
    page = newcomer(browser)
    page.goto(f"{site}{request.param}.html")
    yield request.param, page
    page.context.close()
