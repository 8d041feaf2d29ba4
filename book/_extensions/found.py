"""How the book is found: descriptions, cards, structured data, site map, feed, and page 404.

Two libraries do most of it: ``sphinxext-opengraph`` writes the tags that chats and networks
read and draws a card for each page; ``sphinx-notfound-page`` builds ``404.html`` with absolute
addresses, because it is shown under any path. This module sets them up from the book's one
address (``html.baseurl``) and adds what they leave out.
"""

from __future__ import annotations

import json
import re
from datetime import date
from html import escape, unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

CHANGES = "book/changes"
FEED = "feed.xml"
DESCRIPTION_LENGTH = 160  # characters; search engines cut what is longer
# Pages made by Sphinx and not written by anybody: no search engine should list them.
MADE = ("search", "genindex", "py-modindex", "404")
ATOM = "http://www.w3.org/2005/Atom"
SITEMAP = "http://www.sitemaps.org/schemas/sitemap/0.9"
COLOURS = (("light", "#ffffff"), ("dark", "#14181e"))  # the theme's own backgrounds


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the handlers with Sphinx, and the two libraries."""
    # Before the libraries' own handlers, which read these settings.
    app.connect("config-inited", _settings, priority=100)
    app.setup_extension("sphinxext.opengraph")
    app.setup_extension("notfound.extension")
    app.setup_extension("sphinx.ext.githubpages")  # .nojekyll: folders may begin with _
    # After sphinxext-opengraph, so that its description is known.
    app.connect("html-page-context", _head, priority=900)
    app.connect("build-finished", _write_files)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _settings(_app: Sphinx, config: Any) -> None:
    address = config.html_baseurl
    config.ogp_site_url = address
    config.ogp_site_name = config.html_title
    config.ogp_description_length = DESCRIPTION_LENGTH
    config.ogp_social_cards = {
        "site_url": urlsplit(address).netloc,
        "image_mini": "book/_static/mark.png",
        "line_color": "#2f7ec2",
    }
    config.notfound_urls_prefix = urlsplit(address).path
    home, search = (escape(urljoin(address, page)) for page in ("book/intro.html", "search.html"))
    config.notfound_context = {
        "title": "This page is not here",
        "body": "<h1>This page is not here</h1>"
        "<p>The address may be mistyped, or the page has moved. Nothing is lost:</p>"
        f'<ul><li><a href="{home}">The cover</a> lists all chapters.</li>'
        f'<li><a href="{search}">The search</a> knows every word of the book.</li></ul>',
    }


# --- what stands in the head of each page -------------------------------------------


def _head(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    tags = [
        f'<meta name="theme-color" media="(prefers-color-scheme: {mode})" content="{colour}"/>'
        for mode, colour in COLOURS
    ]
    feed = urljoin(app.config.html_baseurl, FEED)
    tags.append(
        f'<link rel="alternate" type="application/atom+xml" title="Changes" href="{escape(feed)}"/>'
    )
    if page in MADE:
        tags.append('<meta name="robots" content="noindex"/>')
    written = context.get("metatags", "")
    if 'name="description"' not in written:
        title = re.sub("<[^>]+>", "", str(context.get("title", page)))
        text = f"{title}: {app.config.html_title}"[:DESCRIPTION_LENGTH]
        tags.append(f'<meta name="description" content="{escape(text, quote=True)}"/>')
    if doctree is not None:
        tags.append(_structured(app, page, context, written))
    context["metatags"] = written + "\n".join(tags) + "\n"


def _structured(app: Sphinx, page: str, context: dict[str, Any], tags: str) -> str:
    """Return the page's JSON-LD, in the words of schema.org."""
    described = re.search(r'<meta (?=[^>]*name="description")[^>]*content="([^"]*)"', tags)
    chapter = page.startswith("notebooks/")
    facts = {
        "@context": "https://schema.org",
        "@type": "LearningResource" if chapter else "WebPage",
        "name": re.sub("<[^>]+>", "", str(context.get("title", ""))),
        "description": unescape(described[1]) if described else "",
        "url": context.get("pageurl") or "",
        "inLanguage": app.config.language,
        "isAccessibleForFree": True,
        "license": "https://creativecommons.org/licenses/by/4.0/",
        "isPartOf": {
            "@type": "Book",
            "name": app.config.html_title,
            "url": app.config.html_baseurl,
        },
    }
    # "</" would end the script element, wherever it stands.
    text = json.dumps(facts, ensure_ascii=False).replace("</", "<\\/")
    return f'<script type="application/ld+json">{text}</script>'


