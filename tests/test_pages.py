"""What every page of the built book promises whoever reads it, asked in a real browser.

The pages are found here by themselves, also the index, the search page and the one for what is
missing: a new chapter needs no new line. Other hosts cannot be reached while these tests run.
What was asked for and what axe found is written to ``_build/reports``.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import gates
import nbformat
import pytest
from playwright.sync_api import Browser, Page

from tools import published
from tools.cache import ROOT
from tools.serve import HTML, serve

pytestmark = pytest.mark.built

READING = published.reading_order()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# A browser that is busy with other work still gets its time; nothing here measures speed.
PATIENCE = 30_000  # milliseconds


PAGES = published.pages()
CHAPTERS = published.chapters()
every_page = pytest.mark.parametrize("name", PAGES)
every_chapter = pytest.mark.parametrize("name", CHAPTERS)
every_page_to_read = pytest.mark.parametrize("name", READING)


class Visits:
    """The visits of this run. Each page is opened once for each kind of reader."""

    def __init__(self, browser: Browser, site: str) -> None:
        self.browser, self.site = browser, site
        self.kept: dict[tuple[str, str], Any] = {}

    def _keep(self, kind: str, name: str) -> Any:
        if (kind, name) not in self.kept:
            visit = getattr(gates, f"visit_{kind}")
            self.kept[kind, name] = visit(self.browser, f"{self.site}{name}.html")
        return self.kept[kind, name]

    def desktop(self, name: str) -> gates.DesktopVisit:
        return self._keep("desktop", name)

    def phone(self, name: str) -> gates.PhoneVisit:
        return self._keep("phone", name)

    def keyboard(self, name: str) -> gates.KeyboardVisit:
        return self._keep("by_keyboard", name)

    def scriptless(self, name: str) -> gates.ScriptlessVisit:
        return self._keep("without_scripts", name)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the book, below a path, as a project's pages stand on their host."""
    with serve(HTML, prefix="/handbook/") as address:
        yield address


@pytest.fixture(scope="module")
def visits(browser, site) -> Visits:
    return Visits(browser, site)


@pytest.fixture
def reader(browser, site) -> Iterator[Page]:
    """A page of a reader who has just come, at a desk, in light mode, with a clipboard."""
    allowed = ["clipboard-read", "clipboard-write"]
    context = browser.new_context(permissions=allowed, color_scheme="light", **gates.DESKTOP)
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


def test_the_book_is_there():
    """Without pages nothing below would be asked."""
    assert PAGES, f"{HTML} holds no page; `make book` builds them"
    assert set(READING) <= set(PAGES)
    assert {"genindex", "search"} <= set(PAGES)


# --- nothing from third parties ---------------------------------------------------------


@every_page
def test_nothing_is_asked_of_a_third_party(visits, name):
    """Who reads the book is known to the book's host alone, and nothing breaks without others."""
    gates.hold(gates.third_parties(visits.desktop(name)))


@every_page
def test_every_formula_is_typeset(visits, name):
    """No reader sees a formula's source."""
    gates.hold(visits.desktop(name).formulas["faults"])


@every_chapter
def test_every_displayed_formula_of_the_notebook_is_there(visits, name):
    """A formula on a line of its own in the notebook is one on the page."""
    notebook = nbformat.read(ROOT / f"{name}.ipynb", nbformat.NO_CONVERT)
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    written = sum(len(re.findall(r"\$\$.+?\$\$", text, re.DOTALL)) for text in texts)
    assert visits.desktop(name).formulas["count"] >= written


@every_page
def test_every_figure_is_shown(visits, name):
    """Pictures are loaded, drawings are complete, and none has no size."""
    gates.hold(visits.desktop(name).figures["faults"])


@every_chapter
def test_a_chapter_shows_figures(visits, name):
    """The gate above would also pass a chapter that lost all its figures."""
    notebook = nbformat.read(ROOT / f"{name}.ipynb", nbformat.NO_CONVERT)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    drawn = sum(len(re.findall(r"\bplots\.show\(", source)) for source in code)
    assert visits.desktop(name).figures["count"] >= min(drawn, 1)


@every_page
def test_nothing_complains_in_the_console(visits, name):
    """No script of the book fails."""
    gates.hold(visits.desktop(name).console)


