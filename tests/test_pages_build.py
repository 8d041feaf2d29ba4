"""What pages load: one style sheet without dead rules, one script, drawings instead of a font."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from PIL import Image
from pygments.styles import get_style_by_name
from pygments.token import Token

from tools.cache import BUILD, ROOT

sys.path.insert(0, str(ROOT / "book" / "_extensions"))

import icons
import pages
from style_sheets import Used, bundle, prune

HTML = BUILD / "html"
NOWHERE = Path("/nowhere/page.html")


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


def test_an_icon_may_go_by_an_older_name():
    assert icons.drawing("solid/external-link") == icons.drawing("solid/arrow-up-right-from-square")


@pytest.mark.parametrize("classes", ["fa-solid fa-dragon", "fas"])
def test_an_icon_without_a_drawing_is_refused(classes):
    with pytest.raises(icons.MissingIcon, match="make vendor"):
        icons.draw_in_page(f'<i class="{classes}"></i>')


@pytest.mark.parametrize(
    "html", ['<i class="fancy"></i>', '<i class="fa-solid">text</i>', "<i>a</i>"]
)
def test_other_elements_stay(html):
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


def test_only_the_selectors_that_match_stay():
    assert prune(".a, .b, p { color: red; }", used('<p class="b">')) == ".b,p{color: red}"


def test_rules_inside_rules():
    css = "@media print{.a{x:y}.b{x:y}} @media screen{.b{x:y}} @supports (a:b){.a{x:y}}"
    assert prune(css, used('<p class="a">')) == "@media print{.a{x:y}}@supports (a:b){.a{x:y}}"


def test_movements_stay():
    css = "@keyframes turn { from { top: 0 } to { top: 1px } }"
    assert prune(css, used()).startswith("@keyframes turn{from { top: 0 }")


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


def test_scripts_wait_unless_they_say_otherwise():
    html = '<script src="a.js"></script><script async src="b.js"></script><script>let c</script>'
    assert pages.finish(html, NOWHERE) == (
        '<script defer src="a.js"></script><script async src="b.js"></script><script>let c</script>'
    )


@pytest.mark.parametrize("before", ["", '<div class="pst-scrollable-table-container">'])
def test_a_table_gets_one_box(before):
    after = "</div>" if before else ""
    html = pages.finish(f"<p></p>{before}<table><tr><td>1</td></tr></table>{after}", NOWHERE)
    assert html.count("pst-scrollable-table-container") == 1
    assert html.count("</div>") == 1


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("num_heads", "num_|heads"),
        ("evaluate.load(&quot;a&quot;)", "evaluate.|load(|&quot;a&quot;)"),
        ("warmup_ratio=0.1", "warmup_|ratio=|0.1"),
        ("value", "value"),
        ("__init__", "__init__"),
    ],
)
def test_long_names_in_a_table_break_between_words(name, broken):
    cell = "<table><tr><td><code>{0}</code></td></tr></table><code>{0}</code>"
    html = pages.finish(cell.format(f'<span class="pre">{name}</span>'), NOWHERE)
    table, text = html.split("</table>")
    assert f">{broken.replace('|', '<wbr>')}</span>" in table
    assert f">{name}</span>" in text, "in running text a name that does not fit moves on"
    assert pages.finish(html, NOWHERE) == html


def test_what_may_scroll_can_be_reached_by_keyboard():
    long, short = "<pre>" + "x" * 60 + "</pre>", "<pre>x = &lt;1&gt;</pre>"
    figure = '<figure class="handbook-figure" style="margin:1em 0"></figure>'
    html = pages.finish(f"{long}{short}{figure}<table></table>", NOWHERE)
    assert html.count('tabindex="0"') == 3
    assert '<pre tabindex="0" role="group" aria-label="Code, scrolls sideways"' in html
    assert short in html
    # A figure is a group already.
    assert re.search(r'<figure class="handbook-figure" tabindex="0" aria-label="Figure', html)


def test_a_corner_that_heads_nothing_is_no_header():
    html = pages.finish('<table><th></th><th class="head"><p></p></th><th>a</th></table>', NOWHERE)
    assert '<td></td><td class="head"></td><th>a</th>' in html


def test_words_of_code_in_the_colour_of_the_text_are_no_elements():
    code = '<span class="n">x</span> <span class="o">=</span> <span class="mi">1</span>'
    html = pages.finish(f'<pre>{code}</pre><span class="n">y</span>', NOWHERE)
    assert html == (
        '<pre>x <span class="o">=</span> <span class="mi">1</span></pre><span class="n">y</span>'
    )


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


def test_images_get_their_size(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    (tmp_path / "b.svg").write_text('<svg viewBox="0 0 44.2 12"></svg>')
    html = '<img alt="" src="a.png"/><img src="b.svg"><img src="c.png"><img src="a.png" width="3">'
    assert pages.finish(html, tmp_path / "page.html") == (
        '<img alt="" src="a.png" width="30" height="20"><img src="b.svg" width="44" height="12">'
        '<img src="c.png"><img src="a.png" width="3">'
    )


def test_everything_stands_in_a_landmark():
    html = pages.finish(
        '<button type="button" id="pst-back-to-top">Up</button>'
        '<div id="pst-primary-sidebar" class="bd-sidebar"></div><main>text</main>', NOWHERE
    )  # fmt: skip
    assert html.index("<main>") < html.index('id="pst-back-to-top"') < html.index("</main>")
    assert 'role="complementary" aria-label="The book"' in html


def test_a_finished_page_stays_as_it_is(tmp_path):
    html = (
        '<button class="btn search-button-field" aria-label="Search">Search Ctrl</button>'
        '<button id="pst-back-to-top">Up</button><div id="pst-primary-sidebar" class="a"></div>'
        '<dialog id="pst-search-dialog"></dialog><dialog id="pst-primary-sidebar-modal"></dialog>'
        '<figure class="handbook-figure"></figure><pre>' + "x" * 60 + "</pre>"
        '<main><i class="fas fa-file"></i><table><th></th></table><script src="a.js"></script>'
        '<pre><span class="n">x</span></pre></main>'
    )
    once = pages.finish(html, tmp_path / "page.html")
    assert once != html
    assert pages.finish(once, tmp_path / "page.html") == once


def test_addresses_name_the_version():
    html = '<link href="../_static/book.css?v=0"><script src="_static/book.js?v=abc"></script>'
    assert pages.with_versions(html, {"book.css": "123", "book.js": "456"}) == (
        '<link href="../_static/book.css?v=123"><script src="_static/book.js?v=456"></script>'
    )


def test_a_theme_whose_script_changed_is_noticed():
    with pytest.raises(Exception, match="PATCHES"):
        pages._patched("scripts/pydata-sphinx-theme.js", "something else")


# --- the built book ---------------------------------------------------------------------

BUILT = sorted(
    path for path in HTML.rglob("*.html")
    if "_static" not in path.parts and path != HTML / "index.html"
)  # fmt: skip
every_built_page = pytest.mark.parametrize(
    "path", BUILT, ids=lambda path: path.relative_to(HTML).as_posix()
)


@pytest.mark.built
@every_built_page
def test_a_page_loads_one_style_sheet_and_no_script_that_holds_it_up(path):
    html = path.read_text(encoding="utf-8")
    head = html[: html.index("</head>")]
    assert re.findall(r'<link[^>]+rel="stylesheet"[^>]*>', head) == re.findall(
        r'<link rel="stylesheet" href="[\w./-]*_static/book\.css\?v=[0-9a-f]{12}">', head
    )
    assert head.count("stylesheet") == 1
    for script in re.findall(r"<script\b[^>]*\bsrc=[^>]*>", html):
        assert re.search(r"\b(defer|async|module)\b", script), script
    assert ("searchindex.js" in html) == (path.name == "search.html")


@pytest.mark.built
@every_built_page
def test_nothing_on_a_page_waits_for_an_icon_font(path):
    html = path.read_text(encoding="utf-8")
    assert not icons.ELEMENT.search(html)
    assert "fontawesome" not in html
    assert html.count("svg-inline--fa") >= 5


@pytest.mark.built
def test_the_one_style_sheet_is_small_and_its_files_are_there():
    css = (HTML / "_static" / "book.css").read_text(encoding="utf-8")
    assert len(css) < 200_000
    assert "Font Awesome 6 Free" not in re.findall(r"@font-face\{[^}]*", css)
    for address in re.findall(r"url\((?![\"']?data:)([^)]+)\)", css):
        assert (HTML / "_static" / address).is_file(), address


@pytest.mark.built
def test_what_no_page_loads_is_not_published():
    left = {path.name for path in (HTML / "_static").rglob("*")}
    assert not left & {
        "fontawesome.js",
        "bootstrap.js",
        "pydata-sphinx-theme.css",
        "sphinx-thebe.js",
    }
    assert not [name for name in left if name.endswith((".map", ".ttf"))]


@pytest.mark.built
@pytest.mark.parametrize(
    "path", sorted((HTML / "notebooks").glob("*.html")), ids=lambda path: path.stem
)
def test_a_chapter_says_how_long_it_ran_and_when(path):
    html = path.read_text(encoding="utf-8")
    (line,) = re.findall(r'<p class="handbook-run">(.*?)</p>', html)
    text = re.sub(r"<[^>]+>", "", line)
    assert re.fullmatch(
        r"Ran in \d+ s on \d{4}-\d\d-\d\d \(\w+ profile\)\. \d+ checks held\.", text
    )
    assert f"ledger.html#ledger-{path.stem}" in line
