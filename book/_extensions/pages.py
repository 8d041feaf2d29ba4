"""What a page loads, and the last touches to its HTML.

The theme gives each page eleven style sheets and about twenty scripts. Here each page gets one
style sheet and one script, made when all pages are written, both with a hash of their content
in their address. Icons become drawings, wide tables get a box to scroll in, images get their
size, and what no page loads is removed from the built book.
"""

from __future__ import annotations

import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import icons
import packed
import style_sheets
from PIL import Image
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

BOOK = Path(__file__).resolve().parents[1]
VENDOR = BOOK / "_vendor"

# Style sheets that the theme's own template loads, before those that Sphinx lists.
THEME_STYLES = ("basic.css", "styles/pydata-sphinx-theme.css")
# Fonts that almost every formula needs; a browser would find the need for them late.
FORMULA_FONTS = ("KaTeX_Main-Regular.woff2", "KaTeX_Math-Italic.woff2")

# Scripts that are one on every page, in this order; ours first, whatever the others do.
# Bootstrap is not among them: of it the theme uses menus that drop down, which pages.js opens,
# and tooltips, which a browser has of its own.
SCRIPTS = (
    "pages.js", "documentation_options.js", "doctools.js", "sphinx_highlight.js",
    "clipboard.min.js", "copybutton.js", "scripts/sphinx-book-theme.js",
    "scripts/pydata-sphinx-theme.js",
)  # fmt: skip
# What is replaced in them. Each began its work at once, which on a phone held up the reader for a
# fifth of a second in one piece; now it has a task of its own. And the theme makes wide boxes
# reachable by keyboard, but without a name, and by measuring the whole page; pages.js does it.
AT_ONCE = ("document.readyState?e():", "document.readyState?setTimeout(e):")
PATCHES = {
    "doctools.js": [("    callback();", "    setTimeout(callback);")],
    "copybutton.js": [("    cb()\n", "    setTimeout(cb)\n")],
    "scripts/sphinx-book-theme.js": [AT_ONCE],
    "scripts/pydata-sphinx-theme.js": [
        AT_ONCE,
        ('["pre",".nboutput > .output_area",".cell_output > .output",".jp-RenderedHTMLCommon",'
         '".pst-scrollable-table-container"]', '["[data-left-to-the-theme]"]'),
    ],
}  # fmt: skip
# Scripts that only a page which holds this needs.
SCRIPTS_FOR = {
    "attention-explorer.js": re.compile(r'<div class="attention-explorer">'),
    "tokenizer-explorer.js": re.compile(r'<div class="tokenizer-explorer"'),
    "quiz.js": re.compile(r"<strong>[A-Z]\. Right\.</strong>"),
    "togglebutton.js": re.compile(r'class="[^"]*\b(toggle|dropdown)\b'),
    "design-tabs.js": re.compile(r'class="[^"]*\bsd-tab-'),
    "sphinx-thebe.js": re.compile(r"(?!)"),  # it asks third parties for a kernel
}
# Scripts written into the page for the above, or for formulas typeset in the browser.
INLINE = re.compile(
    r"toggleHint|toggleOpenOnPrint|togglebuttonSelector|THEBE_JS_URL|MathJax|"
    r"DOCUMENTATION_OPTIONS\.(pagename|search_as_you_type|theme_)"
)
# Kinds of words in code that have the colour of the text around them. Half of the elements of a
# chapter are these.
PLAIN_TOKENS = ("n", "nn", "nx", "p", "pm", "w")
TOKEN = re.compile(rf'<span class="(?:{"|".join(PLAIN_TOKENS)})">([^<]*)</span>')
# The cell above the names of the rows heads nothing.
EMPTY_HEAD = re.compile(r"<th\b([^>]*)>\s*(?:<p>\s*</p>)?\s*</th>")
# The button shows more words than this name has; without it the words are the name.
SEARCH_BUTTON = re.compile(r'(<button(?=[^>]*\bsearch-button-field\b)[^>]*?) aria-label="[^"]*"')
CODE = re.compile(r"(?P<code><pre\b.*?</pre>)", re.DOTALL)
LONGEST_LINE = 36  # letters of code that a phone 360 pixels wide shows for certain
# Boxes that may scroll can be reached by keyboard. Those that do not scroll lose this again when
# they are measured (pages.js); it has to stand in the page because not all are, at first.
SCROLLS = 'tabindex="0" role="group" aria-label="{}" data-scrolls=""'
# The theme's own box around a table; tables that come as HTML, such as data frames, lack it.
TABLE = re.compile(
    r'(?P<box><div class="pst-scrollable-table-container"[^>]*>\s*)?(?P<table><table\b.*?</table>)',
    re.DOTALL,
)
# What the theme's dialogs are called.
DIALOGS = {
    "pst-primary-sidebar-modal": "The book",
    "pst-secondary-sidebar-modal": "On this page",
    "pst-search-dialog": "Search",
}
# A name of code in running text, and where a word in it ends.
NAME = re.compile(r'<span class="pre">[^<]*</span>')
WORD_END = re.compile(r"(?<=[^\W_])(?:[_/=(]+|\.(?!\d))(?=[^\W_]|&)")
# What is in the one style sheet and script, or was never used.
UNUSED = (
    "styles", "scripts", "vendor", "locales", "katex", "*.map", "*macros.html", "*-solid.svg",
    "logo_deepnote.svg", "sphinx-thebe.*",
)  # fmt: skip