@every_page
def test_the_page_is_light(visits, name):
    """A page costs at most 1.5 MB to load for the first time, compressed as a host does."""
    gates.hold(gates.too_heavy(visits.desktop(name)))


def test_the_requests_are_written_down(visits):
    """``requests.json`` says what each page asked for, and what it weighs."""
    looked = {name: visits.desktop(name) for name in PAGES}
    report = {
        name: {"bytes": visit.weight, "requests": visit.requests} for name, visit in looked.items()
    }
    kept = json.loads(
        published.write_report(published.REPORTS / "requests.json", report).read_text(
            encoding="utf-8"
        )
    )
    assert set(kept) == set(PAGES)
    assert all(page["requests"] and page["bytes"] > 1_000 for page in kept.values())


# --- accessible -------------------------------------------------------------------------


@every_page
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation(visits, name, theme):
    """Contrast, names, order of headings, landmarks, tables: by light and in the dark."""
    gates.need_axe()
    gates.hold(gates.inaccessible(visits.desktop(name).axe[theme]))


@every_page
def test_axe_finds_no_violation_on_a_phone(visits, name):
    """Buttons and links are 24 pixels high and wide or stand apart; keys scroll what scrolls."""
    gates.need_axe()
    gates.hold(gates.inaccessible(visits.phone(name).axe))


def test_what_axe_found_is_written_down(visits):
    """``axe.json`` says which rules each page passed, broke, or left open, in both themes."""
    gates.need_axe()
    report = {}
    for name in PAGES:
        report[name] = {**visits.desktop(name).axe, "phone": visits.phone(name).axe}
    kept = json.loads(
        published.write_report(published.REPORTS / "axe.json", report).read_text(encoding="utf-8")
    )
    assert set(kept) == set(PAGES)
    # An axe that did not run would find nothing either.
    for theme in ("light", "dark"):
        assert all("color-contrast" in kept[name][theme]["passed"] for name in READING)
    assert all(len(page["light"]["passed"]) > 15 for page in kept.values())


@every_page
def test_all_can_be_done_with_the_keyboard(visits, name):
    """Tab comes to everything, shows where it is, and may skip the menus."""
    gates.hold(gates.unreachable(visits.keyboard(name)))


def test_the_menu_opens_by_keyboard(reader, site):
    """A menu that drops down opens with Enter, and Tab goes on into it."""
    reader.goto(f"{site}{CHAPTERS[0]}.html")
    button = reader.locator("button[aria-expanded]:visible").first
    button.focus()
    reader.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    reader.keyboard.press("Tab")
    menu = "document.activeElement.closest('.dropdown-menu, [role=menu]') !== null"
    assert reader.evaluate(menu)
    reader.keyboard.press("Escape")
    assert button.get_attribute("aria-expanded") == "false"


# --- in the dark, on a phone, on paper, without scripts ---------------------------------


@every_page
def test_the_page_follows_the_system_into_the_dark(visits, name):
    """So do its drawings: nobody is dazzled, and no line disappears."""
    gates.hold(gates.theme_does_not_follow(visits.desktop(name)))


def test_the_theme_can_be_chosen_and_is_remembered(reader, site):
    """The switch works with the keyboard, and the next page knows what was chosen."""
    shown = "document.documentElement.dataset.theme"
    reader.goto(f"{site}{READING[0]}.html")
    assert reader.evaluate(shown) == "light"
    switch = reader.locator("button.theme-switch-button:visible").first
    for _ in range(3):  # the switch goes round: as the system does, light, dark
        if reader.evaluate(shown) == "dark":
            break
        switch.focus()
        reader.keyboard.press("Enter")
    assert reader.evaluate(shown) == "dark"
    reader.goto(f"{site}{READING[1]}.html")
    assert reader.evaluate(shown) == "dark"


@every_page
def test_nobody_scrolls_sideways_on_a_phone(visits, name):
    """At 360 pixels, with answers and solutions folded and unfolded."""
    gates.hold(gates.sideways(visits.phone(name)))


@every_page
def test_nothing_is_cut_off_on_a_phone(visits, name):
    """What is too wide for the screen scrolls inside itself; no part of it is lost."""
    gates.hold(visits.phone(name).cut)


