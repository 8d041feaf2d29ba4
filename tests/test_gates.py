"""The gates close: small pages, each broken in one way, and a sound one that keeps all promises.

These need a browser, but not the built book. A new promise in ``gates.py`` needs a line here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import gates
import pytest

from tools import browser as local_browser
from tools.serve import serve

# A red square of eight by eight pixels.
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGP4z8CAFWEX"
    "HbQSACj/P8Fu7N9hAAAAAElFTkSuQmCC"
)

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
<img alt="A red square" src="{PICTURE}" width="40" height="40">
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


def at_a_desk(browser, address):
    return gates.visit_desktop(browser, address)


def with_and_without_scripts(browser, address):
    return gates.visit_without_scripts(browser, address, gates.visit_desktop(browser, address))


READERS = {
    "desk": at_a_desk,
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
        assert [seen.seen[kind]["count"] for kind in ("formulas", "figures")] == [1, 2]


END = "</main>"
NOISE = random.Random(0).randbytes(1_700_000).hex()  # above the limit when it is compressed, too
WIDE = "<table><tr><td><div style='width: 700px'>wide</div></td></tr></table>"
TRAP = (
    "<script>addEventListener('keydown', event => event.key === 'Tab' && "
    "document.activeElement.matches('summary') && event.preventDefault())</script>"
)


def font(family: str, address: str) -> str:
    face = f"@font-face {{ font-family: {family}; src: url({address}); }}"
    return f"<p style='font-family: {family}'>text</p><style>{face}</style>"


def written_by_a_script(part: str) -> str:
    add = 'document.querySelector("main").insertAdjacentHTML'
    return f'<script>{add}("beforeend", `{part}`)</script>'


# Who reads; what stands at the end of the page, or what is replaced by what; what must be said.
# What stands at the end for the same reader stands there together, on one page.
BROKEN = {
    # nobody else is asked
    "a script from elsewhere": (
        "desk", '<script src="https://cdn.example.org/library.js"></script>',
        r"nobody else.*third party: https://cdn\.example\.org/library\.js",
    ),
    "a request after the page is there": (
        "desk", '<script>setTimeout(() => fetch("https://count.example.org/"), 1)</script>',
        r"third party: https://count\.example\.org/",
    ),
    "a socket": (
        "desk", '<script>new WebSocket("wss://live.example.org/")</script>',
        r"third party: wss://live\.example\.org/",
    ),
    "a font from elsewhere": (
        "desk", font("F", "https://fonts.example.org/f"), r"third party: https://fonts\.example",
    ),
    "a style sheet that is not there": (
        "desk", '<link rel="stylesheet" href="gone.css">', r"not there: .*gone\.css (404|net::)",
    ),
    "a page that weighs too much": ("desk", f"<!-- {NOISE} -->", r"light.*, at most 1,500,000"),
    # no complaint
    "a script that fails": (
        "desk", "<script>missing.call()</script>", "console: uncaught: missing is not defined",
    ),
    "a complaint": ("desk", "<script>console.error('no theme')</script>", "console: no theme"),
    # formulas
    "a formula in dollars": (
        "desk", "<p>Divide by $\\sqrt{d_k}$ first.</p>", r"formulas.*raw formula .*sqrt",
    ),
    "a formula in dollars without a command": (
        "desk", "<p>Here $a<em>b</em> + 1$ stands.</p>", r"raw formula \$ab \+ 1\$",
    ),
    "a formula that waits for a script": (
        "desk", '<div class="math">\\[ x = 1 \\]</div>', r"raw formula .* in <div\.math>",
    ),
    "a formula that lost its marks too": (
        "desk", '<p>So <span class="math">d_k = 64</span>.</p>', "left as it was.*d_k = 64",
    ),
    "an environment": ("desk", "<p>\\begin{align} x \\end{align}</p>", r"raw formula \\begin"),
    "a formula with an error": (
        "desk", '<span class="katex-error" title="Expected }">\\frac{</span>', "error.*Expected }",
    ),
    "a formula of no size": ("desk", ("<msqrt><mi>d</mi></msqrt>", ""), "formula of no size"),
    "a font that does not come": ("desk", font("K", "k.woff2"), "formulas.*font not loaded: K"),
    # figures
    "a picture that is not there": (
        "desk", '<img alt="Nothing" src="gone.png" width="9" height="9">', "not loaded: gone",
    ),
    "a picture that is hidden": ("desk", ("<img", '<img style="display: none"'), "cannot be seen"),
    "a drawing of no size": (
        "desk", ("width: 80px; height: 40px", "width: 0; height: 0"), "be seen: <svg> A line",
    ),
    "an empty drawing": (
        "desk", '<svg role="img" aria-label="Nothing"></svg>', "empty drawing: <svg> Nothing",
    ),
    "a drawing that lacks a part": ("desk", ('href="#line"', 'href="#no"'), "lacks its part #no"),
    # axe
    "a picture that is not described": ("desk", ('alt="A red square" ', ""), "light: image-alt"),
    "pale text": ("desk", ("--ink: #111;", "--ink: #aaa;"), "light: color-contrast"),
    "dark text in the dark": ("desk", ("--ink: #eee;", "--ink: #444;"), "dark: color-contrast"),
    "a heading that skips a level": ("desk", "<h4>Deep</h4>", "light: heading-order"),
    "a fault inside what is folded": (
        "desk", ("<p>Because", '<p style="color: #999; background: #aaa">Because'),
        "light: color-contrast",
    ),
    # themes and paper
    "a drawing that stays black": (
        "desk", ('stroke="currentColor"', 'stroke="#000" fill="#000"'),
        "theme: drawing that stays as it was: <svg> A line that rises",
    ),
    "a page that stays light": (
        "desk", ('dark.matches ? "dark" : "light"', '"light"'), "'light' where .* prefers 'dark'",
    ),
    "a menu on paper": ("desk", ("nav, button { display: none; }", ""), "2 menus or buttons"),
    "light ink on white paper": (
        "desk", ("--ink: #000; --paper: #fff;", ""), r"printed in rgb\(238, 238, 238\)",
    ),
    "an empty sheet of paper": (
        "desk", ("nav, button { display: none; }", "body { display: none; }"), "nothing .* printed",
    ),
    "code that paper cuts off": (
        "desk", f"<pre tabindex='0' style='overflow: auto'>{'code ' * 60}</pre>",
        "print: on paper, part is cut off: <pre> code",
    ),
    # a phone
    "a wide table": ("phone", WIDE, r"sideways.*: folded: \d+ pixels wide; .* wide"),
    "a long word": ("phone", f"<p>{'x' * 90}</p>", r": folded: \d+ pixels wide; .*<p> xxx"),
    "a wide thing that is folded": (
        "phone", "<details><summary>More</summary><p style='width: 1800px'>x</p></details>",
        r": unfolded: 18\d\d pixels wide",
    ),
    "a table that is cut off": (
        "phone", f"<div style='overflow: hidden'>{WIDE}</div>", r"\d px cut off by div: <table>",
    ),
    "what scrolls, but not by keys": (
        "phone", f"<div style='overflow: auto; height: 40px'>{'<p>x</p>' * 20}</div>",
        "touch: scrollable-region-focusable",
    ),
    "targets that are too small": (
        "phone", "<p>" + 3 * "<button style='all: unset; font-size: 8px'>x</button>" + "</p>",
        "touch: target-size",
    ),
    # the keyboard
    "no sign of the focus": (
        "keys", ("outline: 3px solid", "outline: 0 none"), "focus does not show: <button> Press me",
    ),
    "a trap": ("keys", TRAP, "Tab never comes to <button> Press me"),
    "no skip link": (
        "keys", ("Skip to main content", "The beginning"), "first Tab leads to <a> The beginning",
    ),
    "a skip link that leads nowhere": (
        "keys", ('href="#main"', 'href="#nowhere"'), "skip link leads to <a>",
    ),
    "focus on something unseen": (
        "keys", ("<button>", "<button style='all: unset; position: fixed; width: 0; height: 0'>"),
        "focus on something unseen: <button> Press me",
    ),
    "focus outside the window": (
        "keys", ("<button>", "<button style='position: fixed; left: -500px'>"),
        "focus outside the window: <button> Press me",
    ),
    # no scripts
    "text that a script writes": (
        "no scripts", written_by_a_script("<p>Seldom written words: caravan, orchid, zephyr.</p>"),
        r"\d+ of \d+ words are gone",
    ),
    "a formula that a script writes": (
        "no scripts", written_by_a_script("<math><mi>x</mi></math>"), "only 1 of 2 formulas",
    ),
    "a figure that a script writes": (
        "no scripts",
        written_by_a_script("<svg role='img'><rect width='9' height='9'/></svg>"),
        "only 2 of 3 figures",
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


def test_what_scrolls_inside_itself_is_no_fault(visit):
    inside = f"<div style='overflow: auto' tabindex='0'>{WIDE}</div>"
    html = SOUND.replace(END, f"<div style='overflow: hidden'>{inside}</div>{END}")
    assert gates.faults(visit("phone", html)) == []


def test_nothing_outside_this_machine_can_be_reached(browser, site, folder):
    (folder / "alone.html").write_text(SOUND, encoding="utf-8")
    with gates.opened(browser, f"{site}alone.html") as (page, _log):
        answer = "fetch({!r}, {{mode: 'no-cors'}}).then(() => 'came', error => 'refused')"
        for address in ("https://example.org/", "http://192.0.2.1/"):
            assert page.evaluate(answer.format(address)) == "refused"
        assert page.evaluate(answer.format(f"{site}alone.html")) == "came"


# --- finding a browser ------------------------------------------------------------------


def program(path: Path, status: int = 0) -> Path:
    path.write_text(f"#!/bin/sh\necho Chromium 1.2.3\nexit {status}\n")
    path.chmod(0o755)
    return path


def test_the_browser_that_works_is_found(monkeypatch, tmp_path):
    stub, works = program(tmp_path / "stub", status=1), program(tmp_path / "works")
    monkeypatch.delenv(local_browser.VARIABLE, raising=False)
    monkeypatch.setattr(local_browser, "candidates", lambda: iter([stub, works]))
    assert local_browser.find() == works, "a program that only says what to install is passed over"
    monkeypatch.setattr(local_browser, "candidates", lambda: iter([stub]))
    with pytest.raises(local_browser.BrowserMissing, match="apt install chromium"):
        local_browser.find()
    monkeypatch.setenv(local_browser.VARIABLE, str(works))
    assert local_browser.find() == works
    monkeypatch.setenv(local_browser.VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"HANDBOOK_BROWSER is .*gone"):
        local_browser.find()


@pytest.mark.parametrize("in_ci", [True, False])
def test_what_is_missing_fails_in_ci_and_is_skipped_elsewhere(monkeypatch, in_ci):
    monkeypatch.setenv("CI", "true" if in_ci else "")
    kind = pytest.fail.Exception if in_ci else pytest.skip.Exception
    with pytest.raises(kind, match="no browser"):
        gates.missing("no browser")
