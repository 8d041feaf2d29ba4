"""The built book: every page is there, says what it must, and every link in it leads somewhere."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

from tools import published
from tools.cache import BUILD, CHECKS, ROOT

pytestmark = pytest.mark.built

HTML = BUILD / "html"
LISTED = published.reading_order()
CHAPTERS = [name.removeprefix("notebooks/") for name in LISTED if name.startswith("notebooks/")]
ASCII = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "\N{NO-BREAK SPACE}": " "})

every_page = pytest.mark.parametrize("name", LISTED)
every_chapter = pytest.mark.parametrize("name", CHAPTERS)


@dataclass
class Page:
    """What the tests ask about one page."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    undescribed: list[str] = field(default_factory=list)
    title: str = ""
    heading: str = ""
    text: str = ""
    images: int = 0


class Reader(HTMLParser):
    """Collect what :class:`Page` holds; text of scripts and styles is left out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self.inside: list[str] = []
        self.headings = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        page = self.page
        page.ids |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag in ("a", "link", "area") and given.get("href"):
            page.links.append(given["href"])
        if tag in ("img", "script", "source", "iframe") and given.get("src"):
            page.links.append(given["src"])
        if tag == "img":
            page.images += 1
            if "alt" not in given:
                page.undescribed.append(f"<img src={str(given.get('src'))[:60]}>")
        if tag == "svg" and given.get("role") == "img":
            page.images += 1
            if len((given.get("aria-label") or "").split()) < 4:
                page.undescribed.append(f"<svg aria-label={given.get('aria-label')!r}>")
        self.headings += tag == "h1"
        if tag in ("title", "h1", "script", "style"):
            self.inside.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        where = self.inside[-1] if self.inside else ""
        if where == "title":
            self.page.title += data
        elif where not in ("script", "style"):
            self.page.text += data
            if where == "h1" and self.headings == 1:
                self.page.heading += data


@cache
def read(path: Path) -> Page:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    return reader.page


def page(name: str) -> Page:
    path = HTML / f"{name}.html"
    assert path.is_file(), f"{path} is missing; `make book` builds it"
    return read(path)


def plain(text: str) -> str:
    """Text as one line, with typewriter quotes."""
    return " ".join(text.translate(ASCII).split())


def records(name: str) -> dict:
    path = CHECKS / f"{name}.json"
    assert path.is_file(), f"{path} is missing; `make book` writes it"
    return json.loads(path.read_text(encoding="utf-8"))


@every_page
def test_the_page_is_there_under_its_title(name):
    heading = plain(page(name).heading).rstrip("#").strip()
    if (path := ROOT / f"{name}.md").is_file():
        (expected,) = re.findall(r"(?m)^# (.+)$", path.read_text(encoding="utf-8"))
    else:
        cells = nbformat.read(ROOT / f"{name}.ipynb", nbformat.NO_CONVERT).cells
        expected = cells[0].source.splitlines()[0].removeprefix("# ")
    expected = plain(re.sub(r"[*_`$\\]", "", expected))
    assert heading == expected
    assert expected in plain(page(name).title)


@every_page
def test_nothing_failed_on_the_page(name):
    text = page(name).text
    for sign in ("Traceback", "CheckFailed:", "System Message", "problematic"):
        assert sign not in text


@every_page
def test_every_image_is_described(name):
    assert page(name).undescribed == []


@every_page
def test_every_link_inside_the_book_leads_somewhere(name):
    here = HTML / f"{name}.html"
    lost = []
    for link in page(name).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (here.parent / unquote(parts.path)).resolve() if parts.path else here
        if target.is_dir():
            target /= "index.html"
        if not target.is_file() or not target.is_relative_to(HTML.resolve()):
            lost.append(link)
        elif target.suffix == ".html" and parts.fragment:
            known = read(target).ids | {""}
            lost += [link] if unquote(parts.fragment) not in known else []
    assert lost == []


@every_chapter
def test_the_chapter_shows_its_outputs(name):
    """Every check printed its line, so the outputs are those of the run that made the records."""
    text = plain(page(f"notebooks/{name}").text)
    missing = [c["name"] for c in records(name)["checks"] if plain(c["shown"]) not in text]
    assert missing == []


@every_chapter
def test_a_figure_follows_the_theme(name):
    source = (HTML / f"notebooks/{name}.html").read_text(encoding="utf-8")
    for figure in re.findall(r'<figure class="handbook-figure".*?</figure>', source, re.DOTALL):
        assert "currentColor" in figure
        assert not re.search(r"#(000000|ffffff)\b", figure)


@every_chapter
def test_the_set_up_for_colab_is_not_shown(name):
    assert "google.colab" not in page(f"notebooks/{name}").text


@every_chapter
def test_solutions_are_there_and_folded(name):
    source = (HTML / f"notebooks/{name}.html").read_text(encoding="utf-8")
    cells = nbformat.read(ROOT / f"notebooks/{name}.ipynb", nbformat.NO_CONVERT).cells
    hidden = sum("hide-cell" in cell.metadata.get("tags", []) for cell in cells)
    assert hidden >= 3
    assert len(re.findall(r'class="[^"]*\btag_hide-cell\b', source)) == hidden
    assert "Solution to exercise 1" in plain(page(f"notebooks/{name}").text)


@every_chapter
def test_the_ledger_shows_every_check(name):
    text = plain(page("book/ledger").text)
    checks = records(name)["checks"]
    assert checks
    missing = [check["name"] for check in checks if plain(check["name"]) not in text]
    assert missing == []


def test_the_ledger_counts_the_checks():
    total = sum(len(records(name)["checks"]) for name in CHAPTERS)
    assert f"{total} checks held" in plain(page("book/ledger").text)


@every_chapter
def test_the_times_page_lists_the_chapter(name):
    seconds = records(name)["execution_seconds"]
    cells = nbformat.read(ROOT / f"notebooks/{name}.ipynb", nbformat.NO_CONVERT).cells
    title = plain(re.sub(r"[*_`]", "", cells[0].source.splitlines()[0].removeprefix("# ")))
    assert f"{name[:2]} {title} {seconds:.0f} " in plain(page("book/times").text)


def test_the_entrance_leads_to_the_book():
    assert (HTML / "index.html").is_file()
    assert "intro.html" in (HTML / "index.html").read_text(encoding="utf-8")
