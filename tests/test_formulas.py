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
    ("text", "number", "nowrap", "expected"),
    [
        ("x = 1", None, False, "x = 1"),
        ("x = 1", "3", False, r"x = 1\tag{3}"),
        (r"x = 1 \tag{A}", "3", False, r"x = 1\tag{A}"),
        (r"a \\ b \tag{2}", None, False, r"\begin{split}a \\ b\end{split}\tag{2}"),
        ("a\n\nb", None, False, r"\begin{aligned}a\\b\end{aligned}"),
        (r"\begin{align}a&=b\end{align}", "4", True, r"\begin{aligned}a&=b\end{aligned}\tag{4}"),
        (r"\begin{equation}\label{e}a\end{equation}", "5", True, r"a\tag{5}"),
        (r"\begin{gather*}a\\b\end{gather*}", None, True, r"\begin{gathered}a\\b\end{gathered}"),
        (
            r"\begin{align}a&=b\tag{x}\\c&=d\end{align}", "6", True,
            r"\begin{align*}a&=b\tag{x}\\c&=d\end{align*}",
        ),
    ],
)  # fmt: skip
def test_a_displayed_formula_is_prepared(text, number, nowrap, expected):
    source = display_source(text, number, nowrap=nowrap)
    assert source == expected
    assert "katex-display" in one(source, display=True)


def build(folder: Path, text: str, **config) -> SphinxTestApp:
    source = folder / "source"
    source.mkdir()
    lines = ["project = 'test'", f"import sys; sys.path.insert(0, {str(EXTENSIONS)!r})"]
    lines += ["extensions = ['myst_parser', 'formulas']"]
    lines += ["myst_enable_extensions = ['dollarmath', 'amsmath']", "html_theme = 'basic'"]
    lines += ["myst_dmath_double_inline = True"]
    lines += [f"{name} = {value!r}" for name, value in config.items()]
    (source / "conf.py").write_text("\n".join(lines))
    (source / "index.md").write_text(text, encoding="utf-8")
    app = SphinxTestApp("html", srcdir=source, builddir=folder / "build")
    try:
        app.build()
    finally:
        app.cleanup()
    return app


@pytest.mark.parametrize("numfig", [False, True])
def test_a_page_of_formulas_is_built(tmp_path, numfig):
    text = (
        "# About $x^2$\n\nInline $a_1$ and $$b_2$$ here, see {eq}`mine`.\n\n"
        "$$\nc_3\n$$ (mine)\n\n\\begin{align}\nd &= e\n\\end{align}\n"
    )
    app = build(tmp_path, text, numfig=numfig)
    html = (app.outdir / "index.html").read_text(encoding="utf-8")
    article = html[html.find('role="main"') :]
    assert app.warning.getvalue() == ""
    assert "mathjax" not in html.lower().replace("mathjax_ignore", "").replace("tex2jax", "")
    assert article.count('class="katex"') >= 5
    assert 'id="equation-mine"' in html
    assert len(re.findall(r'class="katex-tag"', article)) == 2
    # A displayed formula inside a paragraph does not end the paragraph.
    assert re.search(r'<p>Inline.*?<span [^>]*class="math display[^>]*>.*?here, see', article, re.S)


def test_a_refused_formula_ends_the_build_and_is_named(tmp_path):
    with pytest.raises(Exception, match=r"(?s)index: KaTeX refuses.*\\nosuch\{1\}"):
        build(tmp_path, "# Title\n\nGood $x$, bad $\\nosuch{1}$.\n")
