"""What a reader is promised of a page, asked in a real browser.

A *visit* opens a page once, as one kind of reader, and asks many things at a time. A *promise*
is a pure function that reads the answers and returns the faults, an empty list if there are
none. ``PROMISES`` names all of them. ``test_pages.py`` holds every page of the built book to
them; ``test_gates.py`` holds small broken pages to them.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request

from tools import published

PACKAGES = Path(__file__).with_name("browser") / "node_modules"
AXE = PACKAGES / "axe-core/axe.min.js"
OBSERVE = Path(__file__).with_name("browser").joinpath("observe.js").read_text(encoding="utf-8")

DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
PAPER = {"width": 720, "height": 1040}  # A4 between its margins, in CSS pixels
# Axe's rules that depend on the screen: targets of 24 by 24 CSS pixels or with space around
# (WCAG 2.2, 2.5.8), and whether what scrolls inside itself does so without a finger.
ON_PHONE = ["target-size", "scrollable-region-focusable"]
OF_COLOURS = ["color-contrast", "link-in-text-block"]  # all that the dark page changes
WITHOUT_AXE = "axe is not installed: `make packages` fetches it with npm (apt install npm)"
NOT_PRINTED = "nav, button, input, select, [class*=bd-sidebar-], .bd-footer-content"


def missing(reason: str) -> NoReturn:
    """Skip for ``reason``; in continuous integration, where all is installed, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (in continuous integration this is a failure)", pytrace=False)
    pytest.skip(reason)


def hold(faults: list[str]) -> None:
    """Fail with all ``faults``, a line for each, if there are any."""
    if faults:
        shown = "\n".join(f"- {fault}" for fault in faults[:40])
        pytest.fail(f"{len(faults)} found\n{shown}", pytrace=False)


# --- visits -----------------------------------------------------------------------------


class Log:
    """What a page asks for from now on, with what becomes of it, and what it complains about."""

    def __init__(self, page: Page) -> None:
        self.requests: list[Request] = []
        self.answered: set[Request] = set()
        self.sockets: list[str] = []
        self.console: list[str] = []
        # Not the methods themselves: Playwright keeps a note in each handler.
        page.on("request", lambda request: self.requests.append(request))
        page.on("requestfinished", lambda request: self.answered.add(request))
        page.on("requestfailed", lambda request: self.answered.add(request))
        page.on("websocket", lambda socket: self.sockets.append(socket.url))
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.console.append(f"uncaught: {error}"))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.console.append(message.text)

    def records(self) -> list[dict[str, Any]]:
        """Return a record of each request: address, status, and what went wrong."""
        records = [{"url": url, "status": 0, "failure": ""} for url in self.sockets]
        for request in self.requests:
            if not request.url.startswith(("data:", "blob:", "about:")):
                failure = request.failure or ""
                response = None if failure else request.response()
                status = response.status if response else 0
                records.append({"url": request.url, "status": status, "failure": failure})
        return records


def ask(page: Page, question: str, *arguments: Any) -> Any:
    """Call a function of ``observe.js`` in ``page`` and return its answer."""
    call = ", ".join(repr(each) for each in arguments)
    return page.evaluate(f"{OBSERVE.strip()}.{question}({call})")


def approach(part: Locator) -> None:
    """Scroll to ``part``, and wait until the browser has laid out the section it stands in."""
    part.evaluate(
        """async element => {
            element.scrollIntoView({block: "center"});
            const frame = () => new Promise(requestAnimationFrame);
            for (let wait = 0; wait < 60 && !element.checkVisibility(
                {contentVisibilityAuto: true}); wait++) await frame();
            await frame();
        }"""
    )


@contextlib.contextmanager
def opened(browser: Browser, address: str, **options: Any) -> Iterator[tuple[Page, Log]]:
    """Open ``address`` in a fresh context, wait until it is at rest, and close it afterwards."""
    context = browser.new_context(reduced_motion="reduce", **options)
    try:
        page = context.new_page()
        log = Log(page)
        page.goto(address, wait_until="load")
        if options.get("java_script_enabled", True):
            ask(page, "scrollThrough")
        settle(page, log)
        yield page, log
    finally:
        context.close()


def settle(page: Page, log: Log) -> None:
    """Wait, at most five seconds, until no request is under way."""
    for _ in range(100):
        page.wait_for_timeout(50)
        if log.answered.issuperset(log.requests):
            return


