"""A page of one piece of HTML and the book's own script for it, as a browser opens it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import gates
from playwright.sync_api import Browser, Page

from tools.cache import ROOT
from tools.serve import serve

STYLE = "interactive.css"
# Scripts from the page's own host only: no inline script, no inline handler. Figures bring styles.
POLICY = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:"


@contextlib.contextmanager
def opened(browser: Browser, folder: Path, body: str, script: str) -> Iterator[Page]:
    """Open a page in ``folder`` that holds ``body`` and loads ``script``.

    Afterwards, fail if a script failed or the page asked for anything against its policy.
    """
    for name in (script, STYLE):
        shutil.copy(ROOT / "book" / "_static" / name, folder)
    (folder / "index.html").write_text(
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>A page</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<link rel="icon" href="data:,"><link rel="stylesheet" href="{STYLE}">'
        f'<script defer src="{script}"></script></head><body><main>{body}</main></body></html>',
        encoding="utf-8",
    )
    with serve(folder) as address, gates.opened(browser, address) as (page, log):
        yield page
        assert log.console == []
