"""API pages of ``helpers``, and links from code to them and to the libraries' documentation.

- Writes a page for each module of ``helpers`` into ``book/api``; git ignores that folder.
- Hands the small inventories of ``book/_inventories`` to intersphinx: nothing is fetched.
- Links the names in blocks of Python, found by reading the code (``tools.names``).
- ``{api-modules}`` makes the table of the modules.
"""

from __future__ import annotations

import hashlib
import html
import importlib
import inspect
import re
import sys
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.intersphinx import InventoryAdapter
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools import inventories, names  # noqa: E402

PAGES = ROOT / "book" / "api"
COMPILED = ROOT / "_build" / "inventories"
LANGUAGES = {"python", "python3", "ipython", "ipython3", "py"}

PAGE = """---
myst:
  html_meta:
    description: "{summary}"
---

# {module}

```{{eval-rst}}
.. automodule:: {module}
   :members:
   :show-inheritance:
```
"""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive and the event handlers with Sphinx."""
    app.setup_extension("sphinx.ext.intersphinx")
    app.add_directive("api-modules", ApiModules)
    app.add_css_file("reference.css")
    # Before the table of contents (900) looks for files, and before intersphinx (800).
    app.connect("config-inited", _write_pages, priority=100)
    app.connect("config-inited", _use_our_inventories, priority=100)
    app.connect("env-get-outdated", _outdated)
    app.connect("autodoc-process-signature", _readable_defaults)
    app.connect("env-updated", _remember)
    app.connect("doctree-resolved", _find_names)
    app.add_node(
        nodes.literal_block, override=True, html=(_visit_literal_block, _depart_literal_block)
    )
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


# --- the pages ----------------------------------------------------------------------


def summary_of(module: str) -> str:
    """Return the first sentence of a module's docstring, without markup."""
    text = inspect.getdoc(importlib.import_module(module)) or ""
    first = re.split(r"(?<=[.])\s|\n\n", text)[0]
    first = re.sub(r":\w+:`~?([^`]+)`", r"\1", first).replace("``", "")
    return " ".join(first.split())


def _write_pages(_app: Sphinx, _config: Any) -> None:
    PAGES.mkdir(exist_ok=True)
    wanted = {f"{module.removeprefix('helpers.')}.md": module for module in names.helper_modules()}
    for path in PAGES.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name, module in wanted.items():
        summary = summary_of(module).replace('"', "'")
        text = PAGE.format(module=module, summary=summary)
        path = PAGES / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8", newline="\n")


def _readable_defaults(
    _app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, signature: str, returns: str
) -> tuple[str, str]:
    """Write what is no Python, as in ``names: list[str] = <factory>``, as three dots.

    Sphinx cannot read the signature otherwise, and its types would lead nowhere.
    """
    return re.sub(r"= <[^<>]*>", "= ...", signature or ""), returns


class ApiModules(SphinxDirective):
    """A table of the modules of ``helpers``: its page, and what it holds."""

    has_content: ClassVar[bool] = False

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        for path in (ROOT / "helpers").rglob("*.py"):
            self.env.note_dependency(str(path))
        lines = ["| module | what it holds |", "| --- | --- |"]
        for module in names.helper_modules():
            page = module.removeprefix("helpers.")
            lines.append(f"| [`{module}`](api/{page}.md) | {summary_of(module)} |")
        return self.parse_text_to_nodes("\n".join(lines))


# --- other libraries ----------------------------------------------------------------


def _use_our_inventories(_app: Sphinx, config: Any) -> None:
    """Compress the inventories as Sphinx wants them, and name them to intersphinx."""
    COMPILED.mkdir(parents=True, exist_ok=True)
    config.intersphinx_mapping = dict(config.intersphinx_mapping or {})
    for path in sorted(inventories.FOLDER.glob("*.txt")):
        *head, _, body = path.read_text(encoding="utf-8").split("\n", 4)
        head = [*head, "# The remainder of this file is compressed using zlib.\n"]
        compiled = COMPILED / f"{path.stem}.inv"
        compiled.write_bytes("\n".join(head).encode() + zlib.compress(body.encode()))
        base = inventories.LIBRARIES[path.stem].base
        config.intersphinx_mapping[path.stem] = (base, (str(compiled),))


def _outdated(app: Sphinx, env: BuildEnvironment, *_: Any) -> list[str]:
    """Every page may hold a link that the inventories or the helpers have changed."""
    changed = getattr(env, "reference_state", None) != _state()
    return sorted(env.found_docs) if changed else []


def _remember(_app: Sphinx, env: BuildEnvironment) -> None:
    env.reference_state = _state()


