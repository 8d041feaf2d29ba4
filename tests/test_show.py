"""A shown source is the source that runs, without its docstrings."""

from __future__ import annotations

import ast

from helpers import attention, show, transformer

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


def test_several_sources_stand_in_one_block_of_python():
    text = show.show_source(attention.masked_softmax, transformer.LayerNorm).data
    assert text.startswith("```python\n@at_least_float32\n@checked\ndef masked_softmax(")
    code = text.removeprefix("```python\n").removesuffix("\n```")
    defined = [node.name for node in ast.parse(code).body]
    assert defined == ["masked_softmax", "LayerNorm"]
    assert "Ba et al." not in code
