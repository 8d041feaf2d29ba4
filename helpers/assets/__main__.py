"""The command: list the assets, fetch them, verify them."""

from __future__ import annotations

import argparse
import io
import sys

from helpers import memory
from helpers.assets.cache import (
    VARIABLE,
    AssetError,
    NpmMissing,
    cache_folder,
    fetch,
    find,
    problems,
    reading,
)
from helpers.assets.entries import ASSETS
from helpers.sealed import MANIFEST


def main(arguments: list[str] | None = None) -> int:
    """List, fetch or verify the assets; return 0 when all is well."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.assets",
        description="The models and data sets of the handbook: list, fetch, verify.",
    )
    parser.add_argument("command", nargs="?", default="list", choices=["list", "fetch", "verify"])
    parser.add_argument("names", nargs="*", metavar="name", help="default: all of them")
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that knows only ASCII
    unknown = [name for name in options.names if name not in ASSETS]
    if unknown:
        parser.error(f"no asset is called {unknown[0]!r}; there are {', '.join(ASSETS)}")
    names = options.names or [asset.name for asset in ASSETS.values() if asset.container]
    try:
        if options.command == "list":
            return _list(options.names or list(ASSETS))
        if options.command == "verify":
            return _verify(names)
        return _fetch(names, leave_out=not options.names)
    except (AssetError, memory.NotEnoughMemory) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1


@reading()
def _list(names: list[str]) -> int:
    rows = [("name", "kind", "source", "MB", "cached", "licence")]
    for asset in map(find, names):
        source = (asset.hub_id, "", "on the Hub")
        if package := asset.container:
            folder = cache_folder() / asset.name
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            cached = f"{size / 1e6:.0f} MB" if (folder / MANIFEST).is_file() else "no"
            source = (package.requirement, str(package.megabytes), cached)
        rows.append((asset.name, asset.kind, *source, asset.licence))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())
    print(f"\nCache: {cache_folder()} (set {VARIABLE} to move it)")
    return 0


def _fetch(names: list[str], *, leave_out: bool) -> int:
    """Fetch ``names``; with ``leave_out``, go on without what a missing npm would have fetched."""
    for name in names:
        try:
            fetch(name)
        except NpmMissing as problem:
            if not leave_out:
                raise
            print(f"{name}: left out. {problem}", file=sys.stderr)
        else:
            print(f"{name}: ready in {cache_folder() / name}")
    return 0


def _verify(names: list[str]) -> int:
    status = 0
    for name in names:
        found = problems(name)
        print(f"{name}: {' '.join(found) or 'every SHA-256 agrees'}")
        status |= bool(found)
    if status:
        print("Run `python -m helpers.assets fetch` to mend this.", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
