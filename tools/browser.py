"""Find a Chromium or Chrome on this machine and drive it.

It cannot reach any host but this machine, so a page that asks a third party for anything shows it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

VARIABLE = "HANDBOOK_BROWSER"
NAMES = (
    "chromium", "google-chrome-stable", "google-chrome", "chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)  # fmt: skip
ARGUMENTS = (
    "--no-sandbox",  # the sandbox needs rights that root and containers lack; the pages are ours
    "--disable-gpu",
    "--disable-dev-shm-usage",  # /dev/shm has 64 MB in a container
    "--disable-background-networking",
    "--disable-component-update",
    "--no-default-browser-check",
    "--no-first-run",
    # Names are answered by "not found" before a packet leaves; loopback is the book's own server.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


class BrowserMissing(RuntimeError):
    """There is no browser; the message says how to get one."""


def find() -> str:
    """Return the program of a Chromium or Chrome: the one that is named, one here, Playwright's."""
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    for name in [os.environ[VARIABLE]] if VARIABLE in os.environ else [*NAMES, own]:
        if program := shutil.which(name):
            return program
    raise BrowserMissing(
        "no Chromium or Chrome was found. Install one (Debian, Ubuntu: apt install chromium; "
        "macOS: brew install --cask chromium; anywhere: .venv/bin/playwright install chromium) "
        f"or name its program in {VARIABLE} (now {os.environ.get(VARIABLE)!r})"
    )


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Open the browser of :func:`find` as long as the block lasts; it reaches only this machine."""
    program = find()
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS)) as browser,
    ):
        yield browser
