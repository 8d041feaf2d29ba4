"""How the book is found: what search engines, chats, feed readers and lost readers get.

The first half needs no book: the functions behind site map, feed and link check. The second
half, marked ``built``, looks at every page of the built book; it finds the pages by itself.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, unquote, urljoin, urlsplit
from xml.etree import ElementTree

import pytest
import yaml
from docutils.core import publish_doctree

from tools import links, repository
from tools.cache import BUILD, ROOT

sys.path.insert(0, str(ROOT / "book" / "_extensions"))

import found

HTML = BUILD / "html"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
BASE = CONFIG["html"]["baseurl"]
BRANCH = CONFIG["repository"]["branch"]
built = pytest.mark.built


# --- without the book ---------------------------------------------------------------


def changes_page(*titles: str):
    """A page of changes with these section titles, as docutils reads it."""
    sections = "".join(f"{title}\n{'-' * 60}\n\nA line.\n\n" for title in titles)
    return publish_doctree(
        f"Changes\n=======\n\nAll of them.\n\n{sections}", settings_overrides={"doctitle_xform": 0}
    )


def test_changes_are_read_newest_first() -> None:
    entries = found.changes(changes_page("2026-11-24: Two & more", "2026-11-23: One"))
    assert [entry["day"] for entry in entries] == ["2026-11-24", "2026-11-23"]
    assert [entry["title"] for entry in entries] == ["Two & more", "One"]
    assert [entry["text"] for entry in entries] == ["A line.", "A line."]


@pytest.mark.parametrize(
    ("titles", "said"),
    [
        (["Something new"], "YYYY-MM-DD"),
        (["2026-13-01: No such month"], "month"),
        (["2026-11-23: One", "2026-11-24: Two"], "newest first"),
    ],
)
def test_a_change_that_is_not_dated_is_refused(titles, said) -> None:
    with pytest.raises(ValueError, match=said):
        found.changes(changes_page(*titles))


def test_the_feed_is_atom() -> None:
    entries = found.changes(changes_page("2026-11-24: Two <b> & more", "2026-11-23: One"))
    text = found.feed(entries, "Book", "Us", "https://x.example/c.html", "https://x.example/")
    root = ElementTree.fromstring(text)
    atom = {"a": found.ATOM}
    assert root.tag == f"{{{found.ATOM}}}feed"
    for needed in ("a:id", "a:title", "a:updated", "a:author/a:name"):
        assert root.find(needed, atom).text
    titles = [entry.find("a:title", atom).text for entry in root.findall("a:entry", atom)]
    assert titles == ["Two <b> & more", "One"]
    names = [entry.find("a:id", atom).text for entry in root.findall("a:entry", atom)]
    assert len(set(names)) == 2
    with pytest.raises(ValueError, match="at least one"):
        found.feed([], "Book", "Us", "https://x.example/c.html", "https://x.example/")


def answer(uri: str, status: str, info: str = "") -> dict[str, str]:
    return {"filename": "book/a.md", "uri": uri, "status": status, "info": info}


def test_broken_addresses_are_named() -> None:
    answers = [
        answer("https://a.example/", "working"),
        answer("https://b.example/", "broken", "404 Client Error"),
        answer("https://c.example/", "timeout", "no answer in 20 s"),
        answer("../local.md", "local"),
    ]
    found_problems = links.problems(answers)
    assert [line.split(": ")[1] for line in found_problems] == [
        "https://b.example/", "https://c.example/",
    ]  # fmt: skip


def test_no_network_is_not_taken_for_broken_links() -> None:
    info = "Failed to resolve 'a.example' ([Errno -3] Temporary failure in name resolution)"
    with pytest.raises(ConnectionError, match="no network"):
        links.problems([answer("https://a.example/", "broken", info)])


# --- every page of the built book ---------------------------------------------------


class Head(HTMLParser):
    """What the head of a page says, and every address on the page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.meta: dict[str, list[str]] = {}
        self.relations: dict[str, list[str]] = {}
        self.addresses: list[str] = []
        self.title, self.data, self.inside, self.language = "", "", "", ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        if tag == "html":
            self.language = given.get("lang", "")
        if tag == "meta" and (name := given.get("name") or given.get("property")):
            self.meta.setdefault(name, []).append(given.get("content", ""))
        if tag == "link":
            self.relations.setdefault(given.get("rel", ""), []).append(given.get("href", ""))
        self.addresses += [given[key] for key in ("href", "src") if given.get(key)]
        if tag == "title" and not self.title:
            self.inside = "title"
        if tag == "script" and given.get("type") == "application/ld+json":
            self.inside = "data"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("title", "script"):
            self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "title":
            self.title += data
        elif self.inside == "data":
            self.data += data


