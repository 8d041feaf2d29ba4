"""The pages of the built book as files: what each says in its head, shows, and points to."""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser

from tools import published
from tools.serve import HTML

# A space, for text; quotes as on a typewriter.
ASCII = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "\N{NO-BREAK SPACE}": " "})
SILENT = ("script", "style")


class Page(HTMLParser):
    """One page. ``text`` leaves scripts and styles out; ``undescribed`` are images."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = source
        self.language = self.title = self.heading = self.text = self.facts = ""
        self.ids: set[str] = set()
        self.addresses: list[str] = []
        self.undescribed: list[str] = []
        self.meta: dict[str, list[str]] = {}
        self.relations: dict[str, list[str]] = {}
        self._inside: list[str] = []
        self._headings = 0
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.ids |= {given[key] for key in ("id", "name") if given.get(key)}
        self.addresses += [given[key] for key in ("href", "src") if given.get(key)]
        self._headings += tag == "h1"
        label = given.get("aria-label", "")
        if tag == "html":
            self.language = given.get("lang", "")
        elif tag == "meta":
            name = given.get("name") or given.get("property", "")
            self.meta.setdefault(name, []).append(given.get("content", ""))
        elif tag in ("a", "link"):
            for relation in given.get("rel", "").split() + given.get("class", "").split():
                self.relations.setdefault(relation, []).append(given.get("href", ""))
        elif tag == "img" and "alt" not in given:
            self.undescribed.append(f"<img src={given.get('src', '')[:60]}>")
        elif (tag, given.get("role")) == ("svg", "img") and len(label.split()) < 4:
            self.undescribed.append(f"<svg aria-label={label!r}>")
        if tag in ("title", "h1", *SILENT):
            is_data = given.get("type") == "application/ld+json"
            self._inside.append("facts" if is_data else tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("title", "h1", *SILENT) and self._inside:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        where = self._inside[-1] if self._inside else ""
        if where == "title":
            self.title += data
        elif where == "facts":
            self.facts += data
        elif where not in SILENT:
            self.text += data
            if where == "h1" and self._headings == 1:
                self.heading += data


@cache
def page(name: str) -> Page:
    """Return a page by its name in the book, such as ``notebooks/02-attention``."""
    path = HTML / f"{name}.html"
    assert path.is_file(), f"{path} is missing; `make book` builds it"
    return Page(path.read_text(encoding="utf-8"))


def pages() -> dict[str, Page]:
    """Return every page; the entrance, which only sends readers on, is none."""
    return {name: page(name) for name in published.pages()}


def plain(text: str) -> str:
    """Return text as one line, with typewriter quotes."""
    return " ".join(text.translate(ASCII).split())
