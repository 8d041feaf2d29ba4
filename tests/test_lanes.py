"""The lanes of other versions: what they may resolve, and what stays."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from packaging.utils import canonicalize_name

from tools import lanes, lock
from tools.cache import NOTEBOOKS, ROOT


def test_every_direct_dependency_has_a_lower_bound():
    for wanted in lock.direct(lanes.EXTRAS):
        assert {each.operator for each in wanted.specifier} & {">=", "=="}, wanted


def imported(source: str) -> set[str]:
    """The top-level modules that a piece of Python imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found - set(sys.stdlib_module_names) - {"helpers"}


def test_whatever_helpers_and_chapters_import_is_a_direct_dependency():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "helpers").rglob("*.py")]
    for path in NOTEBOOKS.glob("*.ipynb"):
        cells = nbformat.read(path, nbformat.NO_CONVERT).cells
        code = (cell.source for cell in cells if cell.cell_type == "code")
        sources += [TransformerManager().transform_cell(source) for source in code]
    owners = importlib.metadata.packages_distributions()
    direct = {canonicalize_name(wanted.name) for wanted in lock.direct(())}
    for module in set().union(*map(imported, sources)):
        names = {canonicalize_name(name) for name in owners[module]}
        assert names & direct, f"{module} comes with {names}, which pyproject.toml does not name"


def test_each_lane_of_the_nightly_workflow_is_a_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    workflow = yaml.safe_load((ROOT / ".github/workflows/nightly.yml").read_text(encoding="utf-8"))
    included = workflow["jobs"]["lane"]["strategy"]["matrix"]["include"]
    assert {"newest", "oldest"} <= {one["lane"] for one in included}
    assert {one["lane"] for one in included} <= set(re.findall(r"(?m)^([a-z-]+):", makefile))


@pytest.mark.parametrize("switch", ["", "cpu"])
@pytest.mark.parametrize("lane", ["newest", "oldest"])
def test_torch_stays_unless_its_cpu_build_may_be_looked_for(lane, switch, tmp_path, monkeypatch):
    ran: list[tuple[tuple[str, ...], str]] = []
    monkeypatch.setenv("TORCH", switch)
    monkeypatch.setattr(lanes, "run", lambda *command, text="": ran.append((command, text)))
    monkeypatch.setattr(lanes, "oldest", lambda: {"numpy": "==2.0.0", "torch": "==2.6.0"})
    lanes.prepare(lane, tmp_path)
    (_, *before, (command, pins)) = ran
    locked = f"torch=={lock.TORCH}"
    torch = {"newest": [], "oldest": ["torch==2.6.0"]}[lane] if switch else [locked]
    assert pins.split() == [*["numpy==2.0.0"] * (lane == "oldest"), *torch]
    assert ("--torch-backend=cpu" in command) == bool(switch)
    assert [each[0][-1] for each in before] == [locked] * (not switch)
