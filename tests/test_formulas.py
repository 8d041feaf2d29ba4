"""Formulas: typeset while the book is built, for the eye and for screen readers."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from sphinx.testing.util import SphinxTestApp

from tools.cache import ROOT

EXTENSIONS = ROOT / "book" / "_extensions"
sys.path.insert(0, str(EXTENSIONS))

from formulas import Formula, display_source, typeset  # noqa: E402


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"x = 1 \tag{A}", r"x = 1\tag{A}"),
        (r"a \\ b \tag{2}", r"\begin{split}a \\ b\end{split}\tag{2}"),
        ("a\n\nb", r"\begin{aligned}a\\b\end{aligned}"),
        (r"\begin{align}a&=b\tag{x}\end{align}", r"\begin{align*}a&=b\tag{x}\end{align*}"),
        (r"\begin{gather*}a\\b\end{gather*}", r"\begin{gather*}a\\b\end{gather*}"),
    ],
)
def test_a_displayed_formula_is_prepared(text, expected):
    """KaTeX would count such environments itself, from 1 in each formula."""
    assert display_source(text) == expected
    (html,), refused = typeset([Formula(expected, display=True)])
    assert refused == []
    assert ("tag" in html) == ("tag" in text)


def build(folder: Path, text: str) -> tuple[str, str]:
    """Build a page of Markdown; return its main part and the warnings."""
    source = folder / "source"
    source.mkdir()
    lines = ["project = 'test'", f"import sys; sys.path.insert(0, {str(EXTENSIONS)!r})"]
    lines += ["extensions = ['myst_parser', 'formulas']", "html_theme = 'basic'"]
    lines += ["myst_enable_extensions = ['dollarmath']", "myst_dmath_double_inline = True"]
    (source / "conf.py").write_text("\n".join(lines))
    (source / "index.md").write_text(text, encoding="utf-8")
    app = SphinxTestApp("html", srcdir=source, builddir=folder / "build")
    try:
        app.build()
    finally:
        app.cleanup()
    html = (app.outdir / "index.html").read_text(encoding="utf-8")
    return html[html.find('role="main"') :], app.warning.getvalue()


def test_a_page_of_formulas_is_built(tmp_path):
    text = "# About $x^2$\n\nInline $\\frac{a}{b}$ and $$b \\text{ is <b>}$$ here, see below.\n"
    html, warnings = build(tmp_path, text)
    assert warnings == ""
    assert html.count('<span class="katex-html" aria-hidden="true">') >= 3
    assert "<mfrac><mi>a</mi><mi>b</mi></mfrac>" in html
    assert r'<annotation encoding="application/x-tex">\frac{a}{b}</annotation>' in html
    assert "<b>" not in html
    # A displayed formula inside a paragraph does not end the paragraph.
    assert re.search(r'<p>Inline.*?<span [^>]*class="math display[^>]*>.*?here, see', html, re.S)


def test_a_refused_formula_ends_the_build_and_is_named(tmp_path):
    with pytest.raises(Exception, match=r"(?s)index: KaTeX refuses.*\\nosuch\{1\}"):
        build(tmp_path, "# Title\n\nGood $x$, bad $\\nosuch{1}$.\n")