def test_the_menus_open_on_a_phone(browser, site):
    """The list of pages and the list of sections are there for a finger, and close again."""
    with gates.opened(browser, f"{site}{CHAPTERS[0]}.html", **gates.PHONE) as (page, _log):
        for kind, holds in (("primary", READING[1]), ("secondary", "#")):
            link = page.locator(f".bd-sidebar-{kind} a[href*='{Path(holds).name}']").first
            within = page.locator(f"dialog[open] a[href*='{Path(holds).name}']")
            assert not link.is_visible() or not link.evaluate(
                "element => { const box = element.getBoundingClientRect();"
                " return box.left >= 0 && box.right <= innerWidth && box.top < innerHeight; }"
            )
            page.locator(f"button.{kind}-toggle:visible").first.tap()
            within.first.wait_for(timeout=PATIENCE)
            page.keyboard.press("Escape")
            within.first.wait_for(state="hidden", timeout=PATIENCE)


@every_page
def test_the_page_can_be_printed(visits, name):
    """Dark ink on white paper, no menus, from either theme."""
    gates.hold(gates.unfit_for_print(visits.desktop(name)))


@every_page_to_read
def test_all_is_there_without_scripts(visits, name):
    """Text, formulas and figures do not wait for a script."""
    gates.hold(gates.lost_without_scripts(visits.scriptless(name), visits.desktop(name)))


# --- finding the way --------------------------------------------------------------------


class Headings:
    """The words of all headings, to choose from each page the ones that others lack."""

    @cached_property
    def of(self) -> dict[str, list[str]]:
        heading = re.compile(r"<h[1-3]\b[^>]*>(.*?)</h[1-3]>", re.DOTALL)
        result = {}
        for name in READING:
            source = (HTML / f"{name}.html").read_text(encoding="utf-8")
            found = " ".join(heading.findall(source[source.find("<main") :]))
            result[name] = sorted(gates.words(re.sub(r"<[^>]+>|&\w+;", " ", found)))
        return result

    def distinctive(self, name: str, number: int = 2) -> list[str]:
        """Return the words of the headings of a page that fewest other headings have."""
        everywhere = Counter(word for words in self.of.values() for word in words)
        return sorted(self.of[name], key=lambda word: (everywhere[word], -len(word), word))[:number]


HEADINGS = Headings()


@every_page_to_read
def test_search_finds_the_page(reader, site, name):
    """Words of its headings lead to it."""
    words = HEADINGS.distinctive(name)
    assert words
    for word in words:
        reader.goto(f"{site}search.html?q={word}")
        found = reader.locator(f"#search-results a[href*='{name}.html']")
        found.first.wait_for(timeout=PATIENCE)


def test_search_says_when_there_is_nothing(reader, site):
    """The gate above is not passed by a search that finds every page for every word."""
    reader.goto(f"{site}search.html?q=qwertzuiop")
    reader.wait_for_function(
        "/did not match|no results|found 0/i.test(document.querySelector('main').innerText)"
    )
    assert reader.locator("#search-results a").count() == 0


def test_the_search_field_leads_to_results(reader, site):
    """By keyboard alone: open the search, type, Enter, Tab to the first result."""
    name = CHAPTERS[-1]
    reader.goto(f"{site}{READING[0]}.html")
    reader.locator("button[class*=search-button]:visible").first.focus()
    reader.keyboard.press("Enter")
    reader.wait_for_function("document.activeElement.matches('input[type=search]')")
    reader.keyboard.type(HEADINGS.distinctive(name)[0])
    reader.keyboard.press("Enter")
    reader.locator(f"#search-results a[href*='{name}.html']").first.wait_for()
    assert "search.html" in reader.url


def test_the_entrance_leads_to_the_cover(reader, site):
    """The address of the book shows its first page."""
    reader.goto(site)
    reader.wait_for_url(f"{site}{READING[0]}.html")
    assert reader.locator("main h1").first.is_visible()


