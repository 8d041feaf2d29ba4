"""A helper's source on the page, as it runs, without the docstrings that the API pages hold."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from IPython.display import Markdown


def show_source(*things: Callable[..., Any]) -> Markdown:
    """Return the source of functions or classes as one block of code, for a cell to display."""
    sources = "\n\n\n".join(without_docstrings(inspect.getsource(thing)) for thing in things)
    return Markdown(f"```python\n{sources}\n```")


def without_docstrings(source: str) -> str:
    """Return Python source, dedented, without the docstrings of its functions and classes."""
    source = textwrap.dedent(source)
    lines = source.rstrip("\n").split("\n")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        first, *rest = node.body
        if rest and ast.get_docstring(node) is not None:
            # The empty line that follows a docstring goes with it.
            after = first.end_lineno if lines[first.end_lineno].strip() else first.end_lineno + 1
            lines[first.lineno - 1 : after] = [None] * (after - first.lineno + 1)
    # What is said to the formatter says nothing to a reader.
    return "\n".join(line.removesuffix("  # fmt: skip") for line in lines if line is not None)
