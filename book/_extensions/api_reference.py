"""API pages of ``helpers``, and links from code to them and to the libraries' documentation.

- Writes a page for each room of ``helpers`` into ``book/api``; git ignores that folder.
- sphinx-codeautolink links the names in code; here it learns where each name is documented.
  Nothing is fetched: the addresses of other libraries stand in ``book/links.yml``.
- ``{api-modules}`` makes the table of the rooms.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import ObjectEntry
from sphinx.environment import BuildEnvironment
from sphinx.ext.intersphinx import InventoryAdapter
from sphinx.util.docutils import SphinxDirective
from sphinx_codeautolink.extension import block, resolve

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

PAGES = ROOT / "book" / "api"
LINKS = ROOT / "book" / "links.yml"

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
    app.setup_extension("sphinx_codeautolink")
    app.add_directive("api-modules", ApiModules)
    app.add_css_file("reference.css")
    # Before the table of contents (900) looks for files.
    app.connect("config-inited", _write_pages, priority=100)
    app.connect("config-inited", _begin_anew)
    app.connect("builder-inited", _know_libraries)
    app.connect("autodoc-process-signature", _readable_defaults)
    # sphinx-codeautolink looks up names at 500.
    app.connect("env-updated", _know_helpers, priority=400)
    app.connect("env-updated", _once_in_a_section, priority=600)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _begin_anew(app: Sphinx, _config: Any) -> None:
    """Build every page each time: what code a notebook holds is forgotten between builds."""
    (Path(app.doctreedir) / "environment.pickle").unlink(missing_ok=True)


# --- the pages ----------------------------------------------------------------------


def rooms() -> list[str]:
    """Return the modules and packages that readers import from, in the order of the alphabet.

    A package documents what its ``__all__`` names, a module what it defines.
    """
    found = (f"helpers.{module.name}" for module in pkgutil.iter_modules([str(ROOT / "helpers")]))
    return sorted(name for name in found if "._" not in name)


def summary_of(module: str) -> str:
    """Return the first sentence of a module's docstring, without markup."""
    text = inspect.getdoc(importlib.import_module(module)) or ""
    first = re.split(r"(?<=[.])\s|\n\n", text)[0]
    first = re.sub(r":\w+:`~?([^`]+)`", r"\1", first).replace("``", "")
    return " ".join(first.split())


def _write_pages(_app: Sphinx, _config: Any) -> None:
    PAGES.mkdir(exist_ok=True)
    wanted = {f"{module.removeprefix('helpers.')}.md": module for module in rooms()}
    for path in PAGES.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name, module in wanted.items():
        text = PAGE.format(module=module, summary=summary_of(module).replace('"', "'"))
        (PAGES / name).write_text(text, encoding="utf-8", newline="\n")


def _readable_defaults(
    _app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, signature: str, returns: str
) -> tuple[str, str]:
    """Write what is no Python, as in ``names: list[str] = <factory>``, as three dots.

    Sphinx cannot read the signature otherwise, and its types would lead nowhere.
    """
    return re.sub(r"= <[^<>]*>", "= ...", signature or ""), returns


class ApiModules(SphinxDirective):
    """A table of the rooms of ``helpers``: its page, and what it holds."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        lines = ["| module | what it holds |", "| --- | --- |"]
        for module in rooms():
            page = module.removeprefix("helpers.")
            lines.append(f"| [`{module}`](api/{page}.md) | {summary_of(module)} |")
        return self.parse_text_to_nodes("\n".join(lines))


# --- where names are documented -----------------------------------------------------


def libraries() -> Iterator[tuple[str, str, str]]:
    """Yield each name of ``book/links.yml``, what Sphinx calls its kind, and its address.

    Raises:
        AttributeError, ImportError: a name is not, or no longer, in the installed library.
    """
    for base, pages in yaml.safe_load(LINKS.read_text(encoding="utf-8")).items():
        for page, names in pages.items():
            for name in names.split():
                owner, thing = _owner_and_thing(name)
                module = name
                while module and not inspect.ismodule(_owner_and_thing(module)[1]):
                    module = module.rpartition(".")[0]
                place = page.format(name=name, owner=name.rpartition(".")[0], module=module)
                if "#" not in place:
                    place += f"#module-{name}" if inspect.ismodule(thing) else f"#{name}"
                yield name, _kind(owner, thing), base + place


def own_name(name: str) -> str:
    """Return the name by the module that defines the thing, which Python itself says.

    ``torch.nn.Linear`` is ``torch.nn.modules.linear.Linear``, and an object that a package of
    ``helpers`` passes on is known by the file where it stands.
    """
    owner, thing = _owner_and_thing(name)
    last = ""
    if inspect.isclass(owner):
        thing, last = owner, "." + name.rpartition(".")[2]
    module, own = (getattr(thing, key, None) for key in ("__module__", "__qualname__"))
    return f"{module}.{own}{last}" if module and own else name


def _owner_and_thing(name: str) -> tuple[Any, Any]:
    if hasattr(builtins, name):
        return builtins, getattr(builtins, name)
    owner = name.rpartition(".")[0]
    return owner and pkgutil.resolve_name(owner), pkgutil.resolve_name(name)


def _kind(owner: Any, thing: Any) -> str:
    if inspect.ismodule(thing):
        return "py:module"
    if inspect.isclass(thing):
        return "py:exception" if issubclass(thing, BaseException) else "py:class"
    return "py:method" if inspect.isclass(owner) else "py:function"


def readable(source: str) -> tuple[str, str]:
    """Return a block of code, and what of it can be parsed.

    The source of a method is shown as it is indented; a fragment stays without links.
    """
    code = textwrap.dedent(source)
    try:
        ast.parse(code)
    except SyntaxError:
        code = ""
    return source, code


def _know_libraries(app: Sphinx) -> None:
    block.BUILTIN_BLOCKS["python"] = readable
    # For the sake of type hints it would import all models of transformers: 15 seconds.
    resolve.populate_type_checking = lambda module: None
    inventory = InventoryAdapter(app.env).main_inventory
    for name, kind, address in libraries():
        for known_as in {name, own_name(name)}:
            inventory.setdefault(kind, {}).setdefault(known_as, ("", "", address, "-"))
        app.config.codeautolink_inventory_map[own_name(name)] = name
    # In a signature, jaxtyping names them so.
    for name in ("torch.Tensor", "numpy.ndarray"):
        inventory["py:class"][name.rpartition(".")[2]] = inventory["py:class"][name]


def _know_helpers(app: Sphinx, env: BuildEnvironment) -> None:
    objects = env.domains["py"].objects
    for name, entry in list(objects.items()):
        if not entry.aliased and (own := own_name(name)) != name:
            objects.setdefault(own, ObjectEntry(entry.docname, entry.node_id, entry.objtype, True))
            app.config.codeautolink_inventory_map[own] = name


def _once_in_a_section(_app: Sphinx, env: BuildEnvironment) -> None:
    """Leave the first link to each name: a reader with a keyboard passes every link."""
    for snippets in getattr(env, "sphinx_codeautolink_transforms", {}).values():
        linked: set[tuple[str, ...]] = set()
        for snippet in snippets:
            first = {}
            for name in sorted(snippet.names, key=lambda name: name.lineno):
                # Below the page's title; `print` and its like need no link.
                place = (*snippet.example.headings[:2], name.resolved_location)
                if place not in linked and not hasattr(builtins, name.resolved_location):
                    first[place] = name
                    linked.add(place)
            snippet.names = list(first.values())
