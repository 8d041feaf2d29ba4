"""Which papers the chapters and the helpers name by a link, and the entries of the bibliography."""

from __future__ import annotations

import re
from functools import cache

import nbformat
from pybtex.database import Entry, parse_file

from tools.cache import ROOT, notebooks

BIBLIOGRAPHY = ROOT / "book" / "references.bib"
LINKS = {
    "arxiv": r"https?://(?:www\.)?arxiv\.org/(?:abs|pdf|html)/(\d{4}\.\d{4,5})",
    "doi": r"https?://(?:dx\.)?doi\.org/(10\.\d{4,9}/[^\s)\"'>\]]+)",
    "acl": r"https?://(?:www\.)?aclanthology\.org/([A-Za-z0-9.-]+?)(?:\.pdf|/|\)|\s|$)",
}
KEYS = {"arxiv": "eprint", "doi": "doi"}  # where an entry names its paper


def papers_in(text: str) -> set[str]:
    """Return the papers that a text links to, such as ``arxiv:1706.03762``."""
    found = ((kind, re.finditer(pattern, text)) for kind, pattern in LINKS.items())
    return {f"{kind}:{match[1].rstrip('.,').lower()}" for kind, some in found for match in some}


def entries() -> dict[str, Entry]:
    """Return the entries of ``book/references.bib`` by their keys."""
    return parse_file(str(BIBLIOGRAPHY), bib_format="bibtex").entries


def identifiers(entry: Entry) -> set[str]:
    """Return the papers, in the sense of :func:`papers_in`, that an entry stands for."""
    fields = entry.fields
    named = {f"{kind}:{fields[key].lower()}" for kind, key in KEYS.items() if key in fields}
    return named | papers_in(fields.get("url", ""))


@cache
def places() -> dict[str, set[str]]:
    """Return for each chapter (its stem) and each helper (its path) the papers it links to."""
    found = {}
    for path in notebooks():
        cells = nbformat.read(path, nbformat.NO_CONVERT).cells
        prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        found[path.stem] = papers_in(prose)
    for path in sorted((ROOT / "helpers").rglob("*.py")):
        found[path.relative_to(ROOT).as_posix()] = papers_in(path.read_text(encoding="utf-8"))
    return {place: papers for place, papers in found.items() if papers}


def cited_in(entry: Entry) -> list[str]:
    """Return the chapters and helpers that link to the paper of ``entry``."""
    wanted = identifiers(entry)
    return [place for place, papers in places().items() if papers & wanted]
