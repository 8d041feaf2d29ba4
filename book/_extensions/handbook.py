"""What the book knows about its own build: outputs from the cache, the ledger, the times.

- Points MyST-NB at the cache that belongs to the present ``helpers`` and lock.
- ``{check-ledger}`` and ``{execution-times}`` make pages from ``_build/checks``, and each chapter
  says below its title how long it ran, and when.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools import cache as notebook_cache  # noqa: E402


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives and event handlers with Sphinx."""
    app.add_directive("check-ledger", CheckLedger)
    app.add_directive("execution-times", ExecutionTimes)
    # Before MyST-NB's own handler (500), which reads the path.
    app.connect("config-inited", _use_our_cache, priority=100)
    app.connect("doctree-read", _call_solutions_so)
    app.connect("doctree-resolved", _say_how_it_ran)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _use_our_cache(_app: Sphinx, config: Any) -> None:
    config.nb_execution_cache_path = str(notebook_cache.cache_path())


def _records() -> list[dict[str, Any]]:
    """The check records of the last run, a dictionary for each chapter in reading order."""
    chapters = (notebook_cache.CHECKS / f"{p.stem}.json" for p in notebook_cache.notebooks())
    return [json.loads(path.read_text(encoding="utf-8")) for path in chapters if path.exists()]


def _call_solutions_so(_app: Sphinx, doctree: nodes.document) -> None:
    for cell in doctree.findall(nodes.container):
        if "tag_hide-cell" in cell["classes"] and cell.astext().startswith("# @title Solution"):
            cell["prompt_show"], cell["prompt_hide"] = "Show the solution", "Hide the solution"


def _say_how_it_ran(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Put a line below the title of a chapter: how long it ran, when, how many checks held."""
    title = next(iter(doctree.findall(nodes.title)), None)
    ran = {f"notebooks/{run['chapter']}": run for run in _records() if run.get("executed")}
    if title is None or name not in ran:
        return
    run = ran[name]
    checks, profiles = (
        f'<a class="reference internal" href="{app.builder.get_relative_uri(name, page)}#'
        for page in ("book/ledger", "book/how-to-use")
    )
    # Raw, so that it does not become the page's description.
    line = (
        f'<p class="handbook-run">Ran in {run["execution_seconds"]:.0f} s on '
        f'{run["executed"][:10]} ({profiles}two-profiles">{run["profile"]} profile</a>). '
        f'{checks}ledger-{run["chapter"]}">{len(run["checks"])} checks</a> held.</p>'
    )
    title.parent.insert(title.parent.index(title) + 1, nodes.raw("", line, format="html"))


class CheckLedger(SphinxDirective):
    """All checks of the last build: claim, figure and bound, chapter by chapter."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each chapter, with a table of its checks."""
        result: list[nodes.Node] = []
        total = sum(len(records["checks"]) for records in _records())
        result.append(
            nodes.paragraph(
                "", f"{total} checks held in the build that made this page.", classes=["lead"]
            )
        )
        for records in _records():
            section = nodes.section(ids=[f"ledger-{records['chapter']}"])
            section += nodes.title("", _title_of(records["chapter"]))
            section += _paragraph_about(self.env, records)
            checks = records["checks"]
            rows = [(_claim(each), _value(each["value"]), _bound(each)) for each in checks]
            section += _table(("Claim", "Figure", "Bound"), rows, (55, 25, 20))
            result.append(section)
        return result


class ExecutionTimes(SphinxDirective):
    """How long each chapter took when it was last executed, and when that was."""

    def run(self) -> list[nodes.Node]:
        """Return one table of all chapters."""
        rows = [
            (
                _title_of(records["chapter"]).split(":")[0],
                f"{records.get('execution_seconds') or 0:.0f}",
                str(records.get("executed", ""))[:16].replace("T", " "),
            )
            for records in _records()
        ]
        return [_table(("Chapter", "Seconds", "Executed (UTC)"), rows, (60, 15, 25))]


def _claim(check: dict[str, Any]) -> str:
    """The claim, with a dagger where a rehearsal of the full profile cannot show it."""
    return f"{check['name']} †" if check.get("needs") else check["name"]


def _title_of(chapter: str) -> str:
    path = notebook_cache.NOTEBOOKS / f"{chapter}.ipynb"
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for line in "".join(cell["source"]).splitlines():
            if cell["cell_type"] == "markdown" and line.startswith("# "):
                return line[2:].strip()
    return chapter


def _paragraph_about(env: BuildEnvironment, records: dict[str, Any]) -> nodes.paragraph:
    versions = ", ".join(f"{name} {version}" for name, version in records["versions"].items())
    sources = ", ".join(f"{name} from {source}" for name, source in records["assets"].items())
    paragraph = nodes.paragraph()
    uri = env.app.builder.get_relative_uri(env.docname, f"notebooks/{records['chapter']}")
    paragraph += nodes.reference("", "Read the chapter", refuri=uri, internal=True)
    text = f". Made in the {records['profile']} profile with {versions}"
    text += f"; data and models: {sources}." if sources else "."
    paragraph += nodes.Text(text)
    return paragraph


def _value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _bound(check: dict[str, Any]) -> str:
    if check["kind"] == "equal":
        return "the same"
    return f"{'within' if check['kind'] == 'close' else check['kind']} {_value(check['bound'])}"


def _table(head: tuple[str, ...], rows: list[tuple], widths: tuple[int, ...]) -> nodes.table:
    table = nodes.table(classes=["handbook-table"])
    group = nodes.tgroup(cols=len(head))
    table += group
    group += [nodes.colspec(colwidth=width) for width in widths]
    group += _row_group(nodes.thead, [head])
    group += _row_group(nodes.tbody, rows)
    return table


def _row_group(kind: type[nodes.Element], rows: list[tuple]) -> nodes.Element:
    group = kind()
    for cells in rows:
        row = nodes.row()
        for cell in cells:
            entry = nodes.entry()
            entry += nodes.paragraph("", cell)
            row += entry
        group += row
    return group
