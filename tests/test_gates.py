"""The gates close: small pages, each broken in one way, and a sound one that passes them all.

These need a browser, but not the built book.
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import gates
import pytest

from tools import browser as local_browser
from tools.serve import serve


def picture() -> str:
    """A red square of eight by eight pixels, as the address of a PNG."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    rows = (b"\x00" + b"\xff\x00\x00" * 8) * 8
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    image = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(image).decode()


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
<img alt="A red square" src="{picture()}" width="40" height="40">
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


@pytest.fixture
def visit(browser, folder, site, request) -> Callable:
    """Visit the sound page, changed: ``visit(gates.visit_phone, "old" -> "new")``."""

    def look(kind: Callable, old: str = "", new: str = "", source: str = SOUND):
        assert old in source
        name = re.sub(r"\W+", "-", request.node.name)
        (folder / f"{name}.html").write_text(source.replace(old, new, 1), encoding="utf-8")
        return kind(browser, f"{site}{name}.html")

    return look


def test_a_sound_page_passes_all_gates(visit):
    gates.need_axe()
    desktop = visit(gates.visit_desktop)
    assert gates.third_parties(desktop) == []
    assert gates.too_heavy(desktop) == []
    assert gates.theme_does_not_follow(desktop) == []
    assert gates.unfit_for_print(desktop) == []
    assert desktop.console == []
    assert desktop.formulas == {"count": 1, "faults": []}
    assert desktop.figures == {"count": 2, "faults": []}
    assert [gates.inaccessible(result) for result in desktop.axe.values()] == [[], []]
    phone = visit(gates.visit_phone)
    assert gates.sideways(phone) == []
    assert phone.cut == []
    assert gates.inaccessible(phone.axe) == []
    assert gates.unreachable(visit(gates.visit_by_keyboard)) == []
    assert gates.lost_without_scripts(visit(gates.visit_without_scripts), desktop) == []