def _state() -> str:
    digest = hashlib.sha256()
    for path in sorted([*inventories.FOLDER.glob("*.txt"), *(ROOT / "helpers").rglob("*.py")]):
        digest.update(path.read_bytes())
    for module in (inventories, names):
        digest.update(inspect.getsource(module).encode())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


# --- links in code ------------------------------------------------------------------


def _find_names(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Note at each block of Python where a link begins, where it ends, and where it leads."""
    if app.builder.format != "html":
        return
    scope = names.Scope()
    linked: set[tuple[str, str]] = set()
    for block in doctree.findall(nodes.literal_block):
        if block.get("language") not in LANGUAGES or block.rawsource != block.astext():
            continue
        source = block.astext()
        try:
            found = names.uses(source, _scope_of_helper(source) or scope)
        except SyntaxError:  # a part of a program, or the output of one
            continue
        links = []
        section = _section_of(block)
        for use in found:
            for name in use.names:
                address = _address(app, docname, name)
                if address:
                    # A name is linked where it first occurs in a section: else a reader with a
                    # keyboard would have to pass every repetition.
                    if (section, name) not in linked:
                        links.append((use.start, use.end, address, name))
                        linked.add((section, name))
                    break
        block["handbook_links"] = links


def _section_of(node: nodes.Node) -> str:
    """Return the id of the section, below the page's title, that a node stands in."""
    around, node = [], node.parent
    while node is not None:
        if isinstance(node, nodes.section):
            around.append(node["ids"][0])
        node = node.parent
    return around[-2] if len(around) > 1 else ""


def _scope_of_helper(source: str) -> names.Scope | None:
    """Return the scope of the module whose source a chapter shows, if this block is of one."""
    if not re.match(r"(@|def |class )", source):
        return None
    for module, text in _sources().items():
        if source.rstrip() + "\n" in text:
            return names.Scope(names.module_scope(module))
    return None


@cache
def _sources() -> dict[str, str]:
    modules = names.helper_modules()
    return {name: inspect.getsource(importlib.import_module(name)) for name in modules}


def _address(app: Sphinx, docname: str, name: str) -> str | None:
    """Return the address of what documents ``name``, as seen from a page, or None."""
    known = app.env.domains["py"].objects.get(name)
    if known is not None:
        page = app.builder.get_relative_uri(docname, known.docname)
        return f"{page}#{known.node_id}"
    inventory = InventoryAdapter(app.env).main_inventory
    for kind in ("py:class", "py:function", "py:method", "py:module", "py:exception"):
        if name in inventory.get(kind, {}):
            return inventory[kind][name][2]
    return None


def _visit_literal_block(self: HTML5Translator, node: nodes.literal_block) -> None:
    before = len(self.body)
    try:
        HTML5Translator.visit_literal_block(self, node)
    finally:  # it raises SkipNode once it has highlighted the block
        links = node.get("handbook_links")
        if links:
            made = "".join(self.body[before:])
            self.body[before:] = [with_links(made, node.astext(), links)]


def _depart_literal_block(self: HTML5Translator, node: nodes.literal_block) -> None:
    HTML5Translator.depart_literal_block(self, node)


def with_links(made: str, source: str, links: list[tuple[int, int, str, str]]) -> str:
    """Put links into highlighted code.

    Args:
        made: the HTML that highlights ``source``, in ``<pre>``.
        source: the code.
        links: for each link where it begins and ends in ``source``, its address and its title;
            in order, none overlapping.

    Returns:
        The HTML with links; as it was if the code was changed on the way to HTML.
    """
    begin, end = made.find("<pre>") + len("<pre>"), made.rfind("</pre>")
    if begin < len("<pre>") or end < 0 or _text(made[begin:end]).strip("\n") != source.strip("\n"):
        return made
    position = len(source) - len(source.lstrip("\n"))  # the highlighter drops empty lines above
    todo, is_open, result = list(links), False, []
    for piece in _pieces(made[begin:end]):
        if is_open and position >= todo[0][1]:
            closing = piece == "</span>"
            result += [piece, "</a>"] if closing else ["</a>"]
            todo.pop(0)
            is_open = False
            if closing:
                continue
        if not is_open and todo and position == todo[0][0] and piece != "</span>":
            address, title = html.escape(todo[0][2]), html.escape(todo[0][3])
            result.append(f'<a class="handbook-code" href="{address}" title="{title}">')
            is_open = True
        result.append(piece)
        if not piece.startswith("<"):
            position += 1
    if is_open:
        result.append("</a>")
    return made[:begin] + "".join(result) + made[end:]


def _pieces(made: str) -> Iterator[str]:
    """Yield tags, entities and characters, one at a time."""
    return (match[0] for match in re.finditer(r"<[^>]*>|&[^;\s]+;|.", made, re.DOTALL))


def _text(made: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", made))


__all__ = ["ApiModules", "setup", "summary_of", "with_links"]
