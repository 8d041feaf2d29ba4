"""How the book is found: what search engines, chats, feed readers and lost readers get."""

from __future__ import annotations

import json
import re
import sys
from urllib.parse import unquote, urljoin, urlsplit
from xml.etree import ElementTree

import pytest
import yaml
from built_pages import page, pages
from PIL import Image

from tools import published, repository
from tools.cache import ROOT
from tools.serve import HTML

sys.path.insert(0, str(ROOT / "book" / "_extensions"))

import found

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
BASE = CONFIG["html"]["baseurl"]
BRANCH = CONFIG["repository"]["branch"]
ATOM = {"a": found.ATOM}
built = pytest.mark.built
every_page = pytest.mark.parametrize("name", published.pages())


@built
@every_page
def test_a_page_says_what_it_is_about_to_machines(name) -> None:
    """`found.MADE` are the pages that nobody wrote, such as index, search and 404."""
    meta, here = page(name).meta, urljoin(BASE, f"{name}.html")
    (description,) = meta("description")
    assert 20 <= len(description) <= found.DESCRIPTION_LENGTH + 10, description
    assert not description.startswith("Ran in"), description
    assert page(name).soup.html["lang"] == CONFIG["sphinx"]["config"]["language"]
    assert f"{BASE}{found.FEED}" in page(name).links("[rel~=alternate]")
    assert (meta("robots") == ["noindex"]) == (name in found.MADE)
    if name in found.MADE:
        return
    assert page(name).links("[rel=canonical]") == set(meta("og:url")) == {here}
    for needed in ("og:title", "og:description", "og:site_name", "og:image:alt"):
        assert meta(needed)[0].strip(), needed
    # The font of the cards has no Chinese letters; they would be drawn as boxes.
    assert not re.search(r"[\u2e80-\u9fff]", meta("og:title")[0] + meta("og:description")[0])
    (address,) = meta("og:image")
    card = HTML / unquote(address.removeprefix(BASE))
    with Image.open(card) as picture:
        assert (picture.format, picture.size) == ("PNG", (1146, 600))
    facts = json.loads(page(name).soup.select_one('[type="application/ld+json"]').string)
    assert facts["name"] in page(name).title
    assert (facts["url"], facts["description"]) == (here, description)
    is_chapter = name.startswith("notebooks/")
    assert facts["@type"] == ("LearningResource" if is_chapter else "WebPage")


@built
def test_no_two_pages_have_the_same_title_or_description() -> None:
    written = [each for name, each in pages().items() if name not in found.MADE]
    titles = [each.title.strip() for each in written]
    for said in (titles, [each.meta("description")[0] for each in written]):
        assert all(said)
        assert len(set(said)) == len(said), sorted(said)


@built
def test_the_site_map_lists_what_was_written_and_nothing_else() -> None:
    root = ElementTree.fromstring((HTML / "sitemap.xml").read_text(encoding="utf-8"))
    listed = {place.text for place in root.iter(f"{{{found.SITEMAP}}}loc")}
    assert listed == {urljoin(BASE, f"{name}.html") for name in set(pages()) - set(found.MADE)}
    robots = (HTML / "robots.txt").read_text(encoding="utf-8")
    assert f"Sitemap: {BASE}sitemap.xml" in robots


@built
def test_the_feed_holds_the_changes_and_leads_to_them() -> None:
    root = ElementTree.fromstring((HTML / found.FEED).read_text(encoding="utf-8"))
    source = (ROOT / f"{found.CHANGES}.md").read_text(encoding="utf-8")
    wanted = re.findall(r"(?m)^## (\d{4}-\d\d-\d\d): (.+)$", source)
    entries = root.findall("a:entry", ATOM)
    given = [[entry.find(f"a:{part}", ATOM).text for part in ("updated", "title")]
             for entry in entries]  # fmt: skip
    assert given == [[f"{day}T00:00:00Z", title] for day, title in wanted]
    assert all(root.find(needed, ATOM).text for needed in ("a:id", "a:title", "a:author/a:name"))
    places = [entry.find("a:id", ATOM).text for entry in entries]
    assert {urlsplit(place).fragment for place in places} <= page(found.CHANGES).ids


@built
def test_a_lost_reader_finds_the_way_from_any_depth() -> None:
    """404.html is shown under any path, so no address on it may depend on the path."""
    base = urlsplit(BASE).path
    for address in page("404").addresses:
        parts = urlsplit(address)
        if not parts.scheme and not address.startswith("#"):
            assert address.startswith(base), address
            assert (HTML / unquote(parts.path.removeprefix(base))).exists(), address
    ways = {urljoin(BASE, address) for address in page("404").addresses}
    assert {urljoin(BASE, "book/intro.html"), urljoin(BASE, "search.html")} <= ways
    assert (HTML / ".nojekyll").is_file()


@built
@every_page
def test_a_page_leads_to_the_repository_and_a_chapter_to_where_it_runs(name) -> None:
    """The source, a place to ask, Colab and Binder; what is named exists, on the right branch."""
    here, slug = repository.wanted().repository, repository.wanted().slug
    addresses = [unquote(each) for each in page(name).addresses]
    assert here in addresses
    assert any(each.startswith(f"{here}/issues/new") for each in addresses)
    for address in addresses:
        match = re.match(re.escape(here) + r"/(?:blob|edit|tree)/([^/]+)/([^?#]+)", address)
        if match:
            assert match[1] == BRANCH, address
            assert (ROOT / match[2]).exists(), address
    colab, binder = (
        [each for each in addresses if urlsplit(each).netloc == host]
        for host in ("colab.research.google.com", "mybinder.org")
    )
    if not name.startswith("notebooks/"):
        assert colab + binder == []
        return
    assert colab == [f"https://colab.research.google.com/github/{slug}/blob/{BRANCH}/{name}.ipynb"]
    (address,) = binder
    assert address.startswith(f"https://mybinder.org/v2/gh/{slug}/{BRANCH}?urlpath=")
    assert f"{name}.ipynb" in address
    assert any(each.endswith(f"_sources/{name}.ipynb") for each in addresses)
    offered = HTML / f"_sources/{name}.ipynb"
    assert offered.read_bytes() == (ROOT / f"{name}.ipynb").read_bytes()