@every_page_to_read
def test_one_page_leads_to_the_next(reader, site, name):
    """Previous and next follow the order of the contents."""
    reader.goto(f"{site}{name}.html")
    at = READING.index(name)
    for selector, wanted in (
        ("a.left-prev", READING[at - 1] if at else None),
        ("a.right-next", READING[at + 1] if at + 1 < len(READING) else None),
    ):
        links = reader.locator(f"{selector}:visible")
        targets = links.evaluate_all("links => links.map(link => link.href)")
        assert targets == ([f"{site}{wanted}.html"] if wanted else [])


@every_chapter
def test_a_chapter_lists_its_sections(reader, site, name):
    """ "On this page" leads to each section, and is in sight at a desk."""
    reader.goto(f"{site}{name}.html")
    sections = reader.locator("main article section:has(> h2)").evaluate_all(
        "sections => sections.map(section => '#' + section.id)"
    )
    listed = reader.locator(".bd-sidebar-secondary a[href^='#']:visible").evaluate_all(
        "links => links.map(link => link.getAttribute('href'))"
    )
    assert len(sections) >= 3
    assert [each for each in listed if each in sections] == sections


# --- running it -------------------------------------------------------------------------


@every_chapter
def test_a_chapter_can_be_opened_elsewhere(reader, site, name):
    """Colab and Binder are given a path that is in the repository, named in one place."""
    reader.goto(f"{site}{name}.html")
    links = reader.locator("a[href]").evaluate_all("links => links.map(link => link.href)")
    repository = PROJECT["urls"]["Repository"].removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/{name}.ipynb"
    assert links.count(colab) == 1
    binder = [link for link in links if link.startswith("https://mybinder.org/")]
    assert len(binder) == 1
    assert f"/gh/{repository}/main?" in binder[0]
    assert binder[0].endswith(f"{name}.ipynb")
    assert (ROOT / f"{name}.ipynb").is_file()


@every_chapter
def test_a_chapter_can_be_downloaded(reader, site, name):
    """As the very notebook of the repository, without outputs."""
    reader.goto(f"{site}{name}.html")
    link = reader.locator("a[href$='.ipynb'][href*='_sources']").first.evaluate("link => link.href")
    answer = reader.request.get(link)
    assert answer.ok
    notebook = nbformat.reads(answer.text(), nbformat.NO_CONVERT)
    original = nbformat.read(ROOT / f"{name}.ipynb", nbformat.NO_CONVERT)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in original.cells]


@every_chapter
def test_code_can_be_copied(reader, site, name):
    """Every input has a button, and the button copies what stands there, to the letter."""
    reader.goto(f"{site}{name}.html")
    cells = reader.locator("div.cell_input div.highlight")
    buttons = reader.locator("div.cell_input div.highlight button.copybtn")
    buttons.first.wait_for()
    assert buttons.count() == cells.count() > 5
    notebook = nbformat.read(ROOT / f"{name}.ipynb", nbformat.NO_CONVERT)
    sources = {cell.source.strip() for cell in notebook.cells if cell.cell_type == "code"}
    for cell in cells.locator("visible=true").all()[:2]:
        reader.evaluate("navigator.clipboard.writeText('')")
        cell.hover()
        cell.locator("button.copybtn").click()
        reader.wait_for_function("navigator.clipboard.readText().then(text => text !== '')")
        assert reader.evaluate("navigator.clipboard.readText()").strip() in sources


@every_chapter
def test_solutions_open_by_click_and_by_key(reader, site, name):
    """Folded when the page comes; a click, Enter and the space bar turn them over."""
    reader.goto(f"{site}{name}.html")
    assert reader.locator("main details[open]").count() == 0
    folded = reader.locator("main details")
    assert folded.count() >= 4
    # A quiz takes the place of its folded answer; tests/test_quizzes.py looks at those.
    shown = "element => getComputedStyle(element).display !== 'none'"
    answers = [
        details
        for details in reader.locator("main details:not(.cell details)").all()
        if details.evaluate(shown)
    ]
    assert answers or reader.locator(".quiz-options").count()
    for details in [reader.locator("main .tag_hide-cell details").first, *answers[-1:]]:
        gates.approach(details)
        summary = details.locator("summary").first
        inside = details.locator(":scope > :not(summary)").first
        summary.click()
        assert inside.is_visible()
        summary.press("Enter")
        assert not inside.is_visible()
        summary.press("Space")
        assert inside.is_visible()
