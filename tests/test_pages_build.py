"""What pages load: one style sheet without dead rules, one script, drawings instead of a font."""

from __future__ import annotations

import re
import sys

import pytest
from PIL import Image
from pygments.styles import get_style_by_name
from pygments.token import Token

from tools import published
from tools.cache import ROOT
from tools.serve import HTML

sys.path.insert(0, str(ROOT / "book" / "_extensions"))

import icons
import pages
from style_sheets import Used, bundle, prune


def used(html: str = "", script: str = "") -> Used:
    found = Used()
    found.add_page(html)
    found.add_script(script)
    return found


# --- icons ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "name"),
    [
        ("fa-solid fa-bars", "solid/bars"),
        ("fas fa-file-pdf", "solid/file-pdf"),
        ("fab fa-github", "brands/github"),
        ("theme-switch fa-solid fa-sun fa-lg", "solid/sun"),
    ],
)
def test_class_names_mean_an_icon(classes, name):
    assert icons.name_of(classes) == name
    html = icons.draw_in_page(f'<p><i class="{classes}" data-mode="dark" title="Dark"></i></p>')
    assert html.startswith('<p><svg class="svg-inline--fa ')
    assert 'data-mode="dark"' in html
    assert 'aria-hidden="true"' in html
    assert "title=" not in html
    assert icons.drawing(name)[1] in html


def test_an_icon_without_a_drawing_is_refused_and_other_elements_stay():
    for classes in ("fa-solid fa-dragon", "fas"):
        with pytest.raises(icons.MissingIcon, match="make vendor"):
            icons.draw_in_page(f'<i class="{classes}"></i>')
    for html in ('<i class="fancy"></i>', '<i class="fa-solid">text</i>', "<i>a</i>"):
        assert icons.draw_in_page(html) == html


@pytest.mark.parametrize("character", ['"\\f107"', '"\\F107 "', "'\uf107'"])
def test_a_character_of_the_icon_font_becomes_a_mask(character):
    css = icons.mask_of(character)
    assert css.startswith('content:"";mask:url("data:image/svg+xml,%3Csvg')
    assert "background-color:currentColor" in css
    with pytest.raises(icons.MissingIcon, match="U\\+f000"):
        icons.mask_of('"\\f000"')