END = "</main>"
ON_DESKTOP = {
    "a script from elsewhere": (
        (END, '</main><script src="https://cdn.example.org/library.js"></script>'),
        gates.third_parties,
        r"third party: https://cdn\.example\.org/library\.js",
    ),
    "a request after the page is there": (
        (END, '</main><script>setTimeout(() => fetch("https://count.example.org/"), 1)</script>'),
        gates.third_parties,
        r"third party: https://count\.example\.org/",
    ),
    "a socket": (
        (END, '</main><script>new WebSocket("wss://live.example.org/")</script>'),
        gates.third_parties,
        r"third party: wss://live\.example\.org/",
    ),
    "a font from elsewhere": (
        (
            END,
            "</main><style>@font-face { font-family: F; src: url(https://fonts.example.org/f); }"
            " h1 { font-family: F; }</style>",
        ),
        gates.third_parties,
        r"third party: https://fonts\.example\.org/f",
    ),
    "a style sheet that is not there": (
        (END, '</main><link rel="stylesheet" href="gone.css">'),
        gates.third_parties,
        r"not there: .*gone\.css (404|net::)",
    ),
    "a page that weighs too much": (  # the test puts in what hardly compresses
        (END, END),
        gates.too_heavy,
        r"bytes, at most 1,500,000",
    ),
    "a drawing that stays black": (
        ('stroke="currentColor"', 'stroke="#000" fill="#000"'),
        gates.theme_does_not_follow,
        r"drawing that stays as it was: <svg> A line that rises",
    ),
    "a page that stays light": (
        ('dark.matches ? "dark" : "light"', '"light"'),
        gates.theme_does_not_follow,
        r"shows 'light' where the system prefers 'dark'",
    ),
    "a menu on paper": (
        ("nav, button { display: none; }", ""),
        gates.unfit_for_print,
        r"2 menus or buttons would be printed",
    ),
    "light ink on white paper": (
        ("--ink: #000; --paper: #fff;", ""),
        gates.unfit_for_print,
        r"printed in rgb\(238, 238, 238\)",
    ),
    "an empty sheet of paper": (
        ("nav, button { display: none; }", "body { display: none; }"),
        gates.unfit_for_print,
        r"nothing would be printed",
    ),
    "a script that fails": (
        (END, "</main><script>missing.call()</script>"),
        lambda visit: visit.console,
        r"uncaught: missing is not defined",
    ),
    "a complaint": (
        (END, "</main><script>console.error('no theme')</script>"),
        lambda visit: visit.console,
        r"no theme",
    ),
    "a formula in dollars": (
        (END, "<p>Divide by $\\sqrt{d_k}$ first.</p></main>"),
        lambda visit: visit.formulas["faults"],
        r"raw formula .*sqrt",
    ),
    "a formula in dollars without a command": (
        (END, "<p>Here $a<em>b</em> + 1$ stands.</p></main>"),
        lambda visit: visit.formulas["faults"],
        r"raw formula \$ab \+ 1\$",
    ),
    "a formula that waits for a script": (
        (END, '<div class="math">\\[ x = 1 \\]</div></main>'),
        lambda visit: visit.formulas["faults"],
        r"raw formula .* in <div\.math>",
    ),
    "a formula that lost its marks too": (
        (END, '<p>So <span class="math">d_k = 64</span>.</p></main>'),
        lambda visit: visit.formulas["faults"],
        r"formula left as it was: <span\.math> d_k = 64",
    ),
    "an environment": (
        (END, "<p>\\begin{align} x \\end{align}</p></main>"),
        lambda visit: visit.formulas["faults"],
        r"raw formula \\begin",
    ),
    "a formula with an error": (
        (END, '<span class="katex-error" title="Expected }">\\frac{</span></main>'),
        lambda visit: visit.formulas["faults"],
        r"formula with an error: .*Expected }",
    ),
    "a formula of no size": (
        ("<msqrt><mi>d</mi></msqrt>", ""),
        lambda visit: visit.formulas["faults"],
        r"formula of no size",
    ),
    "a font that does not come": (
        (
            END,
            "<p style='font-family: K'>K</p>"
            "<style>@font-face { font-family: K; src: url(k.woff2); }</style></main>",
        ),
        lambda visit: visit.formulas["faults"],
        r"font not loaded: K",
    ),
    "a picture that is not there": (
        (END, '<img alt="Nothing" src="gone.png" width="9" height="9"></main>'),
        lambda visit: visit.figures["faults"],
        r"image not loaded: gone\.png",
    ),
    "a picture that is hidden": (
        ('<img alt="A red square"', '<img style="display: none" alt="A red square"'),
        lambda visit: visit.figures["faults"],
        r"cannot be seen",
    ),
    "a drawing of no size": (
        ("width: 80px; height: 40px", "width: 0; height: 0"),
        lambda visit: visit.figures["faults"],
        r"cannot be seen: <svg> A line that rises",
    ),
    "an empty drawing": (
        (END, '<svg role="img" aria-label="Nothing"></svg></main>'),
        lambda visit: visit.figures["faults"],
        r"empty drawing: <svg> Nothing",
    ),
    "a drawing that lacks a part": (
        ('<use href="#line"/>', '<use href="#lines"/>'),
        lambda visit: visit.figures["faults"],
        r"lacks its part #lines",
    ),
    "a picture that is not described": (
        ('alt="A red square" ', ""),
        lambda visit: gates.inaccessible(visit.axe["light"]),
        r"^image-alt: ",
    ),
    "pale text": (
        ("--ink: #111;", "--ink: #aaa;"),
        lambda visit: gates.inaccessible(visit.axe["light"]),
        r"^color-contrast: ",
    ),
    "dark text in the dark": (
        ("--ink: #eee;", "--ink: #444;"),
        lambda visit: gates.inaccessible(visit.axe["dark"]),
        r"^color-contrast: ",
    ),
    "a heading that skips a level": (
        (END, "<h4>Deep</h4></main>"),
        lambda visit: gates.inaccessible(visit.axe["light"]),
        r"^heading-order: ",
    ),
    "a fault inside what is folded": (
        ("<p>Because", '<p style="color: #999; background: #aaa">Because'),
        lambda visit: gates.inaccessible(visit.axe["light"]),
        r"^color-contrast: ",
    ),
}