@cache
def pages() -> dict[str, Head]:
    """Every page of the built book by its path; the entrance only sends readers on."""
    assert HTML.is_dir(), f"{HTML} is missing; `make book` builds it"
    found_pages = {}
    for path in sorted(HTML.rglob("*.html")):
        name = path.relative_to(HTML).as_posix()
        if not name.startswith("_static/") and name != "index.html":
            found_pages[name] = head = Head()
            head.feed(path.read_text(encoding="utf-8"))
    assert len(found_pages) > 10
    return found_pages


def written() -> dict[str, Head]:
    """The pages that somebody wrote."""
    made = {f"{name}.html" for name in found.MADE}
    return {name: page for name, page in pages().items() if name not in made}


@built
def test_every_page_has_a_title_of_its_own() -> None:
    titles = [page.title.strip() for page in written().values()]
    assert all(titles)
    assert len(set(titles)) == len(titles), sorted(titles)


@built
def test_every_page_says_what_it_is_about() -> None:
    for name, page in pages().items():
        (description,) = page.meta["description"]
        assert 20 <= len(description) <= found.DESCRIPTION_LENGTH + 10, (name, description)
        assert page.language == CONFIG["sphinx"]["config"]["language"], name
        assert len(page.meta["theme-color"]) == 2, name
    descriptions = [page.meta["description"][0] for page in written().values()]
    assert len(set(descriptions)) == len(descriptions)


@built
def test_every_page_names_its_own_address() -> None:
    for name, page in written().items():
        assert page.relations["canonical"] == [urljoin(BASE, name)], name
        assert page.meta["og:url"] == [urljoin(BASE, name)], name


@built
def test_every_page_has_a_card() -> None:
    for name, page in written().items():
        assert page.meta["twitter:card"] == ["summary_large_image"], name
        for needed in ("og:title", "og:description", "og:site_name", "og:image:alt"):
            assert page.meta[needed][0].strip(), (name, needed)
        # The font of the cards has no Chinese letters; they would be drawn as boxes.
        drawn = page.meta["og:title"][0] + page.meta["og:description"][0]
        assert not re.search(r"[\u2e80-\u9fff]", drawn), (name, drawn)
        (address,) = page.meta["og:image"]
        assert address.startswith(BASE), name
        card = (HTML / unquote(address.removeprefix(BASE))).read_bytes()
        assert card[:8] == b"\x89PNG\r\n\x1a\n", name
        assert struct.unpack(">II", card[16:24]) == (1146, 600), name
        assert len(card) <= 100_000, (name, len(card))


@built
def test_every_page_describes_itself_to_machines() -> None:
    for name, page in written().items():
        facts = json.loads(page.data)
        assert facts["url"] == urljoin(BASE, name)
        assert facts["name"] in page.title
        assert facts["description"] == page.meta["description"][0]
        wanted = "LearningResource" if name.startswith("notebooks/") else "WebPage"
        assert facts["@type"] == wanted, name


@built
def test_the_site_map_lists_what_was_written_and_nothing_else() -> None:
    root = ElementTree.fromstring((HTML / "sitemap.xml").read_text(encoding="utf-8"))
    listed = [place.text for place in root.iter(f"{{{found.SITEMAP}}}loc")]
    assert sorted(listed) == sorted(urljoin(BASE, name) for name in written())
    robots = (HTML / "robots.txt").read_text(encoding="utf-8")
    assert f"Sitemap: {BASE}sitemap.xml" in robots
    for name, page in pages().items():
        assert (page.meta.get("robots") == ["noindex"]) == (name not in written()), name


