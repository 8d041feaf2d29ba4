"""Compare the checks of the last run with the committed baselines, or refresh those.

A figure that moved by more than the check's own ``drift``, a check that vanished, and one that
is new all make the comparison fail, so that no figure changes without being seen.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat

from helpers import sealed
from helpers.assets import ASSETS, Tarball
from tools.cache import CHECKS, ROOT, notebooks

BASELINES = ROOT / "tests" / "baselines"
KEPT = ("name", "kind", "value", "bound", "drift")
# How a cell begins whose checks are made only with this asset.
ONLY_WITH = re.compile(r'if "([\w-]+)" in assets\.used\(\):\n')


def load(folder: Path, chapter: str) -> dict[str, Any]:
    """Return the records of ``chapter`` in ``folder``; without a file, an empty set."""
    path = folder / f"{chapter}.json"
    return (
        json.loads(path.read_text(encoding="utf-8"))
        if path.exists()
        else {"chapter": chapter, "checks": []}
    )


def differences(now: list[dict[str, Any]], baseline: list[dict[str, Any]]) -> list[str]:
    """Return a line for each check that moved beyond its drift, vanished, or is new."""
    found = []
    before = {check["name"]: check for check in baseline}
    for check in now:
        name, value, drift = check["name"], check["value"], check["drift"]
        old = before.pop(name, None)
        if old is None:
            found.append(f"{name}: new, no baseline yet (now {value})")
        elif (old["kind"], old["bound"]) != (check["kind"], check["bound"]):
            found.append(
                f"{name}: the claim changed from {old['kind']} {old['bound']} "
                f"to {check['kind']} {check['bound']}"
            )
        elif moved(value, old["value"], drift):
            found.append(f"{name}: was {old['value']}, is {value}, may move by {drift}")
    return found + [f"{name}: no longer checked" for name in before]


def moved(value: Any, baseline: Any, drift: float | None) -> bool:
    """Say whether a value left the range that its drift allows; None allows any."""
    if drift is None:
        return False
    if isinstance(value, (int, float)) and isinstance(baseline, (int, float)):
        return not abs(value - baseline) <= drift
    return value != baseline


def without_npm(chapter: str, records: dict[str, Any]) -> set[str]:
    """Return the names of the checks that a run left out for want of npm; CI always has it."""
    if shutil.which("npm") or os.environ.get("CI"):
        return set()
    by_npm = {name for name, asset in ASSETS.items() if isinstance(asset.container, Tarball)}
    gone, found = by_npm - set(records.get("assets", ())), set()
    for path in (path for path in notebooks() if path.stem == chapter):
        for cell in nbformat.read(path, nbformat.NO_CONVERT).cells:
            if (begins := ONLY_WITH.match(cell.source)) and begins[1] in gone:
                parts = ast.walk(ast.parse(cell.source).body[0])
                found |= {part.value for part in parts if isinstance(part, ast.Constant)}
    return found


def compare(chapters: list[str], first_run: Path | None = None) -> int:
    """Print every check and every difference from the baselines; return 1 if there are any.

    With ``first_run``, a folder of records, every figure must be exactly what it is there.
    """
    total, found = 0, []
    for chapter in chapters:
        records = load(CHECKS, chapter)
        profile = records.get("profile", "small")
        print(f"\n{chapter} ({profile} profile)")
        for check in records["checks"]:
            print(f"  ✓ {check['name']}: {check['shown']}")
        total += len(records["checks"])
        if profile != "small":
            print("  baselines hold for the small profile only, not compared")
            continue
        now = records["checks"]
        if first_run:  # no room to drift, unless a check says why it varies
            now = [check | {"drift": None if check.get("varies") else 0.0} for check in now]
        expected = load(first_run or BASELINES, chapter)["checks"]
        if left_out := without_npm(chapter, records):
            before = len(expected)
            expected = [check for check in expected if check["name"] not in left_out]
            print(f"  {before - len(expected)} checks left out, whose data npm would fetch")
        found += [f"{chapter}: {line}" for line in differences(now, expected)]
    for path in sorted(BASELINES.glob("*.json")):
        if path.stem not in chapters and not first_run:
            found.append(f"{path.stem}: a baseline without a chapter")
    kept = "first run" if first_run else "baselines"
    print(f"\n{total} checks, {len(found) or 'no'} drift from the {kept}", flush=True)
    for line in found:
        print(f"DRIFT {line}", file=sys.stderr)
    if found and not first_run:
        print("If this is meant: make baselines, and commit the difference.", file=sys.stderr)
    return int(bool(found))


def refresh(chapters: list[str]) -> int:
    """Write the last run's figures as baselines, showing what changes."""
    BASELINES.mkdir(parents=True, exist_ok=True)
    for path in BASELINES.glob("*.json"):
        if path.stem not in chapters:
            path.unlink()
            print(f"{path.stem}: removed, there is no such chapter")
    for chapter in chapters:
        records = load(CHECKS, chapter)
        if records.get("profile") != "small":
            print(f"{chapter}: not run in the small profile, left as it is")
            continue
        if without_npm(chapter, records):
            print(f"{chapter}: npm, which fetches some of its data, is missing; left as it is")
            continue
        changes = differences(records["checks"], load(BASELINES, chapter)["checks"])
        print(f"{chapter}: {len(changes) or 'no'} differences", *changes, sep="\n  ")
        content = {
            "chapter": chapter,
            "versions": records["versions"],
            "memory_gib": records.get("memory_gib"),
            # Rounded up: it only says which chapter is begun first.
            "seconds": 10 * math.ceil((records.get("execution_seconds") or 1) / 10),
            "checks": [{key: check[key] for key in KEPT} for check in records["checks"]],
        }
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        sealed.write(BASELINES / f"{chapter}.json", text)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Compare, or with ``refresh`` write, the baselines."""
    parser = argparse.ArgumentParser(prog="python -m tools.baselines", description=__doc__)
    parser.add_argument("command", choices=["compare", "refresh"])
    first_run = "compare what ran just now with the records in FOLDER, to the last digit"
    parser.add_argument("--first-run", type=Path, metavar="FOLDER", help=first_run)
    options = parser.parse_args(arguments)
    sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that knows only ASCII
    chapters = [path.stem for path in notebooks()]
    if options.command == "refresh":
        return refresh(chapters)
    if options.first_run:
        chapters = sorted(path.stem for path in CHECKS.glob("*.json"))
    return compare(chapters, options.first_run)


if __name__ == "__main__":
    sys.exit(main())
