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


def one(source: str, *, display: bool = False) -> str:
    (html,), refused = typeset([Formula(source, display)])
    assert refused == []
    return html


def test_a_formula_comes_for_the_eye_and_for_screen_readers():
    html = one(r"\frac{a}{b}")
    assert '<span class="katex-html" aria-hidden="true">' in html
    assert "<mfrac><mi>a</mi><mi>b</mi></mfrac>" in html
    assert r'<annotation encoding="application/x-tex">\frac{a}{b}</annotation>' in html
    assert "katex-display" not in html
    assert one("x", display=True).startswith('<span class="katex-display">')


def test_signs_of_html_do_not_become_html():
    html = one(r"a < b \text{ and <b> \& 'more'}")
    assert "<b>" not in html
    assert "&lt;" in html


@pytest.mark.parametrize("source", [r"\frac{a}{", r"\nosuchcommand", r"x \tag{1}", "5 €€ % _"])
def test_what_is_refused_is_named(source):
    html, refused = typeset([Formula("x", False), Formula(source, False)])
    assert html[1] == ""
    assert len(refused) == 1
    assert source in refused[0]
    assert typeset([Formula(source, False)])[1], "refused again"


@pytest.mark.parametrize(
    ("text", "nowrap", "expected"),
    [
        ("x = 1", False, "x = 1"),
        (r"x = 1 \tag{A}", False, r"x = 1\tag{A}"),
        (r"a \\ b \tag{2}", False, r"\begin{split}a \\ b\end{split}\tag{2}"),
        ("a\n\nb", False, r"\begin{aligned}a\\b\end{aligned}"),
        (r"\begin{align}a&=b\tag{x}\end{align}", True, r"\begin{align*}a&=b\tag{x}\end{align*}"),
        (r"\begin{gather*}a\\b\end{gather*}", True, r"\begin{gather*}a\\b\end{gather*}"),
        (r"\begin{equation}a\end{equation}", False, r"\begin{equation*}a\end{equation*}"),
    ],
)
def test_a_displayed_formula_is_prepared(text, nowrap, expected):
    """KaTeX would count such environments itself, from 1 in each formula."""
    source = display_source(text, nowrap=nowrap)
    assert source == expected
    html = one(source, display=True)
    assert "katex-display" in html
    assert ("tag" in html) == ("tag" in text)


def build(folder: Path, text: str) -> SphinxTestApp:
    source = folder / "source"
    source.mkdir()
    lines = ["project = 'test'", f"import sys; sys.path.insert(0, {str(EXTENSIONS)!r})"]
    lines += ["extensions = ['myst_parser', 'formulas']"]
    lines += ["myst_enable_extensions = ['dollarmath', 'amsmath']", "html_theme = 'basic'"]
    lines += ["myst_dmath_double_inline = True"]
    (source / "conf.py").write_text("\n".join(lines))
    (source / "index.md").write_text(text, encoding="utf-8")
    app = SphinxTestApp("html", srcdir=source, builddir=folder / "build")
    try:
        app.build()
    finally:
        app.cleanup()
    return app


def test_a_page_of_formulas_is_built(tmp_path):
    text = (
        "# About $x^2$\n\nInline $a_1$ and $$b_2$$ here, see below.\n\n"
        "$$\nc_3 \\tag{3}\n$$\n\n\\begin{align}\nd &= e\n\\end{align}\n"
    )
    app = build(tmp_path, text)
    html = (app.outdir / "index.html").read_text(encoding="utf-8")
    article = html[html.find('role="main"') :]
    assert app.warning.getvalue() == ""
    assert "mathjax" not in html.lower().replace("mathjax_ignore", "").replace("tex2jax", "")
    assert article.count('class="katex"') >= 5
    assert len(re.findall(r'class="katex-tag"', article)) == 1
    # A displayed formula inside a paragraph does not end the paragraph.
    assert re.search(r'<p>Inline.*?<span [^>]*class="math display[^>]*>.*?here, see', article, re.S)


def test_a_refused_formula_ends_the_build_and_is_named(tmp_path):
    with pytest.raises(Exception, match=r"(?s)index: KaTeX refuses.*\\nosuch\{1\}"):
        build(tmp_path, "# Title\n\nGood $x$, bad $\\nosuch{1}$.\n")
