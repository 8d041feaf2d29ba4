"""Which papers the chapters and the helpers name by a link, and the entries of the bibliography.

A paper is known by how one links to it: ``arxiv:1706.03762``, ``doi:10.1162/…`` or
``acl:P11-1015``. So a chapter needs nothing but a plain link, which works in Colab too.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import nbformat
from pybtex.database import BibliographyData, Entry, parse_file

from tools.cache import ROOT, notebooks

BIBLIOGRAPHY = ROOT / "book" / "references.bib"
LINKS = {
    "arxiv": r"https?://(?:www\.)?arxiv\.org/(?:abs|pdf|html)/(\d{4}\.\d{4,5})",
    "doi": r"https?://(?:dx\.)?doi\.org/(10\.\d{4,9}/[^\s)\"'>\]]+)",
    "acl": r"https?://(?:www\.)?aclanthology\.org/([A-Za-z0-9.-]+?)(?:\.pdf|/|\)|\s|$)",
}


def papers_in(text: str) -> set[str]:
    """Return the papers that a text links to, such as ``arxiv:1706.03762``."""
    found = ((kind, re.finditer(pattern, text)) for kind, pattern in LINKS.items())
    return {f"{kind}:{match[1].rstrip('.,').lower()}" for kind, some in found for match in some}


def entries() -> BibliographyData:
    """Return the entries of ``book/references.bib``."""
    return _parsed(BIBLIOGRAPHY.stat().st_mtime_ns)


@cache
def _parsed(_changed: int) -> BibliographyData:
    return parse_file(str(BIBLIOGRAPHY), bib_format="bibtex")


def identifiers(entry: Entry) -> set[str]:
    """Return the papers, in the sense of :func:`papers_in`, that an entry stands for."""
    fields = entry.fields
    found = papers_in(fields.get("url", ""))
    if "eprint" in fields:
        found.add(f"arxiv:{fields['eprint'].lower()}")
    if "doi" in fields:
        found.add(f"doi:{fields['doi'].lower()}")
    return found


def places() -> dict[str, set[str]]:
    """Return for each chapter (its stem) and each helper (its path) the papers it links to."""
    found = {path.stem: papers_in(_prose(path)) for path in notebooks()}
    for path in sorted((ROOT / "helpers").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        found[name] = papers_in(path.read_text(encoding="utf-8"))
    return {place: papers for place, papers in found.items() if papers}


@cache
def _prose(path: Path) -> str:
    content = nbformat.read(path, nbformat.NO_CONVERT)
    return "\n\n".join(cell.source for cell in content.cells if cell.cell_type == "markdown")


def cited_in(key: str) -> list[str]:
    """Return the chapters and helpers that link to the paper of the entry ``key``."""
    wanted = identifiers(entries().entries[key])
    return [place for place, papers in places().items() if papers & wanted]


def missing() -> list[str]:
    """Return a line for each link to a paper that has no entry."""
    known = set().union(*(identifiers(entry) for entry in entries().entries.values()))
    return [
        f"{place} links to {paper}, which has no entry in {BIBLIOGRAPHY.name}"
        for place, papers in places().items()
        for paper in sorted(papers - known)
    ]
