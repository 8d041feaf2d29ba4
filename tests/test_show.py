"""A shown source is the source that runs, without its docstrings."""

from __future__ import annotations

import ast
import functools
import importlib
from collections.abc import Callable
from pathlib import Path

import nbformat

from helpers import show

CHAPTERS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
ROOMS = {
    name: importlib.import_module(f"helpers.{name}")
    for name in ("attention", "transformer", "subwords", "pretraining", "finetuning",
                 "classification", "marian")
}  # fmt: skip
EXAMPLE = '''
    @checked
    class Pair:
        """Two numbers.

        More about them."""

        first: int = 1

        def total(self) -> int:
            """Return the sum."""
            text = """kept"""
            return self.first + len(text)  # fmt: skip

        def empty(self) -> None:
            """Do nothing."""
'''
SHOWN = '''
@checked
class Pair:
    first: int = 1

    def total(self) -> int:
        text = """kept"""
        return self.first + len(text)

    def empty(self) -> None:
        """Do nothing."""'''


def shown(chapter: Path) -> list[Callable]:
    """What the cells of a chapter hand to ``show_source``."""
    found = []
    for cell in nbformat.read(chapter, nbformat.NO_CONVERT).cells:
        if cell.cell_type != "code" or "show_source(" not in cell.source:
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "show_source":
                for argument in node.args:
                    first, *names = ast.unparse(argument).split(".")
                    holds = (room for room in ROOMS.values() if hasattr(room, first))
                    start = ROOMS.get(first) or getattr(next(holds), first)
                    found.append(functools.reduce(getattr, names, start))
    return found


def test_docstrings_and_words_to_the_formatter_go_and_nothing_else_does():
    assert show.without_docstrings(EXAMPLE) == SHOWN


def test_what_chapters_show_is_python_no_wider_than_a_page():
    things = [thing for chapter in CHAPTERS for thing in shown(chapter)]
    assert len(things) >= 35
    first, *code, last = show.show_source(*things).data.split("\n")
    assert (first, last) == ("```python", "```")
    defined = [node.name for node in ast.parse("\n".join(code)).body]
    assert defined == [thing.__name__ for thing in things]
    assert [line for line in code if len(line) > 76] == []
