"""Loads the scripts of the attention explorer and of the quizzes, on the pages that have one."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

# What a page has to hold for a script of book/_static to be of use there.
SCRIPTS = {
    "attention-explorer.js": re.compile(r'<div class="attention-explorer">'),
    "quiz.js": re.compile(r"<strong>[A-Z]\. Right\.</strong>"),
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the handler with Sphinx."""
    app.connect("html-page-context", _add_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def scripts_for(body: str) -> list[str]:
    """Return the scripts that a page with this HTML needs, by the names of their files."""
    return [name for name, sign in SCRIPTS.items() if sign.search(body)]


def _add_scripts(
    app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: Any
) -> None:
    for name in scripts_for(context.get("body", "")):
        app.add_js_file(name, loading_method="defer")


__all__ = ["scripts_for", "setup"]
