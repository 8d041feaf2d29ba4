"""A shown source is the source that runs, without its docstrings."""

from __future__ import annotations

import ast

from helpers import attention, show
from helpers.transformer import blocks, config, decoding, model, training, weights

SHOWN_IN_CHAPTERS = (attention, blocks, config, decoding, model, training, weights)
EXAMPLE = '''
    @checked
    class Pair:
        """Two numbers.

        More about them."""

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


def test_what_chapters_show_is_python_no_wider_than_a_page():
    things = [
        thing
        for part in SHOWN_IN_CHAPTERS
        for thing in vars(part).values()
        if getattr(thing, "__module__", "") == part.__name__ and hasattr(thing, "__qualname__")
    ]
    assert len(things) >= 25
    first, *code, last = show.show_source(*things).data.split("\n")
    assert (first, last) == ("```python", "```")
    defined = [node.name for node in ast.parse("\n".join(code)).body]
    assert defined == [thing.__name__ for thing in things]
    assert [line for line in code if len(line) > 76] == []