def run_axe(page: Page, **options: Any) -> dict[str, Any]:
    """Run axe in ``page``; return the violations and the names of the rules that it passed.

    It has to be the last thing asked: the page looks the same, but is made of fewer parts.
    """
    if not AXE.is_file():
        return {}
    ask(page, "eachLookOnce")
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8") + "\n;true")
    return page.evaluate(
        """async options => {
          const { violations, passes } = await axe.run(document, options);
          const nodes = (each) => each.nodes.map(({ target, html }) =>
            ({ target: target.join(" "), html: html.slice(0, 200) }));
          return {
            violations: violations.map((each) =>
              ({ rule: each.id, help: each.help, nodes: nodes(each) })),
            passed: passes.map((each) => each.id),
          };
        }""",
        {"preload": False, "resultTypes": ["violations"], **options},
    )


Visit = dict[str, Any]


def visit_desktop(browser: Browser, address: str) -> Visit:
    """Open a page on a wide screen, once, and ask about it light, dark and printed."""
    theme, colours, axe = {}, {}, {}
    with opened(browser, address, color_scheme="light", **DESKTOP) as (page, log):
        ask(page, "layOut")
        seen = ask(page, "unfolded")
        settle(page, log)
        for each in ("light", "dark"):
            page.emulate_media(color_scheme=each)
            theme[each], colours[each] = ask(page, "theme", each), ask(page, "colours")
        page.emulate_media(media="print")
        page.set_viewport_size(PAPER)
        printed = ask(page, "printed", NOT_PRINTED)
        settle(page, log)
        page.emulate_media(media="screen")
        page.set_viewport_size(DESKTOP["viewport"])
        axe["dark"] = run_axe(page, runOnly={"type": "rule", "values": OF_COLOURS})
        page.emulate_media(color_scheme="light")
        ask(page, "theme", "light")
        axe["light"] = run_axe(page)
        return {
            "reader": "desktop", "address": address, "requests": log.records(),
            "console": log.console, "seen": seen, "colours": colours, "theme": theme, "axe": axe,
            "printed": printed,
        }  # fmt: skip


def visit_phone(browser: Browser, address: str) -> Visit:
    """Open a page on a phone of 360 pixels, as it comes and with everything unfolded."""
    limit = PHONE["viewport"]["width"]
    with opened(browser, address, **PHONE) as (page, _log):
        ask(page, "layOut")
        folded = ask(page, "width", limit)
        ask(page, "openDetails")
        unfolded, cut = ask(page, "width", limit), ask(page, "cut")
        axe = run_axe(page, runOnly={"type": "rule", "values": ON_PHONE})
        widths = {"folded": folded, "unfolded": unfolded}
        return {"reader": "phone", "widths": widths, "cut": cut, "axe": axe}