@pytest.mark.parametrize("fault", ON_DESKTOP)
def test_a_gate_closes_at_a_desk(visit, fault):
    (old, new), gate, expected = ON_DESKTOP[fault]
    if needs_axe := "axe" in gate.__code__.co_names:
        gates.need_axe()
    if fault == "a page that weighs too much":
        new = f"</main><!-- {noise(1_600_000)} -->"
    kind = gates.visit_desktop if needs_axe else partial(gates.visit_desktop, with_axe=False)
    found = gate(visit(kind, old, new))
    assert any(re.search(expected, each) for each in found), found


def noise(size: int) -> str:
    """Text of ``size`` bytes that hardly compresses below it."""
    state, parts = 1, []
    while len(parts) < size * 4 // 3 // 8 + 1:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        parts.append(struct.pack(">Q", state ^ (state >> 29)))
    return base64.b85encode(b"".join(parts)).decode().replace("-", "_")


ON_A_PHONE = {
    "a wide table": (
        "<table><tr><td><div style='width: 500px'>wide</div></td></tr></table>",
        r"folded: 5\d\d pixels wide; .*wide",
    ),
    "a long word": ("<p>" + "x" * 90 + "</p>", r"folded: \d+ pixels wide; .*<p> xxx"),
    "a wide thing that is folded": (
        "<details><summary>More</summary><div style='width: 700px'>wide</div></details>",
        r"unfolded: 7\d\d pixels wide; .*wide",
    ),
}


@pytest.mark.parametrize("fault", ON_A_PHONE)
def test_a_gate_closes_on_a_phone(visit, fault):
    part, expected = ON_A_PHONE[fault]
    found = gates.sideways(visit(gates.visit_phone, END, part + END))
    assert len(found) == (1 if expected.startswith("unfolded") else 2)
    assert re.search(expected, found[0]), found


def test_what_scrolls_inside_itself_is_no_fault(visit):
    inside = "<div style='overflow-x: auto' tabindex='0'><div style='width: 900px'>x</div></div>"
    assert gates.sideways(visit(gates.visit_phone, END, inside + END)) == []


def test_a_gate_closes_where_something_is_cut_off(visit):
    table = "<table><tr><td><div style='width: 700px'>wide</div></td></tr></table>"
    found = visit(gates.visit_phone, END, f"<div style='overflow: hidden'>{table}</div>{END}").cut
    assert [re.sub(r"\d+", "N", fault) for fault in found] == ["N px cut off by div: <table> wide"]
    inside = f"<div style='overflow: hidden'><div style='overflow: auto'>{table}</div></div>"
    assert visit(gates.visit_phone, END, inside + END).cut == []


def test_a_gate_closes_where_keys_cannot_scroll(visit):
    gates.need_axe()
    region = "<div style='overflow: auto; width: 90px; height: 40px'>" + "<p>x</p>" * 20 + "</div>"
    found = gates.inaccessible(visit(gates.visit_phone, END, region + END).axe)
    assert any(each.startswith("scrollable-region-focusable") for each in found), found


def test_a_gate_closes_on_targets_that_are_too_small(visit):
    gates.need_axe()
    small = "<p>" + "<button style='all: unset; font-size: 8px'>x</button>" * 3 + "</p>"
    found = gates.inaccessible(visit(gates.visit_phone, END, small + END).axe)
    assert any(each.startswith("target-size") for each in found), found


BY_KEYBOARD = {
    "no sign of the focus": (
        ("outline: 3px solid currentColor", "outline: none"),
        r"focus does not show: <button> Press me",
    ),
    "a trap": (
        (
            END,
            "<script>addEventListener('keydown', event => event.key === 'Tab' && "
            "document.activeElement.matches('summary') && event.preventDefault())</script></main>",
        ),
        r"Tab never comes to <button> Press me",
    ),
    "no skip link": (
        ("Skip to main content", "The beginning"),
        r"the first Tab leads to <a> The beginning, not to a skip link",
    ),
    "a skip link that leads nowhere": (
        ('href="#main"', 'href="#nowhere"'),
        r"skip link leads to <a>",
    ),
    "focus on something unseen": (
        (
            "<button>Press me",
            "<button style='opacity: 1; min-width: 0; min-height: 0; width: 0; "
            "height: 0; padding: 0; border: 0; overflow: hidden'>Press me",
        ),
        r"focus on something unseen: <button> Press me",
    ),
    "focus outside the window": (
        ("<button>Press me", "<button style='position: fixed; left: -500px'>Press me"),
        r"focus outside the window: <button> Press me",
    ),
}


