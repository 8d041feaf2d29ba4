"""The pages of the built book as files: what each says in its head, shows, and points to."""

from __future__ import annotations

from functools import cache, cached_property

from bs4 import BeautifulSoup

from tools import published
from tools.serve import HTML

# A space, for text; quotes as on a typewriter.
ASCII = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "\N{NO-BREAK SPACE}": " "})


class Page:
    """One page; the parts that many tests ask for are gathered once."""

    def __init__(self, source: str) -> None:
        self.soup = BeautifulSoup(source, "html.parser")
        self.title = self.soup.title.get_text()

    @cached_property
    def text(self) -> str:
        """All text, without scripts and styles, as one line."""
        return plain(self.soup.get_text())

    @cached_property
    def ids(self) -> set[str]:
        named = self.soup.find_all(attrs={"name": True})
        return {each["id"] for each in self.soup.find_all(id=True)} | {n["name"] for n in named}

    @cached_property
    def addresses(self) -> list[str]:
        found = self.soup.select("[href], [src]")
        return [address for each in found if (address := each.get("href") or each.get("src"))]

    def links(self, kind: str = "") -> set[str]:
        """The addresses of links that a selector such as ``.left-prev`` picks."""
        return {each["href"] for each in self.soup.select(f"a{kind}[href], link{kind}[href]")}

    def meta(self, name: str) -> list[str]:
        """What the page's head says under a name."""
        found = self.soup.select(f'meta[name="{name}"], meta[property="{name}"]')
        return [each["content"] for each in found]


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
