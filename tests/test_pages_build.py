"""What pages load: one style sheet without dead rules, one script, drawings instead of a font."""

from __future__ import annotations

import hashlib
import re
import sys

import pytest

from tools import published
from tools.cache import ROOT
from tools.serve import HTML

sys.path.insert(0, str(ROOT / "book" / "_extensions"))

import icons
import pages
from style_sheets import Used, prune


def used(html: str = "", script: str = "") -> Used:
    found = Used()
    found.add_page(html)
    found.add_script(script)
    return found


@pytest.mark.parametrize(
    ("selector", "html", "script", "stays"),
    [
        (".a", '<p class="b a">', "", True),
        (".a", '<p class="b">', "", False),
        (".is-a", "", "element.classList.add('is-a')", True),
        (".a .b", '<p class="a">', "", False),
        (".a:not(.b)", '<p class="a">', "", True),
        (".a:hover::before", '<p class="a">', "", True),
        (".fa-bars:before", '<svg class="fa-bars">', "", False),  # it is drawn already
        ("#top", '<p id="top">', "", True),
        ("video", "<p>", "", False),
        ("html[data-theme=dark] P", "<p>", "", True),
    ],
)
def test_a_rule_stays_when_it_may_match(selector, html, script, stays):
    assert bool(prune(f"{selector}{{color:red}}", used(html, script))) is stays


def test_only_the_selectors_that_match_stay_inside_other_rules_too():
    assert prune(".a, .b, p { color: red; }", used('<p class="b">')) == ".b,p{color: red}"
    css = "@media print{.a{x:y}.b{x:y}} @media screen{.b{x:y}} @supports (a:b){.a{x:y}}"
    assert prune(css, used('<p class="a">')) == "@media print{.a{x:y}}@supports (a:b){.a{x:y}}"
    assert prune("@keyframes turn { from { top: 0 } }", used()).startswith("@keyframes turn{from")


def test_a_font_stays_while_it_is_named_and_in_one_format():
    face = "@font-face{font-family:%s;src:url(a.woff2) format('woff2'),url(a.ttf) format('ttf')}"
    css = face % "Mine" + face % "Other" + "p{font-family:Mine}.a{font-family:Other}"
    assert prune(css, used("<p>")) == (
        '@font-face{font-family:Mine;src:url(a.woff2) format("woff2")}p{font-family:Mine}'
    )


def test_icon_fonts_go_and_their_icons_are_drawn():
    css = (
        '@font-face{font-family:Font Awesome\\ 6 Free;src:url(x.woff2) format("woff2")}'
        ':root{--pst-icon-note:var(--pst-icon-bell);--pst-icon-bell:"\uf0f3"}'
        "p:after{content:var(--pst-icon-note);font:var(--fa-font-solid);color:red}"
    )
    result = prune(css, used("<p>"))
    assert "@font-face" not in result
    assert "--pst-icon" not in result
    assert re.search(r'p:after\{content:"";mask:url\("data:[^"]+"\).*;color:red\}', result)
    for undrawn in (
        lambda: prune('p:after{content:"\\f000"}', used("<p>")),
        lambda: icons.draw_in_page('<i class="fa-solid fa-dragon"></i>'),
    ):
        with pytest.raises(icons.MissingIcon, match="make vendor"):
            undrawn()


def test_long_names_in_tables_break_between_their_words(tmp_path):
    cell = '<table><code><span class="pre">{}</span></code></table>'
    for name, broken in (
        ("evaluate.load(num_rows=0.1)", "evaluate.<wbr>load(<wbr>num_<wbr>rows=<wbr>0.1)"),
        ("__init__", "__init__"),
    ):
        html = pages.finish(cell.format(name), tmp_path / "page.html")
        assert cell.format(broken).removeprefix("<table>") in html


@pytest.mark.built
@pytest.mark.parametrize("name", published.pages())
def test_a_page_loads_one_style_sheet_no_icon_font_and_no_script_that_holds_it_up(name):
    path = HTML / f"{name}.html"
    html = path.read_text(encoding="utf-8")
    assert pages.finish(html, path) == html, "a page is finished again when the book is built again"
    head = html[: html.index("</head>")]
    assert head.count("stylesheet") == 1
    for loaded in ("book.css", "book.js"):
        version = hashlib.sha256((HTML / "_static" / loaded).read_bytes()).hexdigest()[:12]
        assert f'_static/{loaded}?v={version}"' in html
    for script in re.findall(r"<script\b[^>]*\bsrc=[^>]*>", html):
        assert re.search(r"\b(defer|async|module)\b", script), script
    assert ("searchindex.js" in html) == (name == "search")
    for loaded, where in (
        ("quiz.js", "<summary>Answer to question"),
        ("attention-explorer.js", '<div class="attention-explorer">'),
        ("tokenizer-explorer.js", '<div class="tokenizer-explorer"'),
    ):
        assert bool(re.search(rf'<script[^>]*src="[^"]*/{loaded}', html)) == (where in html)
    assert not icons.ELEMENT.search(html)
    assert "fontawesome" not in html
    assert html.count("svg-inline--fa") >= 5


@pytest.mark.built
def test_the_style_sheet_is_small_and_complete():
    css = (HTML / "_static" / "book.css").read_text(encoding="utf-8")
    assert len(css) < 200_000
    own = (ROOT / "book/_static/interactive.css").read_text(encoding="utf-8")
    lost = set(re.findall(r"\.[a-z]+-[\w-]+", own)) - set(re.findall(r"\.[\w-]+", css))
    assert lost == set(), "a script makes these names of parts, and the rules for them were pruned"
    assert "Font Awesome 6 Free" not in re.findall(r"@font-face\{[^}]*", css)
    for address in re.findall(r"url\((?![\"']?data:)([^)]+)\)", css):
        assert (HTML / "_static" / address).is_file(), address