@pytest.mark.parametrize("fault", BY_KEYBOARD)
def test_a_gate_closes_for_the_keyboard(visit, fault):
    (old, new), expected = BY_KEYBOARD[fault]
    found = gates.unreachable(visit(gates.visit_by_keyboard, old, new))
    assert any(re.search(expected, each) for each in found), found


WITHOUT_SCRIPTS = {
    "text": ("<p>Seldom written words: caravan, orchid, zephyr.</p>", r"\d+ of \d+ words are gone"),
    "a formula": ("<math><mi>x</mi></math>", r"only 1 of 2 formulas are there"),
    "a figure": (
        "<svg role='img' aria-label='A bar'><rect width='9' height='9'/></svg>",
        r"only 2 of 3 figures are there",
    ),
}


@pytest.mark.parametrize("fault", WITHOUT_SCRIPTS)
def test_a_gate_closes_where_a_script_writes(visit, fault):
    part, expected = WITHOUT_SCRIPTS[fault]
    script = (
        f'<script>document.querySelector("main").insertAdjacentHTML("beforeend", `{part}`)</script>'
    )
    usual = visit(partial(gates.visit_desktop, with_axe=False), END, END + script)
    without = visit(gates.visit_without_scripts, END, END + script)
    found = gates.lost_without_scripts(without, usual)
    assert any(re.search(expected, each) for each in found), found


def test_nothing_outside_this_machine_can_be_reached(browser, site, folder):
    (folder / "alone.html").write_text(SOUND, encoding="utf-8")
    with gates.opened(browser, f"{site}alone.html") as (page, _log):
        answer = "fetch({!r}, {{mode: 'no-cors'}}).then(() => 'came', error => 'refused')"
        for address in ("https://example.org/", "http://192.0.2.1/"):
            assert page.evaluate(answer.format(address)) == "refused"
        assert page.evaluate(answer.format(f"{site}alone.html")) == "came"


# --- finding a browser ------------------------------------------------------------------


@pytest.fixture
def nothing(monkeypatch):
    """A machine without any browser."""
    monkeypatch.setattr(local_browser, "candidates", lambda: iter(()))
    monkeypatch.delenv(local_browser.VARIABLE, raising=False)


def test_a_missing_browser_is_said_with_what_to_install(nothing):
    with pytest.raises(local_browser.BrowserMissing, match="apt install chromium"):
        local_browser.find()


def test_a_named_browser_is_taken_first(monkeypatch, tmp_path):
    program = tmp_path / "my browser"
    program.write_text("#!/bin/sh\necho Chromium 1.2.3\n")
    program.chmod(0o755)
    monkeypatch.setenv(local_browser.VARIABLE, str(program))
    assert local_browser.find() == program
    assert local_browser.version(program) == "Chromium 1.2.3"


def test_a_name_that_is_no_browser_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(local_browser.VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"HANDBOOK_BROWSER is .*gone"):
        local_browser.find()


def test_a_program_that_only_says_what_to_install_is_passed_over(nothing, monkeypatch, tmp_path):
    for name, status in (("stub", 1), ("works", 0)):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho {name}\nexit {status}\n")
        program.chmod(0o755)
    paths = [tmp_path / "stub", tmp_path / "works"]
    monkeypatch.setattr(local_browser, "candidates", lambda: iter(paths))
    assert local_browser.find() == tmp_path / "works"


@pytest.mark.parametrize("in_ci", [True, False])
def test_what_is_missing_fails_in_ci_and_is_skipped_elsewhere(monkeypatch, in_ci):
    monkeypatch.setenv("CI", "true" if in_ci else "")
    kind = pytest.fail.Exception if in_ci else pytest.skip.Exception
    with pytest.raises(kind, match="no browser"):
        gates.missing("no browser")
