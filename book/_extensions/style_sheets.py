"""One style sheet instead of eleven, with only the rules that some page can use.

The theme brings half a megabyte of style sheets, most of it for parts this book does not have.
:func:`bundle` joins them in their order; :func:`prune` drops the rules whose class names, ids
and elements occur in no page and in no script. A name that a script might set counts as used
wherever it occurs in the script, so that states such as ``show`` or ``collapsed`` stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import tinycss2
from icons import CHARACTER, mask_of

WORD = re.compile(r"[A-Za-z_][\w-]*")
CLASSES = re.compile(r'\bclass="([^"]*)"')
IDS = re.compile(r'\bid="([^"]*)"')
TAGS = re.compile(r"<([a-zA-Z][a-zA-Z0-9-]*)")
# Elements that a browser adds, or that a script makes, without their standing in any page.
ALWAYS = {"html", "body", "tbody", "mark", "dialog"}
ICON_FONT = re.compile(r"Font ?Awesome", re.IGNORECASE)
# Every icon is a drawing in its page, and a drawing has nothing before it. A browser would make a
# document of each mask all the same, a third of what the first look at a page costs.
BEFORE_ICON = re.compile(r"\.fa-[\w-]+::?before")
KEPT_AT_RULES = {"media", "supports", "layer", "container"}


class Used:
    """The names that occur in pages and scripts."""

    def __init__(self) -> None:
        """Begin with the elements that are always there."""
        self.classes: set[str] = set()
        self.ids: set[str] = set()
        self.tags: set[str] = set(ALWAYS)
        self.words: set[str] = set()

    def add_page(self, html: str) -> None:
        """Note the names in a page, and the words of the scripts inside it."""
        for text in set(CLASSES.findall(html)):
            self.classes.update(text.split())
        self.ids.update(IDS.findall(html))
        self.tags.update(tag.lower() for tag in set(TAGS.findall(html)))
        for script in re.findall(r"<script\b[^>]*>([^<]+)</script>", html):
            self.add_script(script)

    def add_script(self, text: str) -> None:
        """Note every word of a script, because any of them may become a class name."""
        self.words.update(WORD.findall(text))

    def can_match(self, selector: list) -> bool:
        """Say whether one selector, as tokens, may match an element of some page.

        What stands in brackets is left out of the question, because ``:not(.a)`` matches
        where ``a`` is absent.
        """
        previous = None
        for token in selector:
            if token.type == "hash" and token.value not in self.ids | self.words:
                return False
            if token.type == "ident" and not self._knows(token.value, previous):
                return False
            previous = token
        return True

    def _knows(self, name: str, previous) -> bool:
        before = previous.value if previous is not None and previous.type == "literal" else ""
        if before == ".":
            return name in self.classes or name in self.words
        if before in (":", "::"):
            return True
        return name.lower() in self.tags or name in self.words


def bundle(static: Path, names: Iterable[str]) -> str:
    """Join style sheets of the folder ``static`` into one that stands in that folder.

    Addresses in ``url()`` are made relative to the folder, imports are put in place.

    Raises:
        FileNotFoundError: a style sheet is not there.
    """
    return "\n".join(_with_imports(static, PurePosixPath(name)) for name in names)


def _with_imports(static: Path, name: PurePosixPath) -> str:
    text = (static / name).read_text(encoding="utf-8")
    text = re.sub(r"/\*# sourceMappingURL=.*?\*/", "", text)

    def imported(match: re.Match[str]) -> str:
        return _with_imports(static, _joined(name.parent, match[1]))

    def moved(match: re.Match[str]) -> str:
        return f"url({_joined(name.parent, match[2])})"

    text = re.sub(r'@import\s+(?:url\()?["\']?([^"\')\s;]+)["\']?\)?\s*;', imported, text)
    # Addresses that lead outside (with a scheme) and drawings written out stay as they are.
    return re.sub(r"url\((['\"]?)(?!['\"]?(?:[a-z]+:|#|/))([^'\")]+)\1\)", moved, text)


def _joined(folder: PurePosixPath, address: str) -> PurePosixPath:
    parts: list[str] = []
    for part in (folder / address).parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return PurePosixPath(*parts)


def prune(css: str, used: Used) -> str:
    """Return a style sheet without the rules that no page can use, and without icon fonts.

    Rules whose content is a character of an icon font get the drawing instead. A font face
    stays while a rule that is left names its family; of its formats only ``woff2`` stays.

    Raises:
        icons.MissingIcon: a rule that is left uses an icon without a drawing.
    """
    rules = tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True)
    kept = _kept(rules, used)
    icon_variables = dict(
        re.findall(r"(--pst-(?:icon|breadcrumb)-[\w-]+):\s*([^;}]+)", "".join(kept))
    )
    faces = [text for text in kept if text.startswith("@font-face")]
    plain = [_with_drawings(text, icon_variables) for text in kept if text not in faces]
    names = "".join(plain)
    faces = [_one_format(text) for text in faces if _is_used(_family(text), names)]
    return "".join(faces) + names


def _kept(rules: list, used: Used) -> list[str]:
    result = []
    for rule in rules:
        if rule.type == "qualified-rule":
            matching = filter(used.can_match, _selectors(rule.prelude))
            selectors = [tinycss2.serialize(one).strip() for one in matching]
            if text := ",".join(one for one in selectors if not BEFORE_ICON.fullmatch(one)):
                result.append(f"{text}{{{_declarations(rule.content)}}}")
        elif rule.type == "at-rule" and rule.content is None:
            continue  # @charset: the server says it; imports are in place already
        elif rule.type == "at-rule" and rule.lower_at_keyword in KEPT_AT_RULES:
            inner = tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True)
            if text := "".join(_kept(inner, used)):
                head = tinycss2.serialize(rule.prelude).strip()
                result.append(f"@{rule.at_keyword} {head}{{{text}}}")
        elif rule.type == "at-rule":
            head = tinycss2.serialize(rule.prelude).strip()
            space = " " if head else ""
            result.append(f"@{rule.at_keyword}{space}{head}{{{_declarations(rule.content)}}}")
    return result


def _selectors(prelude: list) -> list[list]:
    """Split a list of selectors at its commas, each part as a list of tokens."""
    found: list[list] = [[]]
    for token in prelude:
        if token.type == "literal" and token.value == ",":
            found.append([])
        else:
            found[-1].append(token)
    return found


def _declarations(content: list) -> str:
    text = tinycss2.serialize([token for token in content if token.type != "comment"])
    return re.sub(r"\s*\n\s*", " ", text).strip().rstrip(";")


def _with_drawings(text: str, variables: dict[str, str]) -> str:
    def drawn(match: re.Match[str]) -> str:
        value = match[1].strip()
        while (name := re.fullmatch(r"var\((--[\w-]+)\)", value)) and name[1] in variables:
            value = variables[name[1]].strip()
        return mask_of(value) if CHARACTER.fullmatch(value) else match[0]

    text = re.sub(r"(?<![\w-])content:\s*([^;}]+)", drawn, text)
    # The variables themselves and the icon font's own shorthand have no use any more.
    text = re.sub(r"--pst-icon-[\w-]+:[^;}]*;?", "", text)
    return re.sub(r"font(?:-family)?:\s*(?:var\(--fa-font-\w+\)|Font Awesome[^;}]*);?", "", text)


def _family(text: str) -> str:
    return re.search(r"font-family:\s*['\"]?([^;'\"}]+)", text)[1].strip()


def _is_used(family: str, css: str) -> bool:
    return family in css and not ICON_FONT.match(family)


def _one_format(text: str) -> str:
    sources = re.findall(r"url\([^)]*\)\s*format\(['\"]?woff2['\"]?\)", text)
    return re.sub(r"src:[^;}]*", f"src:{sources[0]}", text) if sources else text
