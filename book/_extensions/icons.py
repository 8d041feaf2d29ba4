"""Icons as drawings in the page: no icon font and no icon script is loaded.

The theme names icons of Font Awesome, in its pages as ``<i class="fa-solid fa-bars">`` and in
its style sheets as characters of an icon font. Each becomes the drawing of
``book/_vendor/fontawesome`` in the colour of the text around it.
"""

from __future__ import annotations

import json
import re
from functools import cache
from html import escape
from pathlib import Path
from urllib.parse import quote

SVG = "http://www.w3.org/2000/svg"
VENDOR = Path(__file__).resolve().parents[1] / "_vendor" / "fontawesome"

ELEMENT = re.compile(
    r'<(?P<tag>i|span)(?P<before>[^<>]*?) class="(?P<classes>[^"<>]*\bfa[srb]?\b[^"<>]*)"'
    r"(?P<after>[^<>]*)>\s*</(?P=tag)>"
)
STYLES = {
    "fa-solid": "solid", "fas": "solid", "fa": "solid",
    "fa-brands": "brands", "fab": "brands", "fa-regular": "regular", "far": "regular",
}  # fmt: skip
SIZES = re.compile(r"fa-(lg|sm|xs|2xs|xl|2xl|\d+x|fw)\Z")
# A character of the private area, as itself or as an escape of CSS.
CHARACTER = re.compile(r"(?P<quote>[\"'])(?P<body>\\[0-9a-fA-F]{4,6}\s?|[\ue000-\uf8ff])(?P=quote)")


class MissingIcon(LookupError):
    """A page or a style sheet uses an icon that has no drawing in ``book/_vendor``."""

    def __init__(self, name: str) -> None:
        """Say what is missing and how to get it."""
        super().__init__(
            f"there is no drawing of the icon {name!r}; add it, such as '\"solid/bars\": {{}}', to "
            "book/_vendor/fontawesome/icons.json and run `make vendor`"
        )


@cache
def _table() -> dict[str, dict]:
    return json.loads((VENDOR / "icons.json").read_text(encoding="utf-8"))


@cache
def drawing(name: str) -> tuple[str, str]:
    """Return the view box and the path of an icon such as ``solid/bars`` or by another name.

    Raises:
        MissingIcon: it has not been vendored.
    """
    style, short = name.split("/")
    for known, about in _table().items():
        if known.startswith(f"{style}/") and (known == name or short in about["aliases"]):
            text = (VENDOR / f"{known}.svg").read_text(encoding="utf-8")
            box, path = re.search(r'viewBox="([^"]+)"', text), re.search(r' d="([^"]+)"', text)
            return box[1], path[1]
    raise MissingIcon(name)


def name_of(classes: str) -> str:
    """Return the icon that class names of Font Awesome mean: ``fas fa-file`` is ``solid/file``.

    Raises:
        MissingIcon: the class names name a style but no icon.
    """
    words = classes.split()
    style = next(STYLES[word] for word in words if word in STYLES)
    for word in words:
        if word.startswith("fa-") and word not in STYLES and not SIZES.match(word):
            return f"{style}/{word.removeprefix('fa-')}"
    raise MissingIcon(classes)


def draw_in_page(html: str) -> str:
    """Return a page with a drawing in the place of each icon element.

    The class names stay, because style sheets and scripts of the theme look for them.

    Raises:
        MissingIcon: an icon has no drawing.
    """
    return ELEMENT.sub(_drawn, html)


def _drawn(match: re.Match[str]) -> str:
    if not set(match["classes"].split()) & set(STYLES):
        return match[0]
    box, path = drawing(name_of(match["classes"]))
    classes = " ".join(match["classes"].split())
    # The name of the button around it is said elsewhere; `title` is no attribute of a drawing.
    rest = re.sub(r'\s+title="[^"]*"', "", match["before"] + match["after"])
    return (
        f'<svg class="svg-inline--fa {escape(classes)}"{rest} aria-hidden="true" '
        f'viewBox="{box}"><path fill="currentColor" d="{path}"/></svg>'
    )


def mask_of(character: str) -> str:
    """Return CSS that draws an icon where a style sheet has a character of the icon font.

    Args:
        character: the content with its quotes, such as ``"\\f107"``; a style sheet does not
            say which font it means, but no two drawings here share a code point.

    Raises:
        MissingIcon: no drawing has that code point.
    """
    body = CHARACTER.fullmatch(character)["body"].strip()
    code_point = body[1:].lower() if body.startswith("\\") else f"{ord(body):x}"
    for name, about in _table().items():
        if about["code_point"] == code_point:
            box, path = drawing(name)
            svg = (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}"><path d="{path}"/></svg>'
            )
            address = f'url("data:image/svg+xml,{quote(svg, safe=" =:/")}")'
            return (
                f'content:"";mask:{address} center/contain no-repeat;'
                "background-color:currentColor;display:inline-block;width:1em;height:1em"
            )
    raise MissingIcon(f"U+{code_point}")
