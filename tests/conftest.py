"""What all test files share: no real Hub, and one browser for each file that asks for one."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Read once, when huggingface_hub is imported. Tests that want a Hub name one of their own.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from playwright.sync_api import Browser

from tools import browser as local_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium or Chrome that reaches only this machine.

    One for a test file, not for the whole session: while Playwright is open, no other test
    could start an event loop of its own.
    """
    import gates

    try:
        local_browser.find()
    except local_browser.BrowserMissing as problem:
        gates.missing(str(problem))
    with local_browser.open_browser() as opened:
        yield opened
