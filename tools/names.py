"""Which objects of a library does a piece of Python name, and where does each name stand?

The code is read, never run: imports, chains of attributes, and the classes that a call of a
class or of an annotated function returns. Only the modules that the code imports are imported.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nbformat

from tools.cache import ROOT

MAGIC = re.compile(r"(?m)^([ \t]*)([%!?].*)$")


@dataclass(frozen=True)
class Use:
    """A name in a piece of code, from offset ``start`` to ``end``, and what it stands for.

    ``names`` are dotted names of one object, the one written in the code first.
    """

    start: int
    end: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """What an expression is: an object with its dotted name, or an instance of a class."""

    name: str
    thing: Any
    instance: bool = False
    also: tuple[str, ...] = ()


class Scope:
    """The names that are bound at one place of the code; cells of a notebook share one."""

    def __init__(self, outer: Scope | None = None) -> None:
        """Make an empty scope inside ``outer``."""
        self.outer = outer
        self.bound: dict[str, Known | None] = {}

    def __getitem__(self, name: str) -> Known | None:
        """Return what ``name`` is, or None if that is not known."""
        if name in self.bound:
            return self.bound[name]
        return self.outer[name] if self.outer else None


def uses(source: str, scope: Scope | None = None) -> list[Use]:
    """Return what ``source`` names, in order, and bind in ``scope`` what it imports and assigns.

    Raises:
        SyntaxError: the source, its magics aside, is no Python.
    """
    # The magics of IPython become an expression of the same length, so that offsets stay.
    plain = MAGIC.sub(lambda line: f"{line[1]}0{' ' * (len(line[2]) - 1)}", source)
    tree = ast.parse(plain)
    reader = _Reader(plain, scope or Scope())
    reader.visit(tree)
    return sorted(set(reader.found), key=lambda use: (use.start, use.end))


def builtins_in(source: str) -> set[str]:
    """Return the names of Python itself that occur: ``str``, ``ValueError``, ``None``."""
    found = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    return {"None", *(name for name in found if hasattr(builtins, name))}


@cache
def module_scope(name: str) -> Scope:
    """Return the scope of a module: what it imports, and what it defines itself."""
    module = importlib.import_module(name)
    scope = Scope()
    uses(inspect.getsource(module), scope)
    for key, value in vars(module).items():
        if getattr(value, "__module__", None) == name and not key.startswith("_"):
            scope.bound[key] = Known(f"{name}.{key}", value)
    return scope


def chapter_uses(path: Path) -> Iterator[Use]:
    """Yield what the code cells of a notebook name."""
    scope = Scope()
    for cell in nbformat.read(path, nbformat.NO_CONVERT).cells:
        if cell.cell_type == "code":
            yield from uses(cell.source, scope)


def helper_modules() -> list[str]:
    """Return the modules of ``helpers`` that are public, in the order of the alphabet."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "helpers").rglob("*.py")
    ]
    public = (name for name in names if not any(p.startswith("_") for p in name.split(".")))
    return sorted(name for name in public if name != "helpers")


def public_names(module: str) -> list[str]:
    """Return the classes and functions that a module defines for others, in its order."""
    content = importlib.import_module(module)
    return [
        name
        for name, value in vars(content).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(inspect.unwrap(value)))
        and value.__module__ == module
    ]


