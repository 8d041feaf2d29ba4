"""Glossary, bibliography and index: what Sphinx lacks to make them useful for notebooks.

- The Chinese terms of the glossary say what language they are in.
- The bibliography says in which chapters each paper is cited. Chapters hold plain links.
- Notebooks cannot hold index entries, so sections get them from the glossary's links and from
  ``book/index-entries.yml``; ``{subject-index}`` makes the page.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.richtext import HRef, Text
from pybtex.style.formatting.unsrt import Style as UnsortedStyle
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment.adapters.indexentries import IndexEntries
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools import glossary, papers  # noqa: E402

EXERCISE = r"^\d+[.] "  # the number before an exercise's heading

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register directive, transforms and style with Sphinx and pybtex."""
    app.add_directive("subject-index", SubjectIndex)
    app.add_node(index_placeholder)
    app.add_transform(IndexSections)
    app.add_transform(TagChinese)
    app.connect("doctree-resolved", _fill_index)
    register_plugin("pybtex.style.formatting", "handbook", HandbookStyle)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


# --- glossary -----------------------------------------------------------------------


class TagChinese(SphinxTransform):
    """Mark Chinese terms as Chinese, for screen readers, fonts and hyphenation."""

    default_priority = 840

    def apply(self, **_: Any) -> None:
        """Add the class that becomes ``lang="zh-Hans"`` in HTML."""
        for term in self.document.findall(nodes.term):
            if glossary.CHINESE.search(term.astext()):
                term["classes"].append("language-zh-hans")


# --- bibliography -------------------------------------------------------------------


class HandbookStyle(UnsortedStyle):
    """Entries sorted by author, each followed by the chapters that cite it."""

    default_sorting_style = "author_year_title"
    default_label_style = "alpha"

    def format_entry(self, label: str, entry: Entry, bib_data: Any = None) -> Any:
        """Format an entry and append where it is cited."""
        formatted = super().format_entry(label, entry, bib_data)
        places = papers.cited_in(entry)
        if places:
            links = dict.fromkeys(_address_and_label(place) for place in places)
            named = Text(", ").join(HRef(address, label) for address, label in links)
            formatted.text += Text(" Cited in ", named, ".")
        return formatted


def _address_and_label(place: str) -> tuple[str, str]:
    """Return the address, as seen from the folder ``book``, of a chapter or a helper's room."""
    if place.startswith("helpers/"):
        room = place.split("/")[1].removesuffix(".py")
        return f"api/{room}.html", f"helpers.{room}"
    return f"../notebooks/{place}.html", f"chapter {place[:2]}"


# --- index --------------------------------------------------------------------------


class IndexSections(SphinxTransform):
    """Put the index entries of a notebook's sections into its tree."""

    default_priority = 840  # before the index domain collects entries, at 850

    def apply(self, **_: Any) -> None:
        """Add the entries; warn of an anchor that no section has."""
        docname = self.env.docname
        chapter = docname.removeprefix("notebooks/")
        wanted = {
            anchor: entries
            for (name, anchor), entries in glossary.index_entries().items()
            if name == chapter and docname.startswith("notebooks/")
        }
        for section in self.document.findall(nodes.section):
            entries = wanted.pop(section.get("slug", ""), None)
            if entries:
                target = section["ids"][0]
                marks = [
                    ("single", entry, target, "", _group(entry)) for entry in dict.fromkeys(entries)
                ]
                section.insert(1, addnodes.index(entries=marks))
        for anchor in wanted:
            logger.warning(
                "the index names a section %r that is not there", anchor, location=docname
            )


def _group(entry: str) -> str | None:
    return glossary.GROUP.removeprefix(" : ") if glossary.CHINESE.search(entry) else None


class index_placeholder(nodes.General, nodes.Element):
    """Where the index will stand once all pages have been read."""


class SubjectIndex(SphinxDirective):
    """All index entries of the book, with the names of the places they lead to."""

    def run(self) -> list[nodes.Node]:
        """Return a placeholder."""
        return [index_placeholder()]


def _fill_index(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for placeholder in list(doctree.findall(index_placeholder)):
        groups = IndexEntries(app.env).create_index(app.builder)
        sections = []
        for number, (letter, entries) in enumerate(groups):
            section = nodes.section(ids=[f"index-{number}"], classes=["handbook-index"])
            section += nodes.title("", letter)
            items = nodes.bullet_list()
            for entry, (targets, subentries, _key) in entries:
                items += _item(app, docname, entry, targets, subentries)
            section += items
            sections.append(section)
        placeholder.replace_self(sections)


def _item(
    app: Sphinx, docname: str, entry: str, targets: list[Any], subentries: list[Any]
) -> nodes.list_item:
    classes = ["language-zh-hans"] if glossary.CHINESE.search(entry) else []
    paragraph = nodes.paragraph("", "", nodes.inline("", entry, classes=classes))
    seen: dict[str, str] = {}
    for _main, uri in targets:
        seen.setdefault(uri, _place(app, uri))
    for position, (uri, label) in enumerate(seen.items()):
        paragraph += nodes.Text(" \N{EN DASH} " if position == 0 else "; ")
        back = "../" * docname.count("/")
        paragraph += nodes.reference("", label, refuri=back + uri, internal=True)
    item = nodes.list_item("", paragraph)
    if subentries:
        item += nodes.bullet_list(
            "", *(_item(app, docname, name, places, []) for name, places in subentries)
        )
    return item


def _place(app: Sphinx, uri: str) -> str:
    """Return what to call the target of an entry: a chapter's section, the glossary, a module."""
    page, _, anchor = uri.partition("#")
    docname = page.removesuffix(app.builder.out_suffix)
    if docname.startswith("notebooks/"):
        number = docname.removeprefix("notebooks/")[:2]
        for _line, target, heading in app.env.metadata[docname].get("myst_slugs", {}).values():
            if target == anchor:
                return f"{number} {re.sub(EXERCISE, '', heading)}"
        return f"{number} {app.env.titles[docname].astext()}"
    return app.env.titles[docname].astext()
