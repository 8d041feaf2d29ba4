"""The house stays small: imports go downwards, and every file fits into a reader's head."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 300
# From the ground up: a room imports from rooms that stand before it, never from later ones.
ROOMS = [
    "sealed", "memory", "shapes", "profiles", "metrics", "assets", "checks", "plots", "show",
    "attention", "explorer", "tokenizer_explorer", "transformer", "marian", "subwords",
    "pretraining", "finetuning", "classification", "parallel_corpus",
]  # fmt: skip


def files() -> list[Path]:
    parts = ("helpers", "tools", "book/_extensions")
    return [path for part in parts for path in sorted((ROOT / part).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """The modules of this repository that a file imports, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("helpers", "tools", "tests")}


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def test_every_file_fits_into_a_readers_head():
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in files()
    }
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


@pytest.mark.parametrize("path", sorted((ROOT / "helpers").rglob("*.py")), ids=lambda p: p.stem)
def test_helpers_import_only_downwards(path):
    parts = path.relative_to(ROOT / "helpers").with_suffix("").parts
    if parts == ("__init__",):
        assert not imports(path)
        return
    assert parts[0] in ROOMS, f"a new room: put {parts[0]} into its place in ROOMS"
    below = ROOMS[: ROOMS.index(parts[0])]
    for name in imports(path):
        assert name.startswith("helpers"), f"helpers import {name}"
        assert room(name) in ("", *below, parts[0]), f"{path} imports {name}, which stands above"


def test_no_room_is_its_own_ground():
    """Within a package, too, no file imports one that imports it, at any distance."""
    every = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): imports(path)
        for path in (ROOT / "helpers").rglob("*.py")
        if path.stem != "__init__"
    }
    graph = {name: found & every.keys() for name, found in every.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