class _Reader(ast.NodeVisitor):
    """Walk over a syntax tree in the order of execution, keeping the scope."""

    def __init__(self, source: str, scope: Scope) -> None:
        self.scope = scope
        self.found: list[Use] = []
        self.lines = source.split("\n")
        self.begin = [0]
        for line in self.lines:
            self.begin.append(self.begin[-1] + len(line) + 1)

    # --- binding ---

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            known = _imported(alias.name)
            if alias.asname or "." not in alias.name:
                self.scope.bound[alias.asname or alias.name] = known
            else:
                top = alias.name.split(".")[0]
                self.scope.bound[top] = _imported(top)
            self._note(alias, len(alias.name), known)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = None if node.level else _imported(node.module or "")
        for alias in node.names:
            known = module and _attribute(module, alias.name)
            self.scope.bound[alias.asname or alias.name] = known
            self._note(alias, len(alias.name), known)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        value = self._what(node.value)
        for target in node.targets:
            self._bind(target, value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.annotation)
        if node.value:
            self.visit(node.value)
        self._bind(node.target, self._instance_of(node.annotation))

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self._bind(node.target, None)
        for part in [*node.body, *node.orelse]:
            self.visit(part)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars:
                self._bind(item.optional_vars, None)
        for part in node.body:
            self.visit(part)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._bind(node.target, self._what(node.value))

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type:
            self.visit(node.type)
        if node.name:
            self.scope.bound[node.name] = None
        for part in node.body:
            self.visit(part)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for part in [*node.decorator_list, *filter(None, [node.returns])]:
            self.visit(part)
        self.scope.bound[node.name] = None
        self._inside(node.args, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._inside(node.args, [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in [*node.decorator_list, *node.bases, *node.keywords]:
            self.visit(part)
        self.scope.bound[node.name] = None
        outer, self.scope = self.scope, Scope(self.scope)
        for part in node.body:
            self.visit(part)
        self.scope = outer

    def _comprehension(self, node: Any) -> None:
        outer, self.scope = self.scope, Scope(self.scope)
        for generator in node.generators:
            self.visit(generator.iter)
            self._bind(generator.target, None)
            for condition in generator.ifs:
                self.visit(condition)
        for part in ("key", "value", "elt"):
            if getattr(node, part, None) is not None:
                self.visit(getattr(node, part))
        self.scope = outer

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _inside(self, arguments: ast.arguments, body: list[Any]) -> None:
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [one for one in (arguments.vararg, arguments.kwarg) if one]
        for part in [*arguments.defaults, *filter(None, arguments.kw_defaults)]:
            self.visit(part)
        for argument in every:
            if argument.annotation:
                self.visit(argument.annotation)
        outer, self.scope = self.scope, Scope(self.scope)
        for argument in every:
            self.scope.bound[argument.arg] = (
                self._instance_of(argument.annotation) if argument.annotation else None
            )
        for part in body:
            self.visit(part)
        self.scope = outer

    def _bind(self, target: ast.AST, value: Known | None) -> None:
        if isinstance(target, ast.Name):
            self.scope.bound[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                self._bind(part, None)
        elif isinstance(target, ast.Starred):
            self._bind(target.value, None)
        else:
            self.visit(target)

    # --- reading ---

    def visit_Name(self, node: ast.Name) -> None:
        known = self.scope[node.id]
        if known and not known.instance:
            self._note(node, len(node.id), known)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        known = self._what(node)
        if known is None or known.instance:
            self.visit(node.value)
            return
        base = self._what(node.value)
        if base and base.instance:  # a method: what it is called on has been named elsewhere
            self.visit(node.value)
            end = self._offset(node.end_lineno, node.end_col_offset)
            self._add(end - len(node.attr), end, known)
        else:
            begin = self._offset(node.lineno, node.col_offset)
            self._add(begin, self._offset(node.end_lineno, node.end_col_offset), known)

    def _what(self, node: ast.AST) -> Known | None:
        if isinstance(node, ast.Name):
            return self.scope[node.id]
        if isinstance(node, ast.Attribute):
            base = self._what(node.value)
            return base and _attribute(base, node.attr)
        if isinstance(node, ast.Call):
            called = self._what(node.func)
            return called and _result(called)
        return None

    def _instance_of(self, annotation: ast.AST) -> Known | None:
        known = self._what(annotation)
        if known and inspect.isclass(known.thing) and not known.instance:
            return Known(known.name, known.thing, instance=True)
        return None

    def _note(self, node: Any, length: int, known: Known | None) -> None:
        if known is not None and not known.instance:
            begin = self._offset(node.lineno, node.col_offset)
            self._add(begin, begin + length, known)

    def _add(self, begin: int, end: int, known: Known) -> None:
        names = dict.fromkeys([known.name, *known.also, *own_names(known.thing)])
        self.found.append(Use(begin, end, tuple(names)))

    def _offset(self, line: int, column: int) -> int:
        text = self.lines[line - 1].encode()[:column].decode()  # columns of ast count bytes
        return self.begin[line - 1] + len(text)


def own_names(thing: Any) -> list[str]:
    """Return the names of a class, function or module: where it is public, where it is defined.

    ``torch.nn.modules.linear.Linear`` is public as ``torch.nn.Linear``: the shortest module on
    the way to its own that has it.
    """
    if inspect.ismodule(thing):
        return [thing.__name__]
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        return []
    parts = module.split(".")
    for length in range(1, len(parts)):
        above = sys.modules.get(".".join(parts[:length]))
        if getattr(above, name, None) is thing:
            return [f"{'.'.join(parts[:length])}.{name}", f"{module}.{name}"]
    return [f"{module}.{name}"]


@cache
def _imported(name: str) -> Known | None:
    try:
        return Known(name, importlib.import_module(name))
    except ImportError:
        return None


def _attribute(base: Known, name: str) -> Known | None:
    if name.startswith("_"):
        return None
    try:
        thing = getattr(base.thing, name)
    except AttributeError:
        if inspect.ismodule(base.thing):
            return _imported(f"{base.name}.{name}")
        return None
    if not (base.instance or inspect.isclass(base.thing) or inspect.ismodule(base.thing)):
        return None
    if base.instance:
        owners = [base.name, *own_names(base.thing)]
        for kind in base.thing.__mro__:
            if name in vars(kind):
                owners += own_names(kind)
                break
        first, *others = dict.fromkeys(f"{owner}.{name}" for owner in owners)
        return Known(first, thing, also=tuple(others))
    return Known(f"{base.name}.{name}", thing)


def _result(called: Known) -> Known | None:
    """Return what a call gives: an instance of the class, or of the annotated return type."""
    if called.instance:
        return None
    if inspect.isclass(called.thing):
        return Known(called.name, called.thing, instance=True)
    if not isinstance(called.thing, types.FunctionType | types.MethodType):
        return None
    try:
        given = typing.get_type_hints(called.thing).get("return")
    except Exception:  # an annotation that needs a package which is not installed
        return None
    if not inspect.isclass(given) or given.__module__ == "builtins":
        return None
    return Known(own_names(given)[0], given, instance=True)
