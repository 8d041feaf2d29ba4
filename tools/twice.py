"""Execute notebooks a second time, outside the cache, and compare every figure exactly.

The records of the first run lie in ``_build/checks``. A figure that is not the same to the last
digit fails, unless its check says why it varies (``varies="timing"``).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat

from tools import baselines, execute
from tools.cache import CHECKS, alone


def differences(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[str]:
    """Return a line for each check whose figure is not the same in both runs and may not vary."""
    exact = [one | {"drift": None if one.get("varies") else 0.0} for one in second]
    return baselines.differences(exact, first)


def twice(paths: list[Path], *, jobs: int) -> int:
    """Execute the notebooks once more and compare; return 0 if they gave the same figures."""
    failed = 0
    with alone(), tempfile.TemporaryDirectory(prefix="handbook-twice-") as scratch:
        execute.run(paths, Path(scratch), execute.require_memory(paths, jobs))
        for path in paths:
            copy = nbformat.read(Path(scratch) / path.name, nbformat.NO_CONVERT)
            first, second = (
                baselines.load(folder, path.stem)["checks"]
                for folder in (CHECKS, Path(scratch) / "checks")
            )
            found = [problem] if (problem := execute.problem_of(copy)) else []
            found += differences(first, second) if second else ["it recorded no check"]
            varying = [f"{one['name']} ({one['varies']})" for one in first if one.get("varies")]
            print(f"{path.stem}: {len(second) - len(varying)} figures, {len(found)} differ")
            print("".join(f"  may vary: {one}\n" for one in varying), end="")
            for line in found:
                print(f"DIFFERS {path.stem}: {line}", file=sys.stderr)
            failed += bool(found)
    return int(failed > 0)


def main(arguments: list[str] | None = None) -> int:
    """Execute all notebooks, or those named, a second time."""
    parser = argparse.ArgumentParser(prog="python -m tools.twice", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="chapter", help="such as 10-imdb; default: all")
    paths = execute.chapters_named(parser, parser.parse_args(arguments).names)
    paths.sort(key=execute.seconds_before, reverse=True)
    return twice(paths, jobs=os.cpu_count() or 1)


if __name__ == "__main__":
    sys.exit(main())
