"""The gates close: small pages, each broken in one way, and a sound one that keeps all promises.

These need a browser, but not the built book. A new promise in ``gates.py`` needs a line here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import gates
import pytest

from tools.serve import serve

WIDE = "<table><tr><td><div style='width: 700px'>wide</div></td></tr></table>"

SOUND = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A sound page</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light; --ink: #111; --paper: #fff; --link: #0645ad; }}
:root[data-theme="dark"] {{ color-scheme: dark; --ink: #eee; --paper: #111; --link: #9cf; }}
body {{ color: var(--ink); background: var(--paper); margin: 1em; }}
a {{ color: var(--link); display: inline-block; padding: 6px; }}
button {{ min-width: 44px; min-height: 44px; }}
svg {{ width: 80px; height: 40px; }}
:focus-visible {{ outline: 3px solid currentColor; }}
@media print {{
  nav, button {{ display: none; }}
  div {{ overflow: visible !important; }}
  :root, :root[data-theme="dark"] {{ --ink: #000; --paper: #fff; }}
}}
</style>
<script>
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => {{
  document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
}};
dark.addEventListener("change", follow);
follow();
</script>
</head>
<body>
<nav aria-label="Menu"><a href="#main">Skip to main content</a> <a href="#end">The end</a></nav>
<main id="main" tabindex="-1">
<h1>A sound page</h1>
<p>Costs of $5 and $6 are money; <code>$x$</code> is code. Attention divides by
<span class="math"><math><msqrt><mi>d</mi></msqrt></math></span> before anything else.</p>
<svg role="img" aria-label="A line that rises">
<g id="line"><path d="M0 40 L80 0" stroke="currentColor"/></g><use href="#line"/></svg>
<div style="overflow: hidden"><div style="overflow: auto" tabindex="0">{WIDE}</div></div>
<details><summary>Why?</summary><p>Because variance grows with the number of terms.</p></details>
<p id="end"><button>Press me</button> <a href="#main">Back to the beginning</a></p>
</main>
</body>
</html>
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def site(folder) -> Iterator[str]:
    with serve(folder, prefix="/book/") as address:
        yield address


def with_and_without_scripts(browser, address):
    return gates.visit_without_scripts(browser, address, gates.visit_desktop(browser, address))


READERS = {
    "desk": gates.visit_desktop,
    "phone": gates.visit_phone,
    "keys": gates.visit_by_keyboard,
    "no scripts": with_and_without_scripts,
}


@pytest.fixture(scope="module")
def visit(browser, folder, site) -> Callable:
    """Visit a page as one of ``READERS``; the same page is opened once."""

    @cache
    def look(reader: str, html: str):
        path = folder / f"{len(list(folder.iterdir()))}.html"
        path.write_text(html, encoding="utf-8")
        return READERS[reader](browser, f"{site}{path.name}")

    return look


@pytest.mark.parametrize("reader", READERS)
def test_a_sound_page_keeps_all_promises(visit, reader):
    seen = visit(reader, SOUND)
    assert gates.faults(seen) == []
    if reader == "desk":
        assert [seen["seen"][kind]["count"] for kind in ("formulas", "figures")] == [1, 1]


END = "</main>"
TRAP = (
    "<script>addEventListener('keydown', event => event.key === 'Tab' && "
    "document.activeElement.matches('summary') && event.preventDefault())</script>"
)


def written_by_a_script(part: str) -> str:
    add = 'document.querySelector("main").insertAdjacentHTML'
    return f'<script>{add}("beforeend", `{part}`)</script>'


# Who reads; what stands at the end of the page, or what is replaced by what; what must be said.
# What stands at the end for the same reader stands there together, on one page.
BROKEN = {
    "a script from elsewhere": (
        "desk", '<script src="https://cdn.example.org/library.js"></script>',
        r"nobody else.*third party: https://cdn\.example\.org/library\.js",
    ),
    "a socket": (
        "desk", '<script>new WebSocket("wss://live.example.org/")</script>',
        r"third party: wss://live\.example\.org/",
    ),
    "a style sheet that is not there": (
        "desk", '<link rel="stylesheet" href="gone.css">', r"not there: .*gone\.css (404|net::)",
    ),
    "a script that fails": (
        "desk", "<script>missing.call()</script>", "console: uncaught: missing is not defined",
    ),
    "a formula in dollars": (
        "desk", "<p>Here $a<em>b</em> + 1$ stands.</p>", r"raw formula \$ab \+ 1\$",
    ),
    "a formula that waits for a script": (
        "desk", '<div class="math">\\[ x = 1 \\]</div>', r"raw formula .* in <div\.math>",
    ),
    "a formula that lost its marks too": (
        "desk", '<p>So <span class="math">d_k = 64</span>.</p>', "left as it was.*d_k = 64",
    ),
    "a formula of no size": ("desk", ("<msqrt><mi>d</mi></msqrt>", ""), "formula of no size"),
    "a table in Markdown": (
        "desk", "<p>| model | F1 |\n| --- | ---: |\n| BERT | 1 |</p>", r"raw Markdown \| --- \|",
    ),
    "bold words in Markdown": ("desk", "<p>It is **very** good.</p>", r"raw Markdown \*\*very"),
    "a link in Markdown": ("desk", "<p>See [it](https://x.org).</p>", r"raw Markdown \]\(https:"),
    "a heading in Markdown": (
        "desk", "<div class='cell_output'><pre>\n## F1\n</pre></div>", "raw Markdown ## in <pre>",
    ),
    "a drawing of no size": (
        "desk", ("width: 80px; height: 40px", "width: 0; height: 0"), "be seen: <svg> A line",
    ),
    "a drawing that lacks a part": ("desk", ('href="#line"', 'href="#no"'), "lacks its part #no"),
    "dark text in the dark": ("desk", ("--ink: #eee;", "--ink: #444;"), "dark: color-contrast"),
    "a fault inside what is folded": (
        "desk", ("<p>Because", '<p style="color: #999; background: #aaa">Because'),
        "light: color-contrast",
    ),
    "a pale token, of a kind that is legible elsewhere": (
        "desk", "<pre><span class='k'>if</span> <span class='k'>if</span> "
        "<span class='k' style='color: #ccc'>pale</span></pre>", "light: color-contrast.*pale",
    ),
    "a pale part of a formula": (
        "desk", "<span class='katex-html'>x<i style='color: #ddd'>thin</i></span>",
        "light: color-contrast.*thin",
    ),
    "a drawing that stays black": (
        "desk", ('stroke="currentColor"', 'stroke="#000" fill="#000"'),
        "theme: drawing that stays as it was: <svg> A line that rises",
    ),
    "a page that stays light": (
        "desk", ('dark.matches ? "dark" : "light"', '"light"'), "'light' where .* prefers 'dark'",
    ),
    "a menu on paper": ("desk", ("nav, button { display: none; }", ""), "2 menus or buttons"),
    "light ink on white paper": ("desk", ("--ink: #000; --paper: #fff;", ""), "pale.*238, 238"),
    "code that paper cuts off": (
        "desk", f"<pre tabindex='0' style='overflow: auto'>{'code ' * 60}</pre>",
        "print: on paper, part is cut off: <pre> code",
    ),
    "a wide table": ("phone", WIDE, r"sideways.*: folded: \d+ pixels wide; .* wide"),
    "a wide thing that is folded": (
        "phone", "<details><summary>More</summary><p style='width: 1800px'>x</p></details>",
        r": unfolded: 18\d\d pixels wide",
    ),
    "a table that is cut off": (
        "phone", f"<div style='overflow: hidden'>{WIDE}</div>", "cut off by div: <table>",
    ),
    "targets that are too small": (
        "phone", "<p>" + 3 * "<button style='all: unset; font-size: 8px'>x</button>" + "</p>",
        "touch: target-size",
    ),
    "no sign of the focus": (
        "keys", ("outline: 3px solid", "outline: 0 none"), "focus does not show: <button> Press me",
    ),
    "a trap": ("keys", TRAP, "Tab never comes to <button> Press me"),
    "no skip link": (
        "keys", ("Skip to main content", "The beginning"), "first Tab leads to <a> The beginning",
    ),
    "focus on something unseen": (
        "keys", ("<button>", "<button style='position: fixed; left: -500px'>"),
        "focus on something out of sight: <button> Press me",
    ),
    "text that a script writes": (
        "no scripts", written_by_a_script("<p>Seldom written words: caravan, orchid, zephyr.</p>"),
        r"\d+ of \d+ words are gone",
    ),
    "a figure that a script writes": (
        "no scripts",
        written_by_a_script("<svg role='img'><rect width='9' height='9'/></svg>"),
        "only 1 of 2 figures",
    ),
}  # fmt: skip


def broken(reader: str, change: str | tuple[str, str]) -> str:
    """The sound page with ``change``, and with all else that spoils its end for ``reader``."""
    if isinstance(change, tuple):
        assert change[0] in SOUND
        return SOUND.replace(*change, 1)
    added = [part for who, part, _ in BROKEN.values() if who == reader and isinstance(part, str)]
    return SOUND.replace(END, "".join(added) + END)


@pytest.mark.parametrize("fault", BROKEN)
def test_a_gate_closes(visit, fault):
    reader, change, expected = BROKEN[fault]
    if re.match("light:|dark:|touch:", expected) and not gates.AXE.is_file():
        gates.missing(gates.WITHOUT_AXE)
    found = gates.faults(visit(reader, broken(reader, change)))
    assert any(re.search(expected, each) for each in found), found
