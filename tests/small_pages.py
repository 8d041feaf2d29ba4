"""A page of one piece of HTML and the book's own scripts, opened in a browser without a server."""

from __future__ import annotations

from pathlib import Path

from tools.cache import ROOT

STATIC = ROOT / "book" / "_static"
ADDRESS = "http://handbook.test/"
# Scripts from the page's own host only: no inline script, no inline handler. Figures bring styles.
POLICY = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:"
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html; charset=utf-8"}


def opened(browser, body: str, script: str, **context):
    """Open a page that holds ``body`` and loads ``script``; fail when anything else is loaded.

    Further keywords go to ``new_context``. The page's list ``problems`` gathers errors of
    scripts, and what the page's policy refused.
    """
    files = {
        "": f'<!DOCTYPE html><html lang="en"><head><title>A page</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<link rel="stylesheet" href="interactive.css"><script defer src="{script}"></script>'
        f"</head><body><main>{body}</main></body></html>"
    }
    page = browser.new_context(**context).new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: page.problems.append(message.text))

    def serve(route):
        name = route.request.url.removeprefix(ADDRESS)
        if name == "favicon.ico":
            route.fulfill(status=204)
        elif name in files:
            route.fulfill(body=files[name], content_type=TYPES[".html"])
        elif name in (script, "interactive.css"):
            kind = TYPES[Path(name).suffix]
            route.fulfill(body=(STATIC / name).read_text(encoding="utf-8"), content_type=kind)
        else:
            page.problems.append(f"asked for {route.request.url}")
            route.abort()

    page.route("**/*", serve)
    page.goto(ADDRESS)
    return page
