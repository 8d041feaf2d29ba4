"""Read the glossary and the other entries of the index: what they define, and where they point."""

from __future__ import annotations

import re
from typing import NamedTuple

import yaml

from tools.cache import ROOT

GLOSSARY = ROOT / "book" / "glossary.md"
INDEX = ROOT / "book" / "index-entries.yml"
CHINESE = re.compile(r"[\u4e00-\u9fff]")
# The group of the index in which Chinese terms stand, as Sphinx's glossary wants it.
GROUP = " : 中文"


class Term(NamedTuple):
    """The English and the Chinese names of one thing, and what it is."""

    english: tuple[str, ...]
    chinese: tuple[str, ...]
    definition: str

    @property
    def places(self) -> list[tuple[str, str]]:
        """The sections that the definition links to: chapter and anchor."""
        return re.findall(r"\(\.\./notebooks/([\w-]+)\.ipynb#([^)\s]+)\)", self.definition)


def terms() -> list[Term]:
    """Return the entries of the glossary in the order of the page."""
    text = GLOSSARY.read_text(encoding="utf-8")
    found = []
    for block in re.findall(r"(?ms)^```\{glossary\}\n(.*?)^```$", text):
        for entry in re.split(r"\n\s*\n(?=\S)", block.strip("\n")):
            lines = entry.splitlines()
            names = [line for line in lines if not line.startswith("  ")]
            body = lines[len(names) :]
            chinese = tuple(n.removesuffix(GROUP) for n in names if CHINESE.search(n))
            english = tuple(n for n in names if not CHINESE.search(n))
            found.append(Term(english, chinese, " ".join(" ".join(body).split())))
    return found


def index_entries() -> dict[tuple[str, str], list[str]]:
    """Return the entries of the index by (chapter, anchor): terms, and those of :data:`INDEX`."""
    found: dict[tuple[str, str], list[str]] = {}
    for term in terms():
        for place in term.places:
            found.setdefault(place, []).extend([*term.english, *term.chinese])
    more = yaml.safe_load(INDEX.read_text(encoding="utf-8")) or {}
    for chapter, sections in more.items():
        for anchor, entries in sections.items():
            found.setdefault((chapter, anchor), []).extend(entries)
    return found
