"""What was broken on purpose, and what happened: records of tests, kept and compared.

Each test of a fault calls :func:`record` once it has seen that all is well. From these records
the book makes its table of faults. ``tests/baselines/faults.json`` keeps those of the last run
that somebody looked at; ``make test`` fails when a fault came out differently, is new, or is no
longer tried. ``make faults`` tries all of them and refreshes that file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from typing import Any

from tools.cache import BUILD, ROOT, write

RECORDS = BUILD / "faults"
BASELINE = ROOT / "tests" / "baselines" / "faults.json"
# How many moments and cases there are depends a little on the versions of Python and libraries.
FEWER = 0.8

# The sections of the page, in its order.
AREAS = (
    "Killed",
    "Disk and memory",
    "Damaged files",
    "Two at once",
    "Place, clock and language",
    "No network",
    "Bad input",
)


def record(area: str, fault: str, happened: str, *, cases: int = 1) -> None:
    """Note that ``fault`` was tried in so many ``cases``, and what ``happened`` each time.

    Raises:
        ValueError: ``area`` is none of :data:`AREAS`.
    """
    _write({"area": area, "fault": fault, "happened": happened, "cases": cases})


def skip(area: str, fault: str, reason: str) -> None:
    """Note that ``fault`` cannot be tried on this machine, and why.

    Raises:
        ValueError: ``area`` is none of :data:`AREAS`.
    """
    _write({"area": area, "fault": fault, "skipped": reason})


def load() -> list[dict[str, Any]]:
    """Return a record for each fault in the order of the page: the last run's where there is one.

    A fault that was not tried here, or could not be, is the one of the committed file.
    """
    known = {one["fault"]: one for one in kept()}
    known |= {one["fault"]: one for one in tried() if "skipped" not in one}
    return sorted(known.values(), key=_order)


def kept() -> list[dict[str, Any]]:
    """Return the records of the committed file."""
    return json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else []


def tried() -> list[dict[str, Any]]:
    """Return the records of the last run."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in RECORDS.glob("*.json")]
    return sorted(found, key=_order)


def compare() -> int:
    """Print every fault and every difference from the committed file; return 1 if there are any."""
    before, after = ({one["fault"]: one for one in some} for some in (kept(), tried()))
    differences = [f"{fault}: no longer tried" for fault in before if fault not in after]
    for fault, one in after.items():
        if "skipped" in one:
            print(f"  - {fault}: not tried here, {one['skipped']}")
            continue
        print(f"  ✓ {fault}: {one['happened']} ({one['cases']})")
        old = before.get(fault)
        if old is None or (one["area"], one["happened"]) != (old["area"], old["happened"]):
            differences.append(f"{fault}: new or changed, was {old and old['happened']}")
        elif one["cases"] < FEWER * old["cases"]:
            differences.append(f"{fault}: tried {one['cases']} times, was {old['cases']}")
    for line in differences:
        print(f"DRIFT faults: {line}", file=sys.stderr)
    if differences:
        print("If this is meant: make faults, and commit the difference.", file=sys.stderr)
    return 1 if differences else 0


def refresh() -> int:
    """Write the last run's records to the committed file; keep what could not be tried here."""
    compare()
    here = {one["fault"] for one in tried()}
    content = sorted((one for one in load() if one["fault"] in here), key=_order)
    write(BASELINE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(content)} faults in {BASELINE}")
    return 0


def _order(one: dict[str, Any]) -> tuple[int, str]:
    return AREAS.index(one["area"]), one["fault"]


def _write(content: dict[str, Any]) -> None:
    if content["area"] not in AREAS:
        raise ValueError(f"area is {content['area']!r}; expected one of {', '.join(AREAS)}")
    name = hashlib.sha256(content["fault"].encode()).hexdigest()[:12]
    RECORDS.mkdir(parents=True, exist_ok=True)
    write(RECORDS / f"{name}.json", json.dumps(content, ensure_ascii=False) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Clear the records, compare them with the committed file, or write that."""
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    parser.add_argument("command", choices=["clear", "compare", "refresh"])
    command = parser.parse_args(arguments).command
    if command == "clear":
        shutil.rmtree(RECORDS, ignore_errors=True)
        return 0
    return compare() if command == "compare" else refresh()


if __name__ == "__main__":
    sys.exit(main())
