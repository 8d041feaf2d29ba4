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
ENVIRONMENT = re.compile(r"\A\s*\\begin\{([a-z]+\*?)\}.*\\end\{\1\}\s*\Z", re.DOTALL)
# The environments that would count their lines. A formula has the tag that its author wrote.
COUNTED = re.compile(r"\\(begin|end)\{(align|gather|alignat|equation)\}")

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


def display_source(text: str, *, nowrap: bool = False) -> str:
    r"""Return a displayed formula as KaTeX takes it, by the rules that Sphinx has for formulas.

    Paragraphs become aligned lines, ``\\`` breaks a line, a formula that is an environment of
    amsmath stays one.

    Args:
        text: the formula without its delimiters.
        nowrap: whether the text is a whole environment (Sphinx's word for that).
    """
    if nowrap or ENVIRONMENT.match(text):
        return COUNTED.sub(r"\\\1{\2*}", text).strip()
    tags = "".join(TAG.findall(text))
    parts = [part.strip() for part in TAG.sub("", text).split("\n\n") if part.strip()]
    parts = [rf"\begin{{split}}{part}\end{{split}}" if r"\\" in part else part for part in parts]
    return (parts[0] if len(parts) == 1 else _lines(parts)) + tags


def _lines(parts: list[str]) -> str:
    return r"\begin{aligned}" + r"\\".join(parts) + r"\end{aligned}" if parts else ""


def _formula_of(node: nodes.math | nodes.math_block) -> Formula:
    if isinstance(node, nodes.math):
        return Formula(node.astext().strip(), display=False)
    source = display_source(node.astext(), nowrap=node.get("nowrap", False))
    return Formula(source, display=True)


def _typeset_page(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Typeset the formulas of a page at once, before its HTML is written."""
    if app.builder.format != "html":
        return
    found = list(doctree.findall(lambda n: isinstance(n, (nodes.math, nodes.math_block))))
    _, refused = typeset([_formula_of(node) for node in found])
    if refused:
        raise ExtensionError(f"ERROR: {name}: KaTeX refuses\n" + "\n".join(refused))


def _html_of(writer: Any, formula: Formula) -> str:
    (html,), refused = typeset([formula])
    if refused:  # a formula that was not in the page's tree, such as one in a title
        raise ExtensionError(f"ERROR: {writer.docnames}: KaTeX refuses\n{refused[0]}")
    return html


def _visit_inline(writer: Any, node: nodes.math) -> None:
    html = _html_of(writer, _formula_of(node))
    writer.body.append(writer.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    writer.body.append(html + "</span>")
    raise nodes.SkipNode


def _visit_display(writer: Any, node: nodes.math_block) -> None:
    html = _html_of(writer, _formula_of(node))
    # A paragraph may hold a displayed formula, but no div.
    tag = "span" if isinstance(node.parent, nodes.TextElement) else "div"
    classes = "math display notranslate nohighlight"
    # A long formula scrolls inside itself, by keyboard too (see pages.js).
    scrolls = {"tabindex": "0", "role": "group", "aria-label": "Formula, scrolls sideways"}
    attributes = scrolls | {"data-scrolls": ""}
    writer.body.append(writer.starttag(node, tag, "", CLASS=classes, **attributes))
    writer.body.append(html)
    writer.body.append(f"</{tag}>" + ("\n" if tag == "div" else ""))
    raise nodes.SkipNode