@built
def test_every_page_leads_to_the_feed_and_the_feed_to_the_changes() -> None:
    for name, page in pages().items():
        assert f"{BASE}{found.FEED}" in page.relations["alternate"], name
    root = ElementTree.fromstring((HTML / found.FEED).read_text(encoding="utf-8"))
    source = (ROOT / f"{found.CHANGES}.md").read_text(encoding="utf-8")
    titles = [title.text for title in root.iterfind(f"{{{found.ATOM}}}entry/{{{found.ATOM}}}title")]
    assert titles == re.findall(r"(?m)^## \d{4}-\d\d-\d\d: (.+)$", source)
    text = (HTML / f"{found.CHANGES}.html").read_text(encoding="utf-8")
    for entry in root.iterfind(f"{{{found.ATOM}}}entry/{{{found.ATOM}}}id"):
        assert f'id="{urlsplit(entry.text).fragment}"' in text


@built
def test_a_lost_reader_finds_the_way_from_any_depth() -> None:
    """404.html is shown under any path, so no address on it may depend on the path."""
    page = pages()["404.html"]
    base = urlsplit(BASE).path
    for address in page.addresses:
        parts = urlsplit(address)
        if not parts.scheme and not address.startswith("#"):
            assert address.startswith(base), address
            assert (HTML / unquote(parts.path.removeprefix(base))).exists(), address
    ways = {urljoin(BASE, address) for address in page.addresses}
    assert {urljoin(BASE, "book/intro.html"), urljoin(BASE, "search.html")} <= ways
    assert (HTML / ".nojekyll").is_file()


@built
def test_launch_buttons_point_at_files_of_the_repository() -> None:
    slug = repository.wanted().slug
    for name, page in pages().items():
        stem = name.removesuffix(".html")
        is_chapter = name.startswith("notebooks/")
        colab = [a for a in page.addresses if urlsplit(a).netloc == "colab.research.google.com"]
        binder = [a for a in page.addresses if urlsplit(a).netloc == "mybinder.org"]
        assert (bool(colab), bool(binder)) == (is_chapter, is_chapter), name
        wanted = f"/github/{slug}/blob/{BRANCH}/{stem}.ipynb"
        assert {urlsplit(address).path for address in colab} <= {wanted}, name
        for address in binder:
            assert urlsplit(address).path == f"/v2/gh/{slug}/{BRANCH}", name
            assert f"{stem}.ipynb" in unquote(parse_qs(urlsplit(address).query)["urlpath"][0])
        if is_chapter:
            assert (ROOT / f"{stem}.ipynb").is_file()
            source = [a for a in page.addresses if a.endswith(f"_sources/{stem}.ipynb")]
            assert source, f"{name} offers no notebook to download"
            assert (HTML / f"_sources/{stem}.ipynb").read_bytes() == (
                ROOT / f"{stem}.ipynb"
            ).read_bytes()


@built
def test_every_page_leads_to_the_repository() -> None:
    """The source, and a place to ask; and where a file is named, it exists on the right branch."""
    here = repository.wanted().repository
    for name, page in pages().items():
        assert here in page.addresses, name
        assert any(address.startswith(f"{here}/issues/new") for address in page.addresses), name
        for address in page.addresses:
            match = re.match(re.escape(here) + r"/(?:blob|edit|tree)/([^/]+)/([^?#]+)", address)
            if match:
                assert match[1] == BRANCH, (name, address)
                assert (ROOT / unquote(match[2])).exists(), (name, address)


@built
def test_everything_that_a_page_points_to_is_there() -> None:
    """Every href and src of every page, generated ones too; fragments are tested in test_book."""
    lost = []
    for name, page in pages().items():
        for address in page.addresses:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or not parts.path or name == "404.html":
                continue
            target = (HTML / name).parent / unquote(parts.path)
            if not target.resolve().exists():
                lost.append(f"{name}: {address}")
    assert lost == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_documents_link_to_files_that_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    places = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_every_file_of_the_entrance_is_kept() -> None:
    """The mark on the cards is a picture of the size that the cards expect."""
    mark = (ROOT / "book" / "_static" / "mark.png").read_bytes()
    assert struct.unpack(">II", mark[16:24]) == (128, 128)
    assert Path(ROOT / "book" / "changes.md").is_file()