# --- files beside the pages ---------------------------------------------------------


def _write_files(app: Sphinx, problem: Exception | None) -> None:
    if problem is not None or app.builder.format != "html":
        return
    folder, address = Path(app.outdir), app.config.html_baseurl
    pages = sorted(app.env.found_docs)
    addresses = [urljoin(address, app.builder.get_target_uri(page)) for page in pages]
    _write(folder / "sitemap.xml", sitemap(addresses))
    _write(folder / "robots.txt", f"User-agent: *\nSitemap: {urljoin(address, 'sitemap.xml')}\n")
    if CHANGES in app.env.found_docs:
        entries = changes(app.env.get_doctree(CHANGES))
        at = urljoin(address, app.builder.get_target_uri(CHANGES))
        _write(folder / FEED, feed(entries, app.config.html_title, app.config.author, at, address))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def sitemap(addresses: list[str]) -> str:
    """Return a site map that lists these addresses (sitemaps.org, version 0.9)."""
    ElementTree.register_namespace("", SITEMAP)
    root = ElementTree.Element(f"{{{SITEMAP}}}urlset")
    for address in addresses:
        page = ElementTree.SubElement(root, f"{{{SITEMAP}}}url")
        ElementTree.SubElement(page, f"{{{SITEMAP}}}loc").text = address
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def changes(page: nodes.document) -> list[dict[str, str]]:
    """Read the entries of the page of changes: sections titled ``YYYY-MM-DD: what changed``.

    Returns:
        For each entry, newest first: ``day``, ``title``, ``anchor`` and ``text``.

    Raises:
        ValueError: a section's title has another form, its day is no date, or days are not in
            order.
    """
    entries = []
    for section in page.findall(nodes.section):
        if not isinstance(section.parent, nodes.section):
            continue  # the page itself
        title = section.next_node(nodes.title).astext()
        match = re.fullmatch(r"(\d{4}-\d{2}-\d{2}): (.+)", title)
        if match is None:
            raise ValueError(f"a change must be titled 'YYYY-MM-DD: what changed', got {title!r}")
        date.fromisoformat(match[1])
        paragraphs = [part.astext() for part in section.findall(nodes.paragraph)]
        text = "\n".join(" ".join(part.split()) for part in paragraphs)
        entries.append(
            {"day": match[1], "title": match[2], "anchor": section["ids"][0], "text": text}
        )
    days = [entry["day"] for entry in entries]
    if days != sorted(days, reverse=True):
        raise ValueError(f"changes must stand newest first, got {days}")
    return entries


def feed(entries: list[dict[str, str]], title: str, author: str, page: str, address: str) -> str:
    """Return the changes as an Atom feed (RFC 4287).

    Args:
        entries: as :func:`changes` returns them; at least one.
        title: of the feed.
        author: of every entry.
        page: address of the page of changes.
        address: address of the book.
    """
    if not entries:
        raise ValueError("a feed needs at least one change")
    ElementTree.register_namespace("", ATOM)
    root = ElementTree.Element(f"{{{ATOM}}}feed")

    def add(parent: ElementTree.Element, tag: str, text: str = "", **attributes: str) -> Any:
        child = ElementTree.SubElement(parent, f"{{{ATOM}}}{tag}", attributes)
        child.text = text or None
        return child

    add(root, "title", title)
    add(root, "id", address)
    add(root, "updated", f"{entries[0]['day']}T00:00:00Z")
    add(root, "link", rel="self", href=urljoin(address, FEED))
    add(root, "link", href=page)
    add(add(root, "author"), "name", author)
    for one in entries:
        entry = add(root, "entry")
        add(entry, "title", one["title"])
        add(entry, "id", f"{page}#{one['anchor']}")
        add(entry, "link", href=f"{page}#{one['anchor']}")
        add(entry, "updated", f"{one['day']}T00:00:00Z")
        add(entry, "summary", one["text"])
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
