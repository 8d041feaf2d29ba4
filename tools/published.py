"""The pages of the built book, so that a new chapter is found without anybody naming it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from helpers import sealed
from tools.cache import BUILD, ROOT
from tools.serve import HTML

REPORTS = BUILD / "reports"
LEDGER = "book/ledger"
REDIRECT = re.compile(r'<meta[^>]+http-equiv="?refresh', re.IGNORECASE)


def pages(folder: Path = HTML) -> list[str]:
    """Return every page of the book as ``folder/name``; templates and redirects are no pages."""
    files = (path for path in folder.rglob("*.html") if "_static" not in path.parts)
    found = (path for path in files if not REDIRECT.search(path.read_text(encoding="utf-8")))
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in found)


def reading_order() -> list[str]:
    """Return the pages of the table of contents, the cover first."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(page["file"] for part in toc["parts"] for page in part["chapters"])]


def chapters() -> list[str]:
    """Return the pages of the table of contents that were notebooks."""
    return [name for name in reading_order() if name.startswith("notebooks/")]


def write_report(path: Path, content: Any) -> Path:
    """Write ``content`` as JSON in one step, and return ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sealed.write(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
    return path
