"""Execute notebooks a second time, outside the cache, and compare every figure exactly.

The records of the first run lie in ``_build/checks``. A figure that is not the same to the last
digit fails, unless its check says why it varies (``varies="timing"``).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat

from tools import execute
from tools.baselines import load
from tools.cache import CHECKS, alone, notebooks


def differences(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[str]:
    """Return a line for each check whose figure is not the same in both runs and may not vary."""
    before, after = ({one["name"]: one for one in records} for records in (first, second))
    found = [f"{name}: recorded in one run only" for name in before.keys() ^ after.keys()]
    for name in before.keys() & after.keys():
        values = [json.dumps(one[name]["value"]) for one in (before, after)]
        if values[0] != values[1] and not before[name].get("varies"):
            found.append(
                f"{name}: {values[0]}, then {values[1]}; if it must vary, varies= says why"
            )
    return sorted(found)


def twice(paths: list[Path], *, jobs: int = 1) -> int:
    """Execute the notebooks once more and compare; return 0 if they gave the same figures."""
    status = 0
    with alone(), tempfile.TemporaryDirectory(prefix="handbook-twice-") as scratch:
        execute.require_memory(paths, jobs)
        log = execute.run(paths, Path(scratch), jobs)
        for path in paths:
            copy = nbformat.read(Path(scratch) / path.name, nbformat.NO_CONVERT)
            if problem := execute.problem_of(copy):
                print(f"FAILED {path.stem}: {problem}\n{log[-2000:]}", file=sys.stderr)
                status = 1
                continue
            first = load(CHECKS, path.stem)["checks"]
            second = load(Path(scratch) / "checks", path.stem)["checks"]
            found = differences(first, second)
            varying = [f"{one['name']} ({one['varies']})" for one in first if one.get("varies")]
            print(f"{path.stem}: {len(second) - len(varying)} figures, {len(found)} differ")
            print("".join(f"  may vary: {one}\n" for one in varying), end="")
            for line in found:
                print(f"DIFFERS {path.stem}: {line}", file=sys.stderr)
            status |= bool(found) or not second
    return status


def main(arguments: list[str] | None = None) -> int:
    """Execute all notebooks, or those named, a second time."""
    parser = argparse.ArgumentParser(prog="python -m tools.twice", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="chapter", help="such as 08-imdb; default: all")
    names = parser.parse_args(arguments).names
    known = {path.stem: path for path in notebooks()}
    for name in names:
        if name not in known:
            parser.error(f"no chapter is called {name!r}; there are {', '.join(known)}")
    chosen = [known[name] for name in names] or list(known.values())
    for path in chosen:
        if not (CHECKS / f"{path.stem}.json").is_file():
            parser.error(f"{path.stem} has no first run: make twice, or python -m tools.execute")
    return twice(chosen)


if __name__ == "__main__":
    sys.exit(main())
