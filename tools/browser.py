"""Find a Chromium or Chrome on this machine and drive it.

Nothing is downloaded: Playwright, which the lock pins, drives the browser that is there. The
tests of the built book, Lighthouse and the screenshots all open their browser here. It cannot
reach any host but this machine, so a page that asks a third party for anything shows it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

VARIABLE = "HANDBOOK_BROWSER"
NAMES = ("chromium", "google-chrome-stable", "google-chrome", "chrome", "chromium-browser")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/snap/bin/chromium",
    "/opt/google/chrome/chrome",
    "/usr/lib/chromium/chromium",
)
# Names are answered by "not found" before a packet leaves; loopback is the book's own server.
ALONE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
ARGUMENTS = (
    "--no-sandbox",  # the sandbox needs rights that root and containers lack; the pages are ours
    "--disable-gpu",
    "--disable-dev-shm-usage",  # /dev/shm has 64 MB in a container
    "--disable-background-networking",
    "--disable-component-update",
    "--no-default-browser-check",
    "--no-first-run",
    ALONE,
)
MISSING = (
    "no Chromium or Chrome was found. Install one (Debian, Ubuntu: apt install chromium; macOS: "
    "brew install --cask chromium; anywhere: .venv/bin/playwright install chromium) or name its "
    f"program in {VARIABLE}"
)


class BrowserMissing(RuntimeError):
    """There is no browser; the message says how to get one."""

    def __init__(self) -> None:
        """Say what was looked for and what to install."""
        super().__init__(MISSING)


def version(program: Path | str) -> str:
    """Return what ``program --version`` says, or an empty string if it is no working browser.

    Ubuntu has a ``chromium-browser`` that only says which package to install: it fails here.
    """
    try:
        command = [str(program), "--version"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def candidates() -> Iterator[Path]:
    """Yield the programs that may be a browser: on the path, in usual places, Playwright's."""
    yield from (Path(found) for name in NAMES if (found := shutil.which(name)))
    yield from (path for name in PLACES if (path := Path(name)).is_file())
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    if own.is_file():
        yield own


def find() -> Path:
    """Return the program of a Chromium or Chrome that works.

    Raises:
        BrowserMissing: there is none.
        FileNotFoundError: ``HANDBOOK_BROWSER`` names something that is no browser.
    """
    if named := os.environ.get(VARIABLE):
        if not version(named):
            raise FileNotFoundError(f"{VARIABLE} is {named!r}, which is no browser that starts")
        return Path(named)
    for program in candidates():
        if version(program):
            return program
    raise BrowserMissing


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Open the browser of :func:`find` as long as the block lasts; it reaches only this machine."""
    program = find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(program), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