def setup(app: Sphinx) -> dict[str, Any]:
    """Take over what pages load."""
    app.connect("html-page-context", _choose, priority=900)
    app.connect("build-finished", _finish, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _choose(app: Sphinx, _name: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Leave in a page's lists only what is not in the one style sheet and script."""
    body = context.get("body") or ""
    context["formula_fonts"] = FORMULA_FONTS if 'class="katex' in body else ()
    context["book_version"] = "0"  # the hash, when it is known
    context["css_files"] = [
        style for style in context["css_files"] if _local_name(style.filename) is None
    ]
    context["script_files"] = [
        script for script in context["script_files"] if _is_needed(script, body)
    ]


def _local_name(filename: str | None) -> str | None:
    """Return the path below ``_static`` of a file that the book itself serves."""
    if not filename or "://" in filename or not filename.startswith("_static/"):
        return None
    return filename.removeprefix("_static/").split("?")[0]


def _is_needed(script: Any, body: str) -> bool:
    name = _local_name(script.filename)
    if name is None:
        return not INLINE.search(str(script.attributes.get("body", "")))
    if name in SCRIPTS:
        return False
    return name not in SCRIPTS_FOR or bool(SCRIPTS_FOR[name].search(body))


def _finish(app: Sphinx, problem: Exception | None) -> None:
    """Make the style sheet and the script, and finish every page."""
    if problem is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    static = out / "_static"
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(out.rglob("*.html"))}
    pages = {path: text for path, text in pages.items() if static not in path.parents}
    try:
        finished = {path: finish(text, path) for path, text in pages.items()}
        versions = {"book.js": _write(static / "book.js", _script(static))}
        style = _style(app, static, finished.values())
    except (icons.MissingIcon, FileNotFoundError) as missing:
        raise ExtensionError(f"ERROR: {missing}") from missing
    versions["book.css"] = _write(static / "book.css", style)
    for path, text in finished.items():
        text = packed.apart(with_versions(text, versions), path, static)
        path.write_text(text, encoding="utf-8", newline="\n")
    fonts = static / "fonts"
    fonts.mkdir(exist_ok=True)
    for font in (VENDOR / "katex" / "fonts").glob("*.woff2"):
        if font.name in style:
            (fonts / font.name).write_bytes(font.read_bytes())
    _remove_unused(static)


def _script(static: Path) -> str:
    parts = [_patched(name, (static / name).read_text(encoding="utf-8")) for name in SCRIPTS]
    parts = [re.sub(r"(?m)^//# sourceMappingURL=.*$", "", part).strip() for part in parts]
    # A part that does not end its last statement must not run into the next one.
    return "\n;\n".join(parts) + "\n"


def _patched(name: str, text: str) -> str:
    for before, after in PATCHES.get(name, ()):
        if text.count(before) != 1:
            raise ExtensionError(f"ERROR: {name} has changed; look at PATCHES in pages.py")
        text = text.replace(before, after)
    return text


def _style(app: Sphinx, static: Path, pages: Any) -> str:
    names = [_local_name(style.filename) for style in app.builder._css_files]
    names = [*THEME_STYLES, *(name for name in names if name and name not in THEME_STYLES)]
    # The rules of KaTeX stand before ours, which mend some of them.
    katex = (VENDOR / "katex" / "katex-swap.min.css").read_text(encoding="utf-8")
    used = style_sheets.Used()
    for text in pages:
        used.add_page(text)
    for path in static.glob("*.js"):
        used.add_script(path.read_text(encoding="utf-8"))
    sheets = style_sheets.bundle(static, dict.fromkeys(names))
    return style_sheets.prune(katex + sheets, used)


def _write(path: Path, text: str) -> str:
    """Write a file, and return a hash of its content."""
    path.write_text(text, encoding="utf-8", newline="\n")
    return packed.version(text)


def with_versions(html: str, versions: dict[str, str]) -> str:
    """Return a page that asks for these versions of the files named in ``versions``."""
    for name, version in versions.items():
        html = re.sub(rf"(_static/{re.escape(name)}\?v=)\w+", rf"\g<1>{version}", html)
    return html


def finish(html: str, path: Path) -> str:
    """Return a built page with its last touches; a page that has them stays as it is.

    Where it stands, in ``path``, are the images that it shows.

    Raises:
        icons.MissingIcon: an icon has no drawing.
    """
    html = icons.draw_in_page(html)
    # No script holds up the page; those with `defer` still run in their order.
    html = re.sub(
        r"<script\b(?![^>]*\b(?:defer|async|module)\b)(?=[^>]*\bsrc=)", "<script defer", html
    )
    html = CODE.sub(lambda match: _with_code(match["code"]), html)
    # The words that are seen are its name.
    html = html.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    # ARIA 1.1 for books has given up the role that docutils writes; the box around is a list.
    html = html.replace(' role="doc-biblioentry"', ' role="listitem"')
    figure = SCROLLS.format("Figure, scrolls sideways").replace(' role="group"', "")
    html = re.sub(r'<figure class="handbook-figure"(?![^>]*tabindex)', rf"\g<0> {figure}", html)
    html = re.sub(r'\s+data-bs-(?:toggle="tooltip"|placement="\w+")', "", html)
    html = html.replace(" data-bs-title=", " title=")
    html = SEARCH_BUTTON.sub(r"\1", html)
    html = _with_landmarks(html)
    html = _with_table_boxes(html)
    return re.sub(r"<img\b[^>]*>", lambda match: _with_size(match[0], path), html)


def _with_landmarks(html: str) -> str:
    # Every part stands in a landmark. On pages with code, sphinx-codeautolink sorted attributes.
    sidebar = r'<div(?![^>]* role=)(?=[^>]* id="pst-primary-sidebar")'
    html = re.sub(sidebar, r'\g<0> role="complementary" aria-label="The book"', html)
    html = html.replace("<summary><span", '<summary aria-label="Pages below"><span')
    for name, label in DIALOGS.items():
        html = html.replace(f'<dialog id="{name}">', f'<dialog id="{name}" aria-label="{label}">')
    button = re.search(r'\s*<button[^>]*id="pst-back-to-top"[^>]*>.*?</button>', html, re.DOTALL)
    if button and button.start() < html.find("<main"):
        html = html.replace(button[0], "", 1).replace("</main>", button[0].strip() + "\n</main>", 1)
    return html


def _with_table_boxes(html: str) -> str:
    """Put each table into a box that scrolls sideways, unless it stands in one."""
    html = EMPTY_HEAD.sub(r"<td\1></td>", html)
    scrolls = SCROLLS.format("Table, scrolls sideways")
    box = f'<div class="pst-scrollable-table-container" {scrolls}>'
    return TABLE.sub(
        lambda match: box + _with_breaks(match["table"]) + ("" if match["box"] else "</div>"),
        html,
    )


def _with_code(code: str) -> str:
    """Return a block of code with fewer elements; one with long lines can be scrolled by keys."""
    code = TOKEN.sub(r"\1", code)
    lines = unescape(re.sub(r"<[^>]+>", "", code)).splitlines()
    if code.startswith("<pre>") and max(map(len, lines), default=0) > LONGEST_LINE:
        return f"<pre {SCROLLS.format('Code, scrolls sideways')}>" + code.removeprefix("<pre>")
    return code


def _with_breaks(table: str) -> str:
    """Let long names of code in a table break between their words, as in ``num_|heads``."""
    return NAME.sub(lambda name: WORD_END.sub(r"\g<0><wbr>", name[0]), table)


def _with_size(tag: str, page: Path) -> str:
    """Give an image its own width and height, so that nothing moves when it arrives."""
    source = re.search(r'\bsrc="([^":?#]+)"', tag)
    size = source and _size_of((page.parent / source[1]).resolve())
    if not size or re.search(r"\b(width|height)=", tag):
        return tag
    return f'{tag[:-1].rstrip("/ ")} width="{size[0]}" height="{size[1]}">'


def _size_of(path: Path) -> tuple[int, int] | None:
    if path.suffix == ".svg" and path.is_file():
        text = path.read_text(encoding="utf-8")
        box = re.search(r'viewBox="[-\d.]+[ ,]+[-\d.]+[ ,]+([\d.]+)[ ,]+([\d.]+)"', text)
        return (round(float(box[1])), round(float(box[2]))) if box else None
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:
        return None


def _remove_unused(static: Path) -> None:
    """Remove what the theme brings and no page asks for: seven parts in eight."""
    for path in [path for pattern in UNUSED for path in static.rglob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
