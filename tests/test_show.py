"""A shown source is the source that runs, without its docstrings."""

from __future__ import annotations

import ast
import inspect
import sys

from helpers import attention, show, transformer

ROOM = "helpers.transformer."
EXAMPLE = '''
    @checked
    class Pair:
        """Two numbers.

        More about them.
        """

        first: int = 1

        def total(self) -> int:
            """Return the sum."""
            text = """kept"""
            return self.first + len(text)

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


def test_docstrings_go_and_nothing_else_does():
    assert show.without_docstrings(EXAMPLE) == SHOWN


def test_what_chapters_show_is_no_wider_than_a_page():
    parts = [vars(attention), *(vars(sys.modules[name]) for name in sys.modules if ROOM in name)]
    shown = {
        name: show.without_docstrings(inspect.getsource(thing))
        for part in parts
        for name, thing in part.items()
        if getattr(thing, "__module__", "") == part["__name__"] and hasattr(thing, "__qualname__")
    }
    assert len(shown) >= 25
    wide = {name: [line for line in shown[name].split("\n") if len(line) > 76] for name in shown}
    assert {name: lines for name, lines in wide.items() if lines} == {}


def test_several_sources_stand_in_one_block_of_python():
    text = show.show_source(attention.masked_softmax, transformer.LayerNorm).data
    assert text.startswith("```python\n@at_least_float32\n@checked\ndef masked_softmax(")
    code = text.removeprefix("```python\n").removesuffix("\n```")
    defined = [node.name for node in ast.parse(code).body]
    assert defined == ["masked_softmax", "LayerNorm"]
    assert "Ba et al." not in code
