"""The built book: every page is there, says what it must, and every link in it leads somewhere."""

from __future__ import annotations

import json
import re
from collections import Counter
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from built_pages import page, plain

from tools import published
from tools.cache import CHECKS, ROOT
from tools.serve import HTML

pytestmark = pytest.mark.built

READING = published.reading_order()
every_page = pytest.mark.parametrize("name", READING)
every_chapter = pytest.mark.parametrize("name", published.chapters())


def records(name: str) -> dict:
    path = CHECKS / f"{name.removeprefix('notebooks/')}.json"
    assert path.is_file(), f"{path} is missing; `make book` writes it"
    return json.loads(path.read_text(encoding="utf-8"))


def cells(name: str) -> list:
    return nbformat.read(ROOT / f"{name}.ipynb", nbformat.NO_CONVERT).cells


def written_title(name: str) -> str:
    """The title in the source of a page, as plain text."""
    source = ROOT / f"{name}.md"
    text = source.read_text(encoding="utf-8") if source.is_file() else cells(name)[0].source
    (title, *_) = re.findall(r"(?m)^# (.+)$", text)
    return plain(re.sub(r"[*_`$\\]", "", title))


@every_page
def test_a_page_stands_under_its_title_and_nothing_failed_on_it(name):
    expected = written_title(name)
    assert plain(page(name).soup.h1.get_text()).rstrip("#").strip() == expected
    assert expected in plain(page(name).title)
    for sign in ("Traceback", "CheckFailed:", "System Message", "problematic"):
        assert sign not in page(name).text
    ids = [each["id"] for each in page(name).soup.select("main [id]")]
    assert [each for each, count in Counter(ids).items() if count > 1] == []
    figures = page(name).soup.select("svg[role=img]")
    assert [each for each in figures if len(each["aria-label"].split()) < 4] == []


@pytest.mark.parametrize("name", published.pages())
def test_every_link_inside_the_book_leads_somewhere(name):
    here = HTML / f"{name}.html"
    lost = []
    for link in page(name).addresses:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or parts.path.startswith("/"):
            continue  # test_found.py asks where the addresses of 404.html lead
        target = (here.parent / unquote(parts.path)).resolve() if parts.path else here
        if target.is_dir():
            target /= "index.html"
        if not target.is_file() or not target.is_relative_to(HTML.resolve()):
            lost.append(link)
        elif target.suffix == ".html" and parts.fragment:
            inside = page(target.relative_to(HTML.resolve()).with_suffix("").as_posix())
            lost += [] if unquote(parts.fragment) in inside.ids else [link]
    assert lost == []


@every_chapter
def test_a_chapter_shows_its_outputs_and_hides_set_up_and_solutions(name):
    """Every check printed its line, so the outputs are those of the run that made the records."""
    checks = records(name)["checks"]
    assert [c["name"] for c in checks if plain(c["shown"]) not in page(name).text] == []
    set_up = next(cell.source for cell in cells(name) if cell.cell_type == "code")
    assert plain(set_up) not in page(name).text
    hidden = sum("hide-cell" in cell.metadata.get("tags", []) for cell in cells(name))
    assert len(page(name).soup.select(".tag_hide-cell")) == hidden >= 3


@every_chapter
def test_ledger_and_times_list_the_chapter(name):
    ledger, checks = page(published.LEDGER).text, records(name)["checks"]
    assert checks
    assert [check["name"] for check in checks if plain(check["name"]) not in ledger] == []
    total = sum(len(records(each)["checks"]) for each in published.chapters())
    assert f"{total} checks held" in ledger
    assert written_title(name).split(":")[0] in page("book/times").text
    # The chapter itself says how long it ran and when, and leads to its checks.
    (line,) = page(name).soup.select("p.handbook-run")
    said = r"Ran in \d+ s on \d{4}-\d\d-\d\d \(\w+ profile\)\. \d+ checks held\."
    assert re.fullmatch(said, line.get_text())
    profiles, checks = (link["href"] for link in line.select("a"))
    assert profiles.endswith("how-to-use.html#two-profiles")
    assert checks.endswith(f"ledger.html#ledger-{name.removeprefix('notebooks/')}")