# --- style sheets -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "html", "script", "stays"),
    [
        (".a", '<p class="b a">', "", True),
        (".a", '<p class="b">', "", False),
        (".a", "", "element.classList.add('a')", True),
        (".is-a", "", "x = 'is-a'", True),
        (".a .b", '<p class="a">', "", False),
        (".a:not(.b)", '<p class="a">', "", True),
        (".a:hover::before", '<p class="a">', "", True),
        ("#top", '<p id="top">', "", True),
        ("#top", '<p id="bottom">', "", False),
        ("table td", "<table><td>", "", True),
        ("video", "<p>", "", False),
        ("html[data-theme=dark] p", "<p>", "", True),
        ("*", "<p>", "", True),
        (":root", "<p>", "", True),
        ("P", "<p>", "", True),
        (".\\31 0", "<p>", "", False),
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
    with pytest.raises(icons.MissingIcon):
        prune('p:after{content:"\\f000"}', used("<p>"))


def test_style_sheets_are_joined_in_place(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "a.css").write_text(
        "@import \"../b.css\";\na{background:url('img/x.png')}/*# sourceMappingURL=a.map */"
    )
    (tmp_path / "b.css").write_text("b{background:url(data:image/png;base64,AA)}")
    (tmp_path / "deep" / "er" / "c.css").write_text("c{background:url(../../y.png)}")
    css = bundle(tmp_path, ["deep/a.css", "deep/er/c.css"])
    assert css.split() == [
        "b{background:url(data:image/png;base64,AA)}",
        "a{background:url(deep/img/x.png)}",
        "c{background:url(y.png)}",
    ]
    with pytest.raises(FileNotFoundError):
        bundle(tmp_path, ["absent.css"])


# --- pages ------------------------------------------------------------------------------

LONG = "x" * 60
TABLE = "<table><tr><td>1</td></tr></table>"
BOX = '<div class="pst-scrollable-table-container">'
CELL = '<table><code><span class="pre">{}</span></code></table>'
FINISHED = {
    "a script waits": ('<script src="a.js"></script>', '<script defer src="a.js"></script>'),
    "a script that says when it runs": ('<script async src="b.js"></script>', None),
    "a script of its own": ("<script>let c</script>", None),
    "a table gets a box": (TABLE, r"<div [^>]*pst-scrollable-table-container[^>]*>" + TABLE),
    "a table has a box": (f"{BOX}{TABLE}</div>", r"^<div [^>]*>" + TABLE + "</div>$"),
    "a name breaks after _": (CELL.format("num_heads"), "num_<wbr>heads<"),
    "a name breaks after .": (CELL.format("evaluate.load(1)"), r"evaluate\.<wbr>load\(<wbr>1\)<"),
    "a name breaks after =": (CELL.format("warmup_ratio=0.1"), r"warmup_<wbr>ratio=<wbr>0\.1<"),
    "a short name": (CELL.format("value"), ">value<"),
    "underlines at an end": (CELL.format("__init__"), ">__init__<"),
    "in running text a name moves on": ('<code><span class="pre">a_b</span></code>', None),
    "wide code is reached by Tab": (
        f"<pre>{LONG}</pre>",
        '<pre tabindex="0" role="group" aria-label="Code, scrolls sideways[^>]*>x',
    ),
    "narrow code": ("<pre>x = &lt;1&gt;</pre>", None),
    "a figure is reached by Tab": (
        '<figure class="handbook-figure" style="margin:1em 0"></figure>',
        '<figure class="handbook-figure" tabindex="0" aria-label="Figure',
    ),
    "a corner that heads nothing": (
        '<table><th></th><th class="head"><p></p></th><th>a</th></table>',
        '<td></td><td class="head"></td><th>a</th>',
    ),
    "code in the colour of text": (
        '<pre><span class="n">x</span> <span class="o">=</span></pre><span class="n">y</span>',
        '<pre>x <span class="o">=</span></pre><span class="n">y</span>',
    ),
    "an image gets its size": (
        '<img alt="" src="a.png"/>', '^<img alt="" src="a.png" width="30" height="20">$',
    ),
    "a drawing gets its size": ('<img src="b.svg">', '^<img src="b.svg" width="44" height="12">$'),
    "an image that is not there": ('<img src="c.png">', None),
    "an image of another size": ('<img src="a.png" width="3">', None),
    "all stands in a landmark": (
        '<button type="button" id="pst-back-to-top">Up</button><main>text</main>',
        "^<main>text.*pst-back-to-top.*</main>$",
    ),
    "a landmark has a name": (
        '<div id="pst-primary-sidebar" class="a"></div>',
        'role="complementary" aria-label="The book"',
    ),
    "dialogs": ('<dialog id="pst-search-dialog"></dialog>', "<dialog .*aria-label="),
}  # fmt: skip


@pytest.mark.parametrize("name", FINISHED)
def test_a_page_is_finished(tmp_path, name):
    """As the table says, or left alone where it says None; and never changed again."""
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    (tmp_path / "b.svg").write_text('<svg viewBox="0 0 44.2 12"></svg>')
    html, expected = FINISHED[name]
    once = pages.finish(html, tmp_path / "page.html")
    if expected is None:
        assert once == html
    else:
        assert re.search(expected, once, re.DOTALL)
    assert pages.finish(once, tmp_path / "page.html") == once


@pytest.mark.parametrize("style", ["a11y-high-contrast-light", "a11y-high-contrast-dark"])
def test_those_words_have_the_colour_of_the_text(style):
    tokens = [
        Token.Name, Token.Name.Namespace, Token.Name.Other, Token.Punctuation,
        Token.Punctuation.Marker, Token.Text.Whitespace,
    ]  # fmt: skip
    found = get_style_by_name(style)
    base = found.style_for_token(Token.Text)["color"]
    assert {found.style_for_token(token)["color"] for token in tokens} == {base}
    assert not any(found.style_for_token(token)["bold"] for token in tokens)


def test_addresses_name_the_version():
    html = '<link href="../_static/book.css?v=0"><script src="_static/book.js?v=abc"></script>'
    assert pages.with_versions(html, {"book.css": "123", "book.js": "456"}) == (
        '<link href="../_static/book.css?v=123"><script src="_static/book.js?v=456"></script>'
    )


def test_a_theme_whose_script_changed_is_noticed():
    with pytest.raises(Exception, match="PATCHES"):
        pages._patched("scripts/pydata-sphinx-theme.js", "something else")


# --- the built book ---------------------------------------------------------------------


@pytest.mark.built
@pytest.mark.parametrize("name", published.pages())
def test_a_page_loads_one_style_sheet_no_icon_font_and_no_script_that_holds_it_up(name):
    html = (HTML / f"{name}.html").read_text(encoding="utf-8")
    head = html[: html.index("</head>")]
    assert head.count("stylesheet") == 1
    assert re.search(
        r'<link rel="stylesheet" href="[\w./-]*_static/book\.css\?v=[0-9a-f]{12}">', head
    )
    for script in re.findall(r"<script\b[^>]*\bsrc=[^>]*>", html):
        assert re.search(r"\b(defer|async|module)\b", script), script
    assert ("searchindex.js" in html) == (name == "search")
    for loaded, where in (
        ("quiz.js", "<summary>Answer to question"),
        ("attention-explorer.js", '<div class="attention-explorer">'),
    ):
        assert bool(re.search(rf'<script[^>]*src="[^"]*/{loaded}', html)) == (where in html)
    assert not icons.ELEMENT.search(html)
    assert "fontawesome" not in html
    assert html.count("svg-inline--fa") >= 5


@pytest.mark.built
def test_what_is_published_is_small_and_complete():
    css = (HTML / "_static" / "book.css").read_text(encoding="utf-8")
    assert len(css) < 200_000
    assert "Font Awesome 6 Free" not in re.findall(r"@font-face\{[^}]*", css)
    for address in re.findall(r"url\((?![\"']?data:)([^)]+)\)", css):
        assert (HTML / "_static" / address).is_file(), address
    left = {path.name for path in (HTML / "_static").rglob("*")}
    unused = {"fontawesome.js", "bootstrap.js", "pydata-sphinx-theme.css", "sphinx-thebe.js"}
    assert not left & unused
    assert not [name for name in left if name.endswith((".map", ".ttf"))]