def visit_by_keyboard(browser: Browser, address: str) -> Visit:
    """Walk through a page with the Tab key alone."""
    with opened(browser, address, **DESKTOP) as (page, _log):
        wanted = ask(page, "watchKeyboard")
        session = page.context.new_cdp_session(page)
        # The one message that a press of Tab needs; keyboard.press() sends several.
        tab = {"type": "rawKeyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
        for pressed in range(wanted + 100):
            session.send("Input.dispatchKeyEvent", tab)
            if pressed % 10 == 9 and page.evaluate("document.activeElement === document.body"):
                break
        return {"reader": "keyboard", **ask(page, "keyboard")}


def visit_without_scripts(browser: Browser, address: str, usual: Visit) -> Visit:
    """Open a page where scripts are off, to compare it with its ``usual`` visit."""
    with opened(browser, address, java_script_enabled=False, **DESKTOP) as (page, _log):
        ask(page, "layOut")
        return {"reader": "without scripts", "seen": ask(page, "unfolded"), "usual": usual["seen"]}


def write_down(name: str, visit: Visit) -> Path:
    """Keep all that a visit saw: what the page asked for, what axe passed."""
    return published.write_report(published.REPORTS / visit["reader"] / f"{name}.json", visit)


# --- promises ---------------------------------------------------------------------------


def third_parties(visit: Visit) -> list[str]:
    """Nothing but the book's own host is asked for anything, and nothing asked for is missing."""
    home = urlsplit(visit["address"]).netloc
    faults = []
    for request in visit["requests"]:
        if urlsplit(request["url"]).netloc != home:
            faults.append(f"third party: {request['url']}")
        elif request["failure"] or request["status"] >= 400:
            faults.append(f"not there: {request['url']} {request['failure'] or request['status']}")
    return faults


def theme_does_not_follow(visit: Visit) -> list[str]:
    """A system in dark mode gets the dark page, and a drawing changes its colours with it."""
    faults = [
        f"the page is {shown!r} where the system prefers {theme!r}"
        for theme, shown in visit["theme"].items()
        if shown != theme
    ]
    pairs = zip(visit["colours"]["light"], visit["colours"]["dark"], strict=True)
    same = [light["name"] for light, dark in pairs if light["painted"] == dark["painted"]]
    return faults + [f"drawing that stays as it was: {name}" for name in same]


def inaccessible(result: dict[str, Any], at_least: int) -> list[str]:
    """Axe finds no violation; an axe that passed fewer rules than ``at_least`` did not run."""
    if result and len(result["passed"]) < at_least:
        return [f"axe passed no more than {result['passed']}"]
    return [
        f"{violation['rule']}: {violation['help']}: {node['target']} {node['html']}"
        for violation in result.get("violations", [])
        for node in violation["nodes"]
    ]


def sideways(visit: Visit) -> list[str]:
    """On a phone 360 pixels wide, nobody has to scroll sideways to read."""
    limit = PHONE["viewport"]["width"]
    return [
        f"{state}: {found['width']} pixels wide; {'; '.join(found['culprits'])}"
        for state, found in visit["widths"].items()
        if found["width"] > limit
    ]


def unreachable(visit: Visit) -> list[str]:
    """By keyboard all is reached, in sight; first comes a skip link (axe asks where it leads)."""
    faults = [f"Tab never comes to {name}" for name in visit["missed"]] + visit["faults"]
    if "skip" not in visit["first"].lower():
        faults.append(f"the first Tab leads to {visit['first'] or 'nothing'}, not to a skip link")
    return faults


def unfit_for_print(visit: Visit) -> list[str]:
    """Paper gets dark ink, from the dark page too, whole code, and nothing to be pressed."""
    faults = [f"on paper, {fault}" for fault in visit["printed"]["cut"]]
    if visit["printed"]["controls"]:
        faults.append(f"{visit['printed']['controls']} menus or buttons would be printed")
    if max(visit["printed"]["ink"]) > 127:
        faults.append(f"the text would be printed in the pale colour {visit['printed']['ink']}")
    return faults


def words(text: str) -> set[str]:
    """Return the words of a text that are long enough to mean something."""
    return set(re.findall(r"[^\W\d_]{5,}", text.lower()))


def lost_without_scripts(visit: Visit) -> list[str]:
    """Without scripts all is there to read: text, formulas and figures."""
    faults = visit["seen"]["formulas"]["faults"] + visit["seen"]["figures"]["faults"]
    before, after = words(visit["usual"]["text"]), words(visit["seen"]["text"])
    if len(lost := before - after) > 0.05 * len(before):
        faults.append(f"{len(lost)} of {len(before)} words are gone, such as {sorted(lost)[:8]}")
    for kind in ("formulas", "figures"):
        here, wanted = visit["seen"][kind]["count"], visit["usual"][kind]["count"]
        if here < wanted:
            faults.append(f"only {here} of {wanted} {kind} are there")
    return faults


PROMISES: dict[str, dict[str, Callable[[Visit], list[str]]]] = {
    "desktop": {
        "nobody else is asked": third_parties,
        "no complaint in the console": lambda visit: visit["console"],
        "formulas typeset": lambda visit: visit["seen"]["formulas"]["faults"],
        "markup rendered": lambda visit: visit["seen"]["markup"],
        "figures shown": lambda visit: visit["seen"]["figures"]["faults"],
        "accessible by light": lambda visit: inaccessible(visit["axe"]["light"], at_least=16),
        "accessible in the dark": lambda visit: inaccessible(visit["axe"]["dark"], at_least=1),
        "follows the system's theme": theme_does_not_follow,
        "fit for print": unfit_for_print,
    },
    "phone": {
        "no sideways scroll": sideways,
        "nothing cut off": lambda visit: visit["cut"],
        "accessible by touch": lambda visit: inaccessible(visit["axe"], at_least=1),
    },
    "keyboard": {"all by keyboard": unreachable},
    "without scripts": {"all without scripts": lost_without_scripts},
}


def faults(visit: Visit) -> list[str]:
    """Return each broken promise of a visit, and what broke it."""
    kept = PROMISES[visit["reader"]]
    return [f"{promise}: {fault}" for promise, found in kept.items() for fault in found(visit)]
