r"""Formulas typeset while the book is built, so that a reader needs no script to see them.

KaTeX (``book/_vendor/katex``) runs in a JavaScript engine inside Python. It gives each formula
twice: as HTML for the eye, and as MathML for screen readers. A formula that KaTeX does not
accept ends the build and is named with its page.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from py_mini_racer import MiniRacer
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

VENDOR = Path(__file__).resolve().parents[1] / "_vendor" / "katex"

TAG = re.compile(r"\\tag\*?\s*\{(?:[^{}]|\{[^{}]*\})*\}")
LABEL = re.compile(r"\\label\s*\{[^{}]*\}")
# The environments that number their lines, and those that leave it to us.
UNNUMBERED = {
    "align": "aligned", "gather": "gathered", "alignat": "alignedat", "equation": None,
}  # fmt: skip
ENVIRONMENT = re.compile(
    r"\A\s*\\begin\{(?P<name>[a-z]+)\*?\}(?P<body>.*)\\end\{(?P=name)\*?\}\s*\Z", re.DOTALL
)

# Called with a list of [formula, is display]; answers with a list of [HTML, error message].
# `strict` refuses what LaTeX, and so MathJax in Colab, would not read either.
TYPESET = r"""
(formulas) => formulas.map(([formula, displayMode]) => {
  try {
    return [katex.renderToString(formula, {displayMode, strict: "error", output: "htmlAndMathml"}), null];
  } catch (problem) {
    return [null, String(problem.message)];
  }
})
"""  # noqa: E501


class Formula(NamedTuple):
    """A formula as KaTeX takes it."""

    source: str
    display: bool


_typeset: dict[Formula, str] = {}


def setup(app: Sphinx) -> dict[str, Any]:
    """Make this the renderer of formulas in HTML."""
    app.add_html_math_renderer("katex", (_visit_inline, None), (_visit_display, None))
    app.connect("config-inited", lambda _app, config: _use_it(config))
    app.connect("doctree-resolved", _typeset_page)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _use_it(config: Any) -> None:
    config.html_math_renderer = "katex"


def typeset(formulas: list[Formula]) -> tuple[list[str], list[str]]:
    """Typeset formulas with KaTeX, each different one only once.

    Args:
        formulas: what to typeset.

    Returns:
        The HTML of each formula, empty for one that was refused, and a line for each refusal.
    """
    fresh = [formula for formula in dict.fromkeys(formulas) if formula not in _typeset]
    refused = {}
    if fresh:
        # A context of its own for each page (a tenth of a second): one that is not closed
        # keeps Python from ending.
        with MiniRacer() as context:
            context.eval((VENDOR / "katex.min.js").read_text(encoding="utf-8"))
            answers = json.loads(context.eval(f"JSON.stringify(({TYPESET})({json.dumps(fresh)}))"))
        for formula, (html, problem) in zip(fresh, answers, strict=True):
            if problem is None:
                _typeset[formula] = html
            else:
                refused[formula] = f"{problem}\n    in: {formula.source.strip()}"
    return [_typeset.get(formula, "") for formula in formulas], list(refused.values())


def display_source(text: str, number: str | None = None, *, nowrap: bool = False) -> str:
    r"""Return a displayed formula as KaTeX takes it, by the rules that Sphinx has for formulas.

    Paragraphs become aligned lines, ``\\`` breaks a line, a formula that is an environment of
    amsmath stays one. KaTeX would count such environments itself on each page; the number that
    Sphinx gave, to which links point, takes the place of that count.

    Args:
        text: the formula without its delimiters.
        number: the number to show beside it, if any.
        nowrap: whether the text is a whole environment (Sphinx's word for that).
    """
    text = LABEL.sub("", text)
    if nowrap or ENVIRONMENT.match(text):
        inner = _without_count(text)
    else:
        tags = "".join(TAG.findall(text))
        parts = [part.strip() for part in TAG.sub("", text).split("\n\n") if part.strip()]
        parts = [
            rf"\begin{{split}}{part}\end{{split}}" if r"\\" in part else part for part in parts
        ]
        inner = parts[0] if len(parts) == 1 else _lines(parts)
        inner += tags
    # A tag that the author wrote says more than a count.
    return inner if number is None or TAG.search(inner) else rf"{inner}\tag{{{number}}}"


def _lines(parts: list[str]) -> str:
    return r"\begin{aligned}" + r"\\".join(parts) + r"\end{aligned}" if parts else ""


def _without_count(text: str) -> str:
    match = ENVIRONMENT.match(text)
    if match is None or match["name"] not in UNNUMBERED:
        return text.strip()
    name, body = match["name"], match["body"]
    if TAG.search(body):  # each line may carry a tag in these, not in the inner ones
        return rf"\begin{{{name}*}}{body}\end{{{name}*}}"
    inner = UNNUMBERED[name]
    return rf"\begin{{{inner}}}{body}\end{{{inner}}}" if inner else body.strip()


def _formula_of(node: nodes.math | nodes.math_block, builder: Any) -> Formula:
    if isinstance(node, nodes.math):
        return Formula(node.astext().strip(), display=False)
    number = _number(node, builder) if node.get("number") else None
    source = display_source(node.astext(), number, nowrap=node.get("nowrap", False))
    return Formula(source, display=True)


def _number(node: nodes.math_block, builder: Any) -> str:
    """Return the number that links to an equation show; like Sphinx's, but for any page."""
    if not (builder.config.numfig and builder.config.math_numfig):
        return str(node["number"])
    numbers = builder.env.toc_fignumbers.get(node["docname"], {}).get("displaymath", {})
    found = ".".join(map(str, numbers.get(node["ids"][0] if node["ids"] else "", ())))
    return builder.config.math_numsep.join(found.rsplit(".", 1)) or str(node["number"])


def _typeset_page(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Typeset the formulas of a page at once, before its HTML is written."""
    if app.builder.format != "html":
        return
    found = list(doctree.findall(lambda n: isinstance(n, (nodes.math, nodes.math_block))))
    _, refused = typeset([_formula_of(node, app.builder) for node in found])
    if refused:
        raise ExtensionError(f"ERROR: {name}: KaTeX refuses\n" + "\n".join(refused))


def _html_of(writer: Any, formula: Formula) -> str:
    (html,), refused = typeset([formula])
    if refused:  # a formula that was not in the page's tree, such as one in a title
        raise ExtensionError(f"ERROR: {writer.docnames}: KaTeX refuses\n{refused[0]}")
    return html


def _visit_inline(writer: Any, node: nodes.math) -> None:
    html = _html_of(writer, _formula_of(node, writer.builder))
    writer.body.append(writer.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    writer.body.append(html + "</span>")
    raise nodes.SkipNode


def _visit_display(writer: Any, node: nodes.math_block) -> None:
    html = _html_of(writer, _formula_of(node, writer.builder))
    # A paragraph may hold a displayed formula, but no div.
    tag = "span" if isinstance(node.parent, nodes.TextElement) else "div"
    classes = "math display notranslate nohighlight"
    # A long formula scrolls inside itself, by keyboard too (see pages.js).
    scrolls = {"tabindex": "0", "role": "group", "aria-label": "Formula, scrolls sideways"}
    attributes = scrolls | {"data-scrolls": ""}
    writer.body.append(writer.starttag(node, tag, "", CLASS=classes, **attributes))
    writer.body.append(html)
    if node.get("number"):
        writer.add_permalink_ref(node, "Link to this equation")
    writer.body.append(f"</{tag}>" + ("\n" if tag == "div" else ""))
    raise nodes.SkipNode


__all__ = ["Formula", "display_source", "setup", "typeset"]
